"""The networks of the published cells have the published sizes (Liu et al. 2019 and its successors).

Two independent sources: the figures that the authors' code and papers give, and a count from the
shapes of convolutions, batch norms and the linear layer, written here from the papers' description.
"""

from typing import Any

import pytest
import torch

from nasframe.core import Genotype, Model, Task, derived, supernet
from nasframe.spaces.darts import Darts

CIFAR, IMAGENET = Task((3, 32, 32), 10), Task((3, 224, 224), 1000)

DARTS_V1 = """Genotype(
    normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0),
            ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)],
    reduce_concat=[2, 3, 4, 5])"""
DARTS_V2 = """Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=[2, 3, 4, 5])"""
PC_DARTS_CIFAR = """Genotype(
    normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1),
            ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2),
            ('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)],
    reduce_concat=range(2, 6))"""
PC_DARTS_IMAGENET = """Genotype(
    normal=[('skip_connect', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 0), ('skip_connect', 1),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('dil_conv_5x5', 4)],
    normal_concat=range(2, 6),
    reduce=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 2), ('max_pool_3x3', 1),
            ('sep_conv_3x3', 2), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 3)],
    reduce_concat=range(2, 6))"""
PDARTS = """Genotype(
    normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), ('dil_conv_5x5', 4)],
    normal_concat=range(2, 6),
    reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2),
            ('max_pool_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)],
    reduce_concat=range(2, 6))"""
NASNET_A = """Genotype(
    normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),
            ('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0),
            ('sep_conv_3x3', 1), ('skip_connect', 1)],
    normal_concat=[2, 3, 4, 5, 6],
    reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), ('sep_conv_7x7', 0),
            ('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3), ('avg_pool_3x3', 2),
            ('sep_conv_3x3', 2), ('max_pool_3x3', 1)],
    reduce_concat=[4, 5, 6])"""
AMOEBANET_A = """Genotype(
    normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2),
            ('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1),
            ('skip_connect', 0), ('avg_pool_3x3', 1)],
    normal_concat=[4, 5, 6],
    reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_7x7', 2),
            ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1),
            ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)],
    reduce_concat=[3, 4, 6])"""
ALL = {
    "DARTS_V1": DARTS_V1,
    "DARTS_V2": DARTS_V2,
    "PC_DARTS_CIFAR": PC_DARTS_CIFAR,
    "PC_DARTS_IMAGENET": PC_DARTS_IMAGENET,
    "PDARTS": PDARTS,
    "NASNET_A": NASNET_A,
    "AMOEBANET_A": AMOEBANET_A,
}
OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_7x1_1x7",
)


def num_weights(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.parameters_of("weight"))


def size_of(text: str, *, imagenet: bool = False, channels: int = 36, cells: int = 20) -> int:
    space = Darts(
        IMAGENET if imagenet else CIFAR,
        channels=channels,
        cells=cells,
        nodes=text.count("('") // 4,
        operations=OPERATIONS,
        stem="imagenet" if imagenet else "cifar",
    )
    with torch.device("meta"):
        return num_weights(derived(space, Genotype.from_darts(text)))


