"""Folders that a network is loaded from: the same bits, or one clear error."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import nasframe
from nasframe.core import (
    AsGiven,
    Dataset,
    Objective,
    datasets,
    derived,
    generator_for,
    networks,
    objectives,
    sample,
    spaces,
)
from nasframe.core.tensor_file import save_weights
from nasframe.errors import DataError, FormatError, UnsupportedError
from nasframe.recipe.model_folder import describe
from nasframe.types import Metrics

SPACE = spaces.component(
    "darts", channels=2, cells=3, nodes=1, operations=("none", "skip_connect", "sep_conv_3x3")
)
OBJECTIVE = objectives.component("cross_entropy")


def small_data(**settings: Any) -> Dataset:
    return datasets["synthetic"](num_train=8, num_test=8, num_classes=3, height=8, width=8, **settings)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A folder, normalized inputs, and what the network in it returns for them."""
    torch.manual_seed(0)
    data, folder = small_data(), tmp_path_factory.mktemp("model")
    space = spaces["darts"](data.task, **SPACE.settings)
    genotype = sample(space, generator_for(1))
    network = derived(space, genotype)
    network(torch.randn(16, 3, 8, 8))  # so that the batch norms have statistics of their own
    network.eval()
    (folder / "config.json").write_text(json.dumps(describe("tiny", data, SPACE, OBJECTIVE, genotype)))
    save_weights(network.state_dict(), folder / "model.safetensors")
    inputs = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        return folder, inputs, network(inputs)


