"""Networks of transformers: built for the task, searched by surgery, never downloaded."""

import json
import sys

import pytest
import torch

from nasframe.core import Task, derived, generator_for, networks, sample, supernet
from nasframe.errors import FormatError, UnsupportedError
from nasframe.networks.hugging_face import HuggingFace
from nasframe.spaces.surgery import Rule, Surgery

IMAGES = Task((2, 16, 16), 5)
TEXTS = Task((6,), 3, vocabulary=11)
RESNET = {"hidden_sizes": (4, 8), "depths": (1, 1), "embedding_size": 4, "layer_type": "basic"}
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnsupportedError, match=r"pip install nasframe\[transformers\]"):
        HuggingFace(IMAGES, architecture="resnet")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="needs nasframe[transformers]")


def _resnet():
    return HuggingFace(IMAGES, architecture="resnet", config=RESNET)


def _bert(task=TEXTS):
    return HuggingFace(task, architecture="bert", config=BERT)


def test_a_classifier_of_images_takes_channels_and_size_and_returns_a_row_of_logits(transformers):
    network = _resnet().eval()
    x = torch.randn(3, 2, 16, 16)
    assert network(x).shape == (3, 5)
    assert torch.equal(network(x), network.model(pixel_values=x).logits)


def test_a_classifier_of_text_looks_past_what_fills_a_text_up(transformers):
    torch.manual_seed(0)
    network = _bert().eval()
    texts = torch.tensor([[5, 9, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        filled, bare = network(texts), network(texts[:, :3])
    assert filled.shape == (2, 3)
    torch.testing.assert_close(filled[0], bare[0])
    assert filled.isfinite().all()  # of an empty text too


@pytest.mark.parametrize(
    ("make", "rule", "task"),
    [
        (
            networks.component("hugging_face", architecture="resnet", config=RESNET),
            Rule(
                "model.resnet.encoder.stages.*.layer.1.convolution",
                ("original", "sep_conv_3x3", "skip_connect"),
            ),
            IMAGES,
        ),
        (
            networks.component("hugging_face", architecture="bert", config=BERT),
            Rule("model.bert.encoder.layer.*.intermediate.dense", ("original", "gated")),
            TEXTS,
        ),
    ],
    ids=["images", "text"],
)
def test_its_layers_are_searched_by_surgery(transformers, make, rule, task):
    space = Surgery(task, network=make, rules=(rule,))
    model = supernet(space, "softmax")
    assert all(choice.candidates == rule.choices for choice in model.choices.values())
    loss = model(task.blank(2)).sum()
    loss.backward()
    assert all(alpha.grad is not None for alpha in model.parameters_of("alpha"))
    network = derived(space, sample(space, generator_for(0, "here"))).eval()
    assert network(task.blank(2)).shape == (2, task.num_outputs)


@pytest.fixture(scope="module")
def folder(transformers, tmp_path_factory):
    """A model of eight classes, as its library saves it, and its weights."""
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    saved = HuggingFace(Task((2, 16, 16), 8), architecture="resnet", config=RESNET).model
    saved.save_pretrained(path)
    return path, saved.state_dict()


def test_a_folder_gives_the_configuration_and_where_that_is_asked_for_the_weights_but_the_head(folder):
    path, saved = folder
    torch.manual_seed(2)
    found = HuggingFace(IMAGES, folder=path, pretrained=True).model.state_dict()
    new = HuggingFace(IMAGES, folder=path).model.state_dict()
    assert found.keys() == new.keys() == saved.keys()
    body = [name for name in saved if name.startswith("resnet.")]
    assert all(torch.equal(found[name], saved[name]) for name in body)
    assert not all(torch.equal(new[name], saved[name]) for name in body)
    assert found["classifier.1.weight"].shape == (5, 8)


def test_weights_are_not_read_where_nothing_has_numbers(folder):
    with torch.device("meta"):
        network = HuggingFace(IMAGES, folder=folder[0], pretrained=True)
    assert all(parameter.is_meta for parameter in network.parameters())


def test_weights_that_do_not_fit_the_data_are_refused(folder):
    with pytest.raises(FormatError, match=r"weights of the shapes that the model has for these data"):
        HuggingFace(Task((3, 16, 16), 8), folder=folder[0], pretrained=True)


def test_code_that_a_folder_names_is_not_run(folder, tmp_path):
    content = json.loads((folder[0] / "config.json").read_text())
    content["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "evil.py").write_text("raise SystemExit('code was run')")
    assert HuggingFace(IMAGES, folder=tmp_path)(IMAGES.blank(2)).shape == (2, 5)


@pytest.mark.parametrize("text", [None, "[]", "{}", '{"model_type": 3}', '{"model_type": NaN}'])
def test_a_folder_without_a_configuration_is_refused(transformers, tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(FormatError, match=r"config\.json: must be"):
        HuggingFace(IMAGES, folder=tmp_path)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (IMAGES, {}, "must have either `architecture`, or `folder`"),
        (IMAGES, {"architecture": "resnet", "pretrained": True}, "must have either"),
        (IMAGES, {"architecture": "resnett"}, "did you mean `resnet`"),
        (IMAGES, {"architecture": "resnet", "config": {"depth": (1,)}}, "did you mean `depths`"),
        (IMAGES, {"architecture": "resnet", "config": {"_name_or_path": "x"}}, "got `_name_or_path`"),
        (IMAGES, {"architecture": "resnet", "config": {"layer_type": "other"}}, "must make a `resnet`, but"),
        (IMAGES, {"architecture": "bert"}, "must be a classifier of images"),
        (TEXTS, {"architecture": "resnet"}, "must be a classifier of text"),
        (Task((7,), 2), {"architecture": "resnet"}, r"inputs must be images .* or tokens"),
    ],
)
def test_what_cannot_be_built_is_refused(transformers, task, settings, message):
    with pytest.raises(UnsupportedError, match=message):
        HuggingFace(task, **settings)
