"""The blueprint of the space mobile, and the JSON of published networks."""

import copy
import json

import pytest
import torch
from torch import nn

from nasframe.core import Genotype, Task, choices_of, derived, supernet
from nasframe.errors import FormatError, UnsupportedError
from nasframe.spaces.mobile import Mobile

TASK = Task((3, 16, 16), 5)
BLOCKS = ("mb_k3_e3", "mb_k3_e6", "mb_k5_e3", "mb_k5_e6", "mb_k7_e3", "mb_k7_e6")


def _tiny(**settings):
    small = {"widths": (4, 6), "depths": (2, 1), "strides": (2, 1), "stem_channels": 4, "first_channels": 3}
    return Mobile(TASK, **{**small, "features": 8, **settings})


def test_defaults_are_the_21_searched_layers_of_the_paper():
    choices = choices_of(Mobile(Task((3, 224, 224), 1000)))
    assert list(choices) == [f"layer_{index}" for index in range(21)]
    with_skip = [index for index, c in enumerate(choices.values()) if "skip_connect" in c.candidates]
    changing = {0, 4, 8, 12, 16, 20}  # the first layer of each stage changes the channels
    assert with_skip == [index for index in range(21) if index not in changing]
    assert {choice.candidates[:6] for choice in choices.values()} == {BLOCKS}


@pytest.mark.parametrize(("stem", "size"), [("imagenet", 8), ("cifar", 16)])
def test_the_stem_halves_the_map_or_not(stem, size):
    space = _tiny(stem=stem)
    genotype = Genotype({"layer_0": ("mb_k5_e3",), "layer_1": ("skip_connect",), "layer_2": ("mb_k3_e6",)})
    network = derived(space, genotype).network
    x = torch.randn(2, 3, 16, 16)
    modules = (network.stem, network.first, *network.layers, network.head)
    shapes = [tuple((x := layer(x)).shape[1:]) for layer in modules]
    half = size // 2
    assert shapes == [
        (4, size, size),
        (3, size, size),
        (4, half, half),
        (4, half, half),
        (6, half, half),
        (5,),
    ]


def test_batch_norms_have_parameters_and_the_authors_epsilon():
    norms = [m for m in supernet(_tiny()).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.affine, norm.eps, norm.momentum) for norm in norms} == {(True, 1e-3, 0.1)}


def test_a_mixture_of_blocks_with_inner_shortcuts_is_the_authors_mixture_with_an_outer_one():
    torch.manual_seed(0)
    model = supernet(_tiny(operations=("mb_k3_e3", "mb_k5_e6", "skip_connect"))).double().eval()
    site, x = model.network.layers[1], torch.randn(2, 4, 5, 5, dtype=torch.float64)
    alpha = model.mixed_ops["layer_1"].alpha
    p = torch.softmax(alpha, 0)
    authors = x + p[0] * site.candidates[0].layers(x) + p[1] * site.candidates[1].layers(x)
    torch.testing.assert_close(site(x), authors, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(out.square().sum(), alpha)[0] for out in (site(x), authors))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (4,)}, "one item a stage, got 1, 2 and 2"),
        ({"widths": (), "depths": (), "strides": ()}, "one item a stage, got 0, 0 and 0"),
        ({"operations": ("skip_connect",)}, "one of them not `skip_connect`"),
        ({"operations": ("mb_k3_e3", "mb_k3_e3")}, "must be distinct"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings, message):
    with pytest.raises(UnsupportedError, match=message):
        _tiny(**settings)


def test_tasks_without_images_are_refused():
    with pytest.raises(UnsupportedError, match="space mobile: inputs must be images"):
        Mobile(Task((4,), 3))


def _conv(in_channels, out_channels, kernel_size, stride):
    return {
        "name": "ConvLayer", "kernel_size": kernel_size, "stride": stride, "dilation": 1, "groups": 1,
        "bias": False, "has_shuffle": False, "use_bn": True, "in_channels": in_channels,
        "out_channels": out_channels, "act_func": "relu6", "dropout_rate": 0, "ops_order": "weight_bn_act",
    }  # fmt: skip


def _block(in_channels, out_channels, kernel_size, stride, expansion):
    identity = {"name": "IdentityLayer", "use_bn": False, "act_func": None, "dropout_rate": 0}
    layer = {"name": "MBInvertedConvLayer", "in_channels": in_channels, "out_channels": out_channels}
    layer |= {"kernel_size": kernel_size, "stride": stride, "expand_ratio": expansion}
    shortcut = identity if stride == 1 and in_channels == out_channels else None
    return {"name": "MobileInvertedResidualBlock", "mobile_inverted_conv": layer, "shortcut": shortcut}