@pytest.fixture
def folder(written: tuple[Path, Any, Any], tmp_path: Path) -> Path:
    """A copy that may be broken."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((written[0] / name).read_bytes())
    return tmp_path


def test_a_network_is_loaded_bit_for_bit(written: tuple[Path, torch.Tensor, torch.Tensor]) -> None:
    folder, inputs, outputs = written
    model = nasframe.load(folder)
    assert not any(each.training for each in model.network.network.modules())
    with torch.no_grad():
        assert torch.equal(model.network(inputs), outputs)


def test_probabilities_are_the_softmax_of_what_the_network_makes_of_normalized_inputs(folder: Path) -> None:
    data, model = small_data(), nasframe.load(folder)
    raw = data.test.batch(torch.arange(8)).inputs
    images = raw.double() / 255
    train = data.train.batch(torch.arange(8)).inputs.double() / 255
    mean, std = train.mean((0, 2, 3)), train.std((0, 2, 3), correction=0)
    normalized = ((images - mean[:, None, None]) / std[:, None, None]).float()
    with torch.no_grad():
        logits = model.network(normalized).double()
    expected = logits.exp() / logits.exp().sum(1, keepdim=True)
    torch.testing.assert_close(model.probabilities(raw).double(), expected, atol=1e-5, rtol=1e-4)


def test_a_network_that_no_file_can_be_shown_to_says_so(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    inside("preprocessing", "reader", value=None)(config)
    (folder / "config.json").write_text(json.dumps(config))
    Image.new("RGB", (8, 8)).save(folder / "black.png")
    with pytest.raises(UnsupportedError, match="must say how a file becomes an input, but does not"):
        nasframe.load(folder).predict([folder / "black.png"])


@pytest.mark.parametrize("scaled", [False, True])
def test_outputs_that_are_numbers_are_told_as_the_data_have_them(folder: Path, scaled: bool) -> None:
    config = json.loads((folder / "config.json").read_text())
    inside("objective", value="mean_squared_error")(config)
    scale = {"names": ["x", "y", "z"], "means": [0.5, 1e9, 3.0], "deviations": [2.0, 1.0, 0.25]}
    if scaled:
        inside("targets", value=scale)(config)
    (folder / "config.json").write_text(json.dumps(config))
    Image.new("RGB", (8, 8)).save(folder / "black.png")
    model = nasframe.load(folder)
    (found,) = model.predict([folder / "black.png"])
    outputs = model.outputs(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))[0].tolist()
    expected = {"x": 2 * outputs[0] + 0.5, "y": outputs[1] + 1e9, "z": outputs[2] / 4 + 3}
    assert found.classes == ()
    assert dict(found.numbers) == pytest.approx(
        expected if scaled else dict(zip("012", outputs, strict=True)), rel=1e-12
    )
    with pytest.raises(UnsupportedError, match="outputs must be of classes, but the objective MeanSquared"):
        model.probabilities(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


class Unspoken(Objective):
    """Says nothing of what outputs mean."""

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return (outputs - targets).abs().mean()

    def metrics(self, outputs: Any, targets: Any) -> Metrics:
        return {}


def test_outputs_that_nobody_knows_the_meaning_of_are_not_predicted(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "black.png")
    model = replace(nasframe.load(folder), objective=Unspoken())
    with pytest.raises(UnsupportedError, match="of classes, or numbers, but the objective Unspoken says"):
        model.predict([folder / "black.png"])
    with pytest.raises(UnsupportedError, match="must be numbers, but the objective Unspoken has none"):
        model.numbers(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_classes_without_names_are_numbered_and_a_file_that_cannot_be_read_ends_a_prediction(
    folder: Path,
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "classes": []}))
    Image.new("RGB", (8, 8)).save(folder / "black.png")
    (found,) = nasframe.load(folder).predict([folder / "black.png"], top=9)
    assert {name for name, _ in found.classes} == {"0", "1", "2"}
    assert sum(share for _, share in found.classes) == pytest.approx(1)
    with pytest.raises(DataError, match="absent: must be a file or a folder"):
        nasframe.load(folder).predict([folder / "black.png", folder / "absent"])


def changed(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config.update(changes)

    return change


def inside(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *above, last = path
        for key in above:
            config = config[key]
        config[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(format="other"), "must be an object with format `nasframe.model`"),
        (changed(version=2), "version must be 1, got 2"),
        (changed(version=True), "version must be 1, got True"),
        (changed(code="import os"), "code: the description has no such setting"),
        (changed(classes=["a", "b"]), "classes must be 3 names, as task.num_outputs says, or none, got 2"),
        (changed(genotype=None), "genotype: must be an object"),
        (changed(genotype=[]), "genotype: must be an object"),
        (inside("genotype", "choices", value={}), "must describe .* choice `normal_2` must keep"),
        (
            inside("genotype", "choices", value={"normal_2": ["__import__('os')"]}),
            "must describe .* choice `normal_2` must keep",
        ),
        (inside("space", "type", value="os.system"), "space.type: must be one of the spaces"),
        (inside("space", "channels", value="2"), "space.channels: must be"),
        (inside("space", "chanels", value=2), "space.chanels: `darts` has no such setting"),
        (inside("objective", value="mean_cube"), "objective.type: must be one of the objectives"),
        (inside("task", "num_outputs", value=0), "task.num_outputs: must be"),
        (inside("task", "input_shape", value=[3, -8, 8]), "task.input_shape"),
        (inside("task", value=7), "task: must be a mapping, got 7"),
        (inside("preprocessing", "mean", value=[0.5]), "must have a mean and a std for each of 3 channels"),
        (inside("preprocessing", "std", value=[0.5, 0.0, 0.5]), "preprocessing.std"),
        (inside("targets", "names", value=["a", "b", "c"]), "targets must have a name, a mean and a dev"),
        (inside("targets", "deviations", value=[1.0, 0.0, 1.0]), "targets.deviations"),
        (
            inside("preprocessing", "reader", value={"type": "image"}),
            "preprocessing.reader.height: must be given",
        ),
    ],
)
def test_a_config_that_is_none_is_refused_by_name(
    folder: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=message) as caught:
        nasframe.load(folder)
    assert str(caught.value).startswith(str(folder))


@pytest.mark.parametrize("text", ["", "[]", "null", '{"format": NaN}', "{" * 200, '{"a": 1, "a": 2}', "\xff"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=r"config\.json: must be"):
        nasframe.load(folder)


def test_memory_is_taken_only_for_a_network_that_the_weights_are_of(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["space"]["channels"] = 10**7  # a convolution alone would take terabytes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=r"model\.safetensors: must hold the tensors of the network"):
        nasframe.load(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}  # which lie in the file
    for content in (b"", path.read_bytes()[:-1], b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"model\.safetensors: must be a safetensors file"):
            nasframe.load(folder)
    name = next(iter(weights))
    save_file({each: tensor for each, tensor in weights.items() if each != name}, path)
    with pytest.raises(FormatError, match=f"`{name}` must be .* got none"):
        nasframe.load(folder)
    save_file({**weights, "more": torch.zeros(1)}, path)
    with pytest.raises(FormatError, match="`more` must be absent"):
        nasframe.load(folder)
    path.unlink()
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        nasframe.load(folder)


@pytest.mark.parametrize("there", [True, False])
def test_what_is_no_folder_of_a_network_is_refused(tmp_path: Path, there: bool) -> None:
    path = tmp_path if there else tmp_path / "absent"
    with pytest.raises(
        FormatError, match=r"no recipe\.yaml; a model folder" if there else "there is nothing at"
    ):
        nasframe.load(path)


def test_what_needs_files_elsewhere_is_not_described(tmp_path: Path) -> None:
    network = networks.component("hugging_face", folder=tmp_path)
    surgery = spaces.component("surgery", network=network, rules=())
    with pytest.raises(UnsupportedError, match=f"must not need files elsewhere, .* names {tmp_path}"):
        describe("tiny", small_data(), surgery, OBJECTIVE, nasframe.Genotype())


class Halving:
    def scale(self, inputs: Any) -> Any:
        return inputs / 2

    def normalize(self, inputs: Any) -> Any:
        return inputs


def test_preprocessing_of_ones_own_is_not_described() -> None:
    data = small_data()
    own = Dataset(data.train, data.test, data.task, Halving(), data.class_names)
    with pytest.raises(UnsupportedError, match=r"must be NormalizeImages or AsGiven .* is a Halving"):
        describe("tiny", own, SPACE, OBJECTIVE, nasframe.Genotype())
    plain = Dataset(data.train, data.test, data.task, AsGiven(), data.class_names)
    assert describe("tiny", plain, SPACE, OBJECTIVE, nasframe.Genotype())["preprocessing"]["mean"] == []
