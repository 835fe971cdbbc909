"""The blueprint of the space macro."""

import pytest
import torch
from torch import nn

from nasframe.core import Genotype, Task, choices_of, derived, supernet
from nasframe.errors import FormatError, UnsupportedError
from nasframe.spaces.macro import Macro

TASK = Task((3, 16, 16), 5)


def _tiny(**settings):
    return Macro(TASK, **{"channels": 2, "stages": (1, 2), "features": 8, **settings})


def test_defaults_have_eight_choices_of_three_blocks():
    choices = choices_of(Macro(Task()))
    assert list(choices) == [f"layer_{index}" for index in range(8)]
    assert {choice.candidates for choice in choices.values()} == {("identity", "mb_k3_e3", "mb_k5_e6")}


def test_each_stage_halves_the_map_and_doubles_the_channels():
    network = derived(_tiny(), _tiny().genotype("121")).network
    x = torch.randn(2, 3, 16, 16)
    shapes = [tuple((x := layer(x)).shape[1:]) for layer in (network.stem, *network.layers, network.head)]
    assert shapes == [(2, 16, 16), (4, 8, 8), (8, 4, 4), (8, 4, 4), (5,)]


def test_blocks_use_relu_as_the_benchmark_did():
    modules = list(derived(_tiny(), _tiny().genotype("121")).modules())
    assert any(isinstance(module, nn.ReLU) for module in modules)
    assert not any(isinstance(module, nn.ReLU6) for module in modules)


def test_identities_that_keep_the_shape_hold_nothing():
    layers = derived(_tiny(), _tiny().genotype("000")).network.layers
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [2 * 4 + 8, 4 * 8 + 16, 0]


def test_batch_norms_of_the_supernet_have_parameters():
    norms = [m for m in supernet(_tiny()).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.affine for norm in norms)


def test_keys_and_genotypes_are_the_same_architectures():
    space = _tiny()
    genotype = space.genotype("012")
    assert dict(genotype.choices) == {
        "layer_0": ("identity",),
        "layer_1": ("mb_k3_e3",),
        "layer_2": ("mb_k5_e6",),
    }
    keys = [f"{a}{b}{c}" for a in range(3) for b in range(3) for c in range(3)]
    assert [space.key(space.genotype(key)) for key in keys] == keys


@pytest.mark.parametrize("key", ["", "01", "0123", "013", "01x", "0 1", "٠١٢"])
def test_keys_of_another_form_are_refused(key):
    with pytest.raises(FormatError, match="3 digits, each 0, 1 or 2"):
        _tiny().genotype(key)


@pytest.mark.parametrize(
    "choices",
    [
        {"layer_0": ("identity",), "layer_1": ("identity",)},
        {"layer_0": ("identity",), "layer_1": ("identity",), "layer_2": ("identity", "mb_k3_e3")},
        {"layer_0": ("identity",), "layer_1": ("identity",), "layer_2": ("mb_k7_e6",)},
        {
            "layer_0": ("identity",),
            "layer_1": ("identity",),
            "layer_2": ("identity",),
            "layer_3": ("identity",),
        },
    ],
)
def test_genotypes_of_another_space_have_no_key(choices):
    with pytest.raises(FormatError, match="genotype"):
        _tiny().key(Genotype(choices))


def test_tasks_without_images_are_refused():
    with pytest.raises(UnsupportedError, match="space macro: inputs must be images"):
        Macro(Task((4,), 3))


def test_a_space_without_stages_is_refused():
    with pytest.raises(UnsupportedError, match="space macro: stages"):
        _tiny(stages=())