ZERO = _block(6, 6, 3, 1, 3) | {"mobile_inverted_conv": {"name": "ZeroLayer", "stride": 1}}
CONFIG = {
    "name": "ProxylessNASNets",
    "bn": {"momentum": 0.1, "eps": 0.002},
    "first_conv": _conv(1, 8, 3, 2),
    "feature_mix_layer": _conv(10, 20, 1, 1),
    "classifier": {
        "name": "LinearLayer", "in_features": 20, "out_features": 7, "bias": True, "use_bn": False,
        "act_func": None, "dropout_rate": 0,
    },
    "blocks": [
        _block(8, 4, 3, 1, 1), _block(4, 6, 5, 2, 3), ZERO, _block(6, 6, 7, 1, 6), _block(6, 10, 3, 1, 6),
    ],
}  # fmt: skip


def _read(config):
    return Mobile.from_config(json.dumps(config), image_size=32)


def test_a_published_network_is_read_as_a_space_and_a_genotype():
    space, genotype = _read(CONFIG)
    assert dict(genotype.choices) == {
        "layer_0": ("mb_k5_e3",),
        "layer_1": ("skip_connect",),
        "layer_2": ("mb_k7_e6",),
        "layer_3": ("mb_k3_e6",),
    }
    network = derived(space, genotype)
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert {m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.002}
    convolutions = [tuple(m.weight.shape) for m in network.modules() if isinstance(m, nn.Conv2d)]
    first = [(8, 1, 3, 3), (8, 1, 3, 3), (4, 8, 1, 1)]
    searched = [(12, 4, 1, 1), (12, 1, 5, 5), (6, 12, 1, 1), (36, 6, 1, 1), (36, 1, 7, 7), (6, 36, 1, 1)]
    last = [(36, 6, 1, 1), (36, 1, 3, 3), (10, 36, 1, 1), (20, 10, 1, 1)]
    assert convolutions == first + searched + last


def _changed(path, value):
    config = copy.deepcopy(CONFIG)
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return config


CONV = ("blocks", 1, "mobile_inverted_conv")


@pytest.mark.parametrize(
    ("path", "value", "error", "message"),
    [
        (("name",), "PyramidTreeNet", UnsupportedError, "PyramidNet"),
        (("name",), "SomethingElse", FormatError, "name must be `ProxylessNASNets`"),
        (("bn", "momentum"), 0.2, UnsupportedError, "momentum must be 0.1"),
        (("bn", "eps"), 0, FormatError, "`eps` must be a positive number"),
        (("first_conv", "act_func"), "relu", UnsupportedError, "act_func must be 'relu6'"),
        (("first_conv", "bias"), 0, UnsupportedError, "bias must be False"),
        (("first_conv", "groups"), True, UnsupportedError, "groups must be 1"),
        (("first_conv", "out_channels"), "8", FormatError, "`out_channels` must be a positive whole number"),
        (("first_conv", "out_channels"), 9, FormatError, r"blocks\[0\]: in_channels must be 9"),
        (("classifier", "in_features"), 21, FormatError, "in_features must be 20"),
        (("classifier", "dropout_rate"), 0.5, UnsupportedError, "dropout_rate must be 0"),
        (("feature_mix_layer", "in_channels"), 11, FormatError, "feature_mix_layer: in_channels must be 10"),
        (("blocks",), [], FormatError, "blocks must be at least 2"),
        (("blocks", 0), 3, FormatError, "must be an object"),
        (
            ("blocks", 0, "mobile_inverted_conv", "expand_ratio"),
            6,
            UnsupportedError,
            "expand_ratio must be 1",
        ),
        ((*CONV, "name"), "MixLayer", UnsupportedError, "must be a MobileNetV2 block or zero"),
        ((*CONV, "stride"), 3, UnsupportedError, "stride must be 1 or 2"),
        ((*CONV, "kernel_size"), 9, UnsupportedError, "kernel_size must be 3, 5 or 7"),
        ((*CONV, "expand_ratio"), 4, UnsupportedError, "expand_ratio 3 or 6"),
        ((*CONV, "in_channels"), 5, FormatError, "in_channels must be 4"),
        (("blocks", 2, "shortcut"), None, FormatError, "a zero layer has a shortcut"),
        (("blocks", 3, "shortcut"), None, FormatError, "has a shortcut must be True"),
        (("blocks", 3, "shortcut", "use_bn"), True, UnsupportedError, "use_bn must be False"),
    ],
)
def test_a_network_that_would_be_built_otherwise_is_refused_with_the_reason(path, value, error, message):
    with pytest.raises(error, match=message):
        _read(_changed(path, value))


@pytest.mark.parametrize("text", ["", "[", "[]", "null", '{"name": 1}', "[" * 100_000])
def test_what_is_no_such_json_is_refused(text):
    with pytest.raises(FormatError, match="proxyless config"):
        Mobile.from_config(text)


def test_reading_evaluates_nothing():
    with pytest.raises(FormatError):
        Mobile.from_config("__import__('os').getcwd()")