def counted_op(name: str, c: int, stride: int, *, affine: bool = True) -> int:
    """Parameters of an operation on `c` channels."""
    norm = 2 * c if affine else 0
    if name.startswith("sep_conv"):
        return 2 * (int(name[-1]) ** 2 * c + c * c + norm)
    if name.startswith("dil_conv"):
        return int(name[-1]) ** 2 * c + c * c + norm
    if name == "conv_7x1_1x7":
        return 7 * c * c + 7 * c * c + norm
    if name == "skip_connect" and stride == 2:
        return c * (c // 2) + c * (c - c // 2) + norm
    return 0


def counted(text: str, *, imagenet: bool = False, channels: int = 36, cells: int = 20) -> int:
    """Parameters of a derived network, summed up layer by layer."""
    genotype: dict[str, Any] = eval(text, {"Genotype": dict, "range": range})
    c = channels
    if imagenet:
        total = 3 * c // 2 * 9 + c + c // 2 * c * 9 + 2 * c + c * c * 9 + 2 * c
        before_last = last = c
    else:
        total = 3 * 3 * c * 9 + 2 * 3 * c
        before_last = last = 3 * c
    for index in range(cells):
        reduction = index in (cells // 3, 2 * cells // 3)
        cell = "reduce" if reduction else "normal"
        c = 2 * c if reduction else c
        total += before_last * c + 2 * c + last * c + 2 * c
        for name, state in genotype[cell]:
            total += counted_op(name, c, 2 if reduction and state < 2 else 1)
        before_last, last = last, c * len(genotype[f"{cell}_concat"])
    outputs = 1000 if imagenet else 10
    return total + last * outputs + outputs


def test_the_supernet_of_the_search_has_the_authors_size() -> None:
    with torch.device("meta"):
        model = supernet(Darts(CIFAR, channels=16, cells=8))
    assert num_weights(model) == 1_930_618
    for cell in ("normal", "reduce"):
        alphas = [a for name, a in model.named_parameters_of("alpha") if cell in name]
        assert [tuple(alpha.shape) for alpha in alphas] == [(8,)] * 14


@pytest.mark.parametrize(("text", "size"), [(DARTS_V1, 3_169_414), (DARTS_V2, 3_349_342)])
def test_the_found_cells_have_the_size_of_the_authors_code_on_cifar(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize(("text", "size"), [(DARTS_V1, 4_510_432), (DARTS_V2, 4_718_752)])
def test_the_found_cells_have_the_size_of_the_authors_code_on_imagenet(text: str, size: int) -> None:
    assert size_of(text, imagenet=True, channels=48, cells=14) == size


@pytest.mark.parametrize(
    ("text", "millions"),
    [(DARTS_V2, 3.3), (PC_DARTS_CIFAR, 3.6), (PDARTS, 3.4)],
    ids=["DARTS_V2", "PC_DARTS", "PDARTS"],
)
def test_published_cells_have_the_printed_size_on_cifar(text: str, millions: float) -> None:
    assert round(size_of(text) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("text", "millions"),
    [(DARTS_V2, 4.7), (PC_DARTS_IMAGENET, 5.3), (PDARTS, 4.9)],
    ids=["DARTS_V2", "PC_DARTS", "PDARTS"],
)
def test_published_cells_have_the_printed_size_on_imagenet(text: str, millions: float) -> None:
    assert round(size_of(text, imagenet=True, channels=48, cells=14) / 1e6, 1) == millions


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
@pytest.mark.parametrize(
    "settings",
    [
        {"channels": 36, "cells": 20},
        {"imagenet": True, "channels": 48, "cells": 14},
        {"channels": 8, "cells": 5},
    ],
    ids=["cifar", "imagenet", "small"],
)
def test_every_published_cell_has_the_size_that_its_layers_add_up_to(
    text: str, settings: dict[str, Any]
) -> None:
    assert size_of(text, **settings) == counted(text, **settings)


@pytest.mark.parametrize("text", ALL.values(), ids=ALL)
def test_every_published_cell_survives_our_format_and_its_own(text: str) -> None:
    genotype = Genotype.from_darts(text)
    assert Genotype.from_json(genotype.to_json()) == genotype
    fields: dict[str, Any] = eval(text, {"Genotype": dict, "range": list_of})
    assert eval(genotype.to_darts(), {"Genotype": dict}) == fields


def list_of(start: int, stop: int) -> list[int]:
    return list(range(start, stop))


@pytest.mark.parametrize("text", [NASNET_A, AMOEBANET_A], ids=["NASNET_A", "AMOEBANET_A"])
def test_cells_of_five_nodes_run_with_maps_and_channels_as_drawn(text: str) -> None:
    space = Darts(Task((3, 16, 16), 10), channels=4, cells=4, nodes=5, operations=OPERATIONS, drop_path=0.2)
    model = derived(space, Genotype.from_darts(text))
    model.anneal(1.0)
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    assert list(space.graphs(Genotype.from_darts(text))) == ["normal", "reduce"]


@pytest.mark.parametrize(("task", "stem", "norm"), [(CIFAR, "cifar", 1536), (IMAGENET, "imagenet", 0)])
def test_the_auxiliary_head_adds_the_authors_layers(task: Task, stem: Any, norm: int) -> None:
    plain, auxiliary = (
        Darts(task, channels=8, cells=6, stem=stem, auxiliary=auxiliary) for auxiliary in (False, True)
    )
    genotype = Genotype.from_darts(DARTS_V2)
    with torch.device("meta"):
        added = num_weights(derived(auxiliary, genotype)) - num_weights(derived(plain, genotype))
    # four nodes of 4 x 8 channels each reach it; the last batch norm is missing on ImageNet
    assert added == 128 * 128 + 256 + 768 * 128 * 4 + norm + (768 + 1) * task.num_outputs
