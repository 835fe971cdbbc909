"""The blueprint of the space nas_bench_201."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasframe.core import Genotype, Task, costs, derived, generator_for, sample, supernet
from nasframe.core.fused import FusedSum
from nasframe.errors import FormatError, UnsupportedError
from nasframe.spaces.nas_bench_201 import NasBench201

TASK = Task((3, 16, 16), 5)
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
MIXED = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


def _tiny(task=TASK, **settings):
    return NasBench201(task, **{"channels": 2, "cells": 1, **settings})


def _norms(module):
    return [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]


def test_each_stage_has_its_cells_and_halves_the_map_of_the_one_before():
    space = _tiny(cells=2)
    network = derived(space, space.genotype(MIXED)).network
    x = network.stem(torch.randn(2, 3, 16, 16))
    shapes = [tuple(x.shape[1:])] + [tuple((x := cell(x)).shape[1:]) for cell in network.cells]
    first, second, third = (2, 16, 16), (4, 8, 8), (8, 4, 4)
    assert shapes == [first] * 3 + [second] * 3 + [third] * 3
    assert network.head(x).shape == (2, 5)


def test_a_node_of_the_derived_network_adds_up_what_its_edges_keep():
    space = _tiny()
    cell = derived(space, space.genotype(MIXED)).network.cells[0].train()
    x = torch.randn(2, 2, 16, 16)
    with torch.no_grad():
        conv, norm = cell.nodes[0].branches[0][1:]
        first = norm(conv(functional.relu(x)))
        conv, norm = cell.nodes[1].branches[1][1:]
        second = norm(conv(functional.relu(first)))
        pooled = functional.avg_pool2d(second, 3, 1, 1, count_include_pad=False)
        torch.testing.assert_close(cell(x), x + pooled)


def test_a_network_of_no_connection_computes_and_its_classifier_learns():
    space = _tiny()
    model = derived(space, space.genotype(NOTHING))
    logits = model(torch.randn(4, 3, 16, 16))
    functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    assert bool(logits.isfinite().all())
    gradient = model.network.head[-1].bias.grad
    assert gradient is not None
    assert bool(gradient.any())


@pytest.mark.parametrize(
    "key",
    [
        "",
        "none",
        MIXED[:-1],
        MIXED + "|",
        MIXED + "\n",
        " " + MIXED,
        MIXED.replace("none", "noone"),
        MIXED.replace("none", "max_pool_3x3"),
        MIXED.replace("~2", "~1"),
        MIXED.replace("~2", "~٢"),
        MIXED.replace("+", ""),
        "+".join(MIXED.split("+")[::-1]),
        f"{MIXED}+{MIXED}",
        "|" * 100_000,
        "\x00",
    ],
)
def test_arch_strings_of_another_form_are_refused_by_one_message(key):
    with pytest.raises(FormatError, match=r"must be .op~0.*none, skip_connect.*, got") as refused:
        _tiny().genotype(key)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "changed",
    [
        {"cell_3_2": ()},
        {"cell_3_2": ("none", "skip_connect")},
        {"cell_3_2": ("sep_conv_3x3",)},
        {"cell_4_0": ("none",)},
    ],
)
def test_genotypes_of_another_space_have_no_arch_string_and_no_picture(changed):
    genotype = Genotype({**_tiny().genotype(MIXED).choices, **changed})
    for refuse in (_tiny().key, _tiny().graphs):
        with pytest.raises(FormatError, match="genotype"):
            refuse(genotype)


def test_the_picture_has_an_edge_for_each_operation_that_connects():
    graph = _tiny().graphs(_tiny().genotype(MIXED))["cell"]
    assert graph.nodes == ("in", "1", "2", "out")
    assert set(graph.edges) == {
        ("in", "1", "nor_conv_3x3"),
        ("1", "2", "nor_conv_1x1"),
        ("in", "out", "skip_connect"),
        ("2", "out", "avg_pool_3x3"),
    }


def test_fewer_operations_make_a_smaller_space():
    space = _tiny(operations=("skip_connect", "sep_conv_3x3"))
    key = "|sep_conv_3x3~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|sep_conv_3x3~1|skip_connect~2|"
    assert space.key(space.genotype(key)) == key
    with pytest.raises(FormatError, match="op one of skip_connect, sep_conv_3x3, got"):
        space.genotype(MIXED)


@pytest.mark.parametrize("operations", [(), ("none", "none")])
def test_operations_must_be_distinct_and_some(operations):
    with pytest.raises(UnsupportedError, match="space nas_bench_201: operations must be distinct"):
        _tiny(operations=operations)


@pytest.mark.parametrize("shape", [(4,), (3, 30, 32), (3, 32, 6), (3, 33, 33)])
def test_tasks_must_have_images_whose_sides_can_be_halved_twice(shape):
    with pytest.raises(UnsupportedError, match=r"space nas_bench_201: inputs must be images.*multiples of 4"):
        _tiny(Task(shape, 3))


def test_without_running_statistics_cells_are_normalized_by_the_batch_in_evaluation_too():
    tracking, batchwise = (supernet(_tiny(track_running_stats=track)) for track in (True, False))
    assert all(norm.running_mean is not None for norm in _norms(tracking))
    cells = [norm for norm in _norms(batchwise) if not norm.affine]
    assert len(cells) == 3 * 6 * 2
    assert all(norm.running_mean is None and not norm.track_running_stats for norm in cells)
    cell = batchwise.network.cells[0]
    x = 3 + 2 * torch.randn(4, 2, 16, 16)
    torch.testing.assert_close(cell.eval()(x), cell.train()(x))
    assert all(norm.running_mean is not None for norm in _norms(batchwise) if norm.affine)


def test_statistics_of_a_derived_network_are_always_tracked():
    space = _tiny(track_running_stats=False)
    norms = _norms(derived(space, space.genotype(MIXED)))
    assert norms
    assert all(norm.affine and norm.running_mean is not None for norm in norms)


def test_nodes_of_the_supernet_are_computed_together_to_the_same_result():
    outputs = []
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    for fused in (True, False):
        torch.manual_seed(0)
        model = supernet(_tiny(), fused=fused).double()
        assert sum(isinstance(module, FusedSum) for module in model.modules()) == (9 if fused else 0)
        output = model(x)
        output.square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(gradient is not None for gradient in gradients)
        outputs.append((output.detach(), gradients))
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)


def test_binary_gates_sample_none_like_any_other_candidate():
    space = _tiny()
    model = supernet(space, "binary_gate")
    generator, drawn = generator_for(0, "test"), set()
    for _ in range(12):
        model.sample(generator)
        drawn |= {model.choices[name].candidates[op.active[0]] for name, op in model.mixed_ops.items()}
        model.zero_grad()
        model(torch.randn(2, 3, 16, 16)).square().sum().backward()
        # what reaches the output; that of an earlier edge is cut off where `none` runs after it
        assert all(model.mixed_ops[f"cell_3_{state}"].alpha.grad is not None for state in range(3))
    assert drawn == {"none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"}


def test_derived_networks_cost_what_is_kept():
    space = _tiny()
    genotypes = [sample(space, generator_for(seed, "test")) for seed in range(3)]
    for genotype in genotypes:
        kept = [name for names in genotype.choices.values() for name in names]
        convs = sum(isinstance(m, nn.Conv2d) for m in derived(space, genotype).modules())
        assert convs == 1 + 2 * 3 + 3 * sum(name.startswith("nor_conv") for name in kept)
    nothing = derived(space, space.genotype(NOTHING))
    assert costs["flops"]().of(nothing, TASK) < costs["flops"]().of(
        derived(space, space.genotype(MIXED)), TASK
    )
