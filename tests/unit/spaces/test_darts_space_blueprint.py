"""The space `darts`: what its blueprint builds."""

from functools import partial

import pytest
import torch
from torch import nn

from nasframe.core import (
    Genotype,
    InputChoice,
    LayerChoice,
    MixedLayer,
    Model,
    Task,
    choices_of,
    derived,
    mixed_ops,
    sample,
    spaces,
    supernet,
)
from nasframe.errors import FormatError, SettingError, UnsupportedError
from nasframe.ops.drop_path import DropPath
from nasframe.ops.factorized_reduction import FactorizedReduction
from nasframe.spaces.darts import Darts

DIGITS = Task(input_shape=(1, 8, 8), num_outputs=10)
TWO_NODES = Genotype.from_darts(
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 2), ('dil_conv_3x3', 0)],"
    " normal_concat=[2, 3],"
    " reduce=[('skip_connect', 0), ('avg_pool_3x3', 1), ('skip_connect', 2), ('sep_conv_5x5', 1)],"
    " reduce_concat=[2, 3])"
)


def tiny(task: Task = DIGITS, **settings: object) -> Darts:
    return Darts(task, **{"channels": 4, "cells": 3, "nodes": 2, **settings})


def cells_of(model: Model) -> list[nn.Module]:
    return list(model.network.cells)


def shapes_of_cells(model: Model, images: torch.Tensor) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for cell in cells_of(model):
        cell.register_forward_hook(lambda _module, _inputs, output: shapes.append(tuple(output.shape)))
    model(images)
    return shapes


def test_it_is_registered() -> None:
    assert spaces["darts"] is Darts


def test_each_node_chooses_two_states_and_each_edge_an_operation() -> None:
    choices = choices_of(Darts(DIGITS, cells=3))
    for cell in ("normal", "reduce"):
        for node in (2, 3, 4, 5):
            inputs = choices[f"{cell}_{node}"]
            assert isinstance(inputs, InputChoice)
            assert inputs.candidates == tuple(str(state) for state in range(node))
            assert inputs.num_chosen == 2
            assert inputs.edges == tuple(f"{cell}_{node}_{state}" for state in range(node))
            for edge in inputs.edges:
                assert isinstance(choices[edge], LayerChoice)
                assert len(choices[edge].candidates) == 8
                assert choices[edge].search_only == ("none",)
        concat = choices[f"{cell}_concat"]
        assert (concat.candidates, concat.num_chosen) == (("2", "3", "4", "5"), 4)
    assert len(choices) == 2 * (14 + 4 + 1)


def test_operations_without_none_leave_nothing_that_is_only_searched() -> None:
    choices = choices_of(tiny(operations=("skip_connect", "sep_conv_3x3")))
    assert choices["normal_2_0"].candidates == ("skip_connect", "sep_conv_3x3")
    assert choices["normal_2_0"].search_only == ()


def test_cells_of_one_sort_share_their_mixed_ops() -> None:
    model = supernet(tiny(cells=6))
    assert sorted(model.mixed_ops._modules) == sorted(
        f"{cell}_{node}_{state}" for cell in ("normal", "reduce") for node in (2, 3) for state in range(node)
    )
    assert len(list(model.parameters_of("alpha"))) == 2 * (2 + 3)
    assert len({alpha.shape for alpha in model.parameters_of("alpha")}) == 1


@pytest.mark.parametrize(("num_cells", "at"), [(3, {1, 2}), (5, {1, 3}), (8, {2, 5}), (2, {0, 1}), (1, {0})])
def test_the_cells_at_a_third_and_two_thirds_halve_the_map_and_double_the_channels(
    num_cells: int, at: set[int]
) -> None:
    model = supernet(tiny(cells=num_cells))
    channels, size, expected = 4, 8, []
    for index in range(num_cells):
        if index in at:
            channels, size = 2 * channels, size // 2
        expected.append((2, 2 * channels, size, size))
    assert shapes_of_cells(model, torch.randn(2, 1, 8, 8)) == expected


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 33, 29), (4, 5, 4)])
def test_images_of_any_size_pass_supernet_and_derived_network(shape: tuple[int, int, int]) -> None:
    space = tiny(Task(shape, 7))
    for model in (supernet(space), derived(space, TWO_NODES)):
        assert model(torch.randn(2, *shape)).shape == (2, 7)


def test_the_imagenet_stem_makes_maps_8_times_smaller() -> None:
    space = tiny(Task((3, 64, 65), 5), stem="imagenet")
    for model in (supernet(space), derived(space, TWO_NODES)):
        assert shapes_of_cells(model, torch.randn(2, 3, 64, 65)) == [
            (2, 8, 8, 9),
            (2, 16, 4, 5),
            (2, 32, 2, 3),
        ]


def test_the_first_cell_after_the_imagenet_stem_reduces_the_older_of_its_inputs() -> None:
    imagenet = tiny(Task((3, 64, 64), 5), stem="imagenet")
    for space, reduced in ((imagenet, [True, False, True]), (tiny(), [False, False, True])):
        cells = cells_of(derived(space, TWO_NODES))
        assert [isinstance(cell.preprocess[0], FactorizedReduction) for cell in cells] == reduced


@pytest.mark.parametrize(
    ("shape", "settings", "least"),
    [
        ((1, 3, 8), {}, "4x4"),
        ((3, 32, 31), {"stem": "imagenet"}, "32x32"),
        ((3, 1, 1), {"cells": 1}, "2x2"),
        ((64,), {}, "4x4"),
    ],
)
def test_images_too_small_for_the_reductions_are_refused(
    shape: tuple[int, ...], settings: dict[str, object], least: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"at least {least} .*got \\({shape[0]},"):
        tiny(Task(shape, 10), **settings)


def test_operations_must_be_registered_distinct_and_not_none_alone() -> None:
    with pytest.raises(SettingError, match="did you mean `sep_conv_3x3`"):
        tiny(operations=("none", "sep_conv_3"))
    for operations in (("none",), (), ("skip_connect", "skip_connect")):
        with pytest.raises(UnsupportedError, match="operations must be distinct"):
            tiny(operations=operations)


def test_one_channel_cannot_pass_the_imagenet_stem() -> None:
    with pytest.raises(UnsupportedError, match="channels must be at least 2"):
        supernet(tiny(Task((3, 64, 64), 5), stem="imagenet", channels=1))


def test_batch_norms_of_cells_have_parameters_in_the_derived_network_alone() -> None:
    def affine(model: Model) -> set[bool]:
        parts = [part for cell in cells_of(model) for part in cell.modules()]
        return {part.affine for part in parts if isinstance(part, nn.BatchNorm2d)}

    assert affine(supernet(tiny())) == {False}
    assert affine(derived(tiny(), TWO_NODES)) == {True}


def test_a_batch_norm_follows_each_pool_in_the_supernet_alone() -> None:
    def pools(model: Model) -> list[nn.Module]:
        return [p for p in model.modules() if isinstance(p, (nn.MaxPool2d, nn.AvgPool2d))]

    def pools_with_norm(model: Model) -> list[nn.Module]:
        pairs = [list(p) for p in model.modules() if isinstance(p, nn.Sequential) and len(p) == 2]
        return [pool for pool, norm in pairs if isinstance(norm, nn.BatchNorm2d)]

    searched, found = supernet(tiny()), derived(tiny(), TWO_NODES)
    assert len(pools(searched)) == 3 * 5 * 2
    assert set(pools(searched)) <= set(pools_with_norm(searched))
    assert len(pools(found)) == 3
    assert not set(pools(found)) & set(pools_with_norm(found))


def test_a_cell_of_the_supernet_computes_the_formula_of_the_paper() -> None:
    torch.manual_seed(0)
    model = supernet(tiny(Task((3, 8, 8), 10)), partial(mixed_ops["softmax"], init_std=1.0)).double()
    sites = [("normal", 12, 4, 8), ("reduce", 8, 8, 4)]
    for cell, (name, channels_last, channels, size) in zip(cells_of(model), sites, strict=False):
        before_last = torch.randn(4, 12, 8, 8, dtype=torch.float64)
        last = torch.randn(4, channels_last, 8, 8, dtype=torch.float64)
        states = [cell.preprocess[0](before_last), cell.preprocess[1](last)]
        for node in (2, 3):
            total = torch.zeros(4, channels, size, size, dtype=torch.float64)
            for state in range(node):
                site = cell.nodes[node - 2].branches[state]
                assert isinstance(site, MixedLayer)
                alpha = model.mixed_ops[f"{name}_{node}_{state}"].alpha
                exponentials = alpha.exp()
                for index, candidate in enumerate(site.candidates):
                    total = total + exponentials[index] / exponentials.sum() * candidate(states[state])
            states.append(total)
        expected = torch.cat([states[2], states[3]], dim=1)
        torch.testing.assert_close(cell(before_last, last), expected, rtol=1e-12, atol=1e-12)


def test_candidates_stand_in_the_order_of_the_alphas() -> None:
    operations = ("sep_conv_5x5", "none", "skip_connect", "dil_conv_3x3")
    model = supernet(tiny(operations=operations))
    (site, *_) = [part for part in cells_of(model)[0].modules() if isinstance(part, MixedLayer)]
    kinds = ["SeparableConv", "Zero", "Identity", "Sequential"]
    assert [type(candidate).__name__ for candidate in site.candidates] == kinds
    assert model.choices["normal_2_0"].candidates == operations


def test_a_derived_cell_computes_what_its_genotype_says() -> None:
    torch.manual_seed(0)
    model = derived(tiny(), TWO_NODES).double()
    cell = cells_of(model)[0]
    before_last, last = torch.randn(2, 4, 12, 8, 8, dtype=torch.float64)
    first, second = cell.preprocess[0](before_last), cell.preprocess[1](last)
    (separable, _), (pool, dilated) = (node.branches for node in cell.nodes)
    two = separable(first) + second
    three = nn.functional.max_pool2d(two, 3, 1, 1) + dilated(first)
    assert isinstance(pool, nn.MaxPool2d)
    torch.testing.assert_close(cell(before_last, last), torch.cat([two, three], dim=1))


def test_a_derived_network_holds_no_alpha_and_nothing_that_was_not_kept() -> None:
    model = derived(tiny(), TWO_NODES)
    assert model.kinds() == ("weight",)
    assert not [part for part in model.modules() if isinstance(part, MixedLayer)]
    assert len(list(cells_of(model)[0].nodes[1].branches)) == 2


def test_a_concatenation_of_some_nodes_has_their_channels() -> None:
    text = TWO_NODES.to_darts().replace("normal_concat=[2, 3]", "normal_concat=[3]")
    model = derived(tiny(), Genotype.from_darts(text))
    assert [shape[1] for shape in shapes_of_cells(model, torch.randn(2, 1, 8, 8))] == [4, 16, 32]


def test_a_node_may_take_one_state_twice() -> None:
    text = TWO_NODES.to_darts().replace("('skip_connect', 1)", "('max_pool_3x3', 0)", 1)
    model = derived(tiny(), Genotype.from_darts(text)).double()
    cell = cells_of(model)[0]
    x = torch.randn(2, 12, 8, 8, dtype=torch.float64)
    state = cell.preprocess[0](x)
    (both,) = cell.nodes[0].branches
    expected = both.layers[0](state) + nn.functional.max_pool2d(state, 3, 1, 1)
    torch.testing.assert_close(cell.nodes[0]([state, state]), expected)


def test_drop_path_follows_every_kept_operation_that_is_not_the_identity() -> None:
    model = derived(tiny(drop_path=0.3), TWO_NODES)
    counts = [sum(isinstance(part, DropPath) for part in cell.modules()) for cell in cells_of(model)]
    # the normal cell's skip is an identity; in a reduction cell only that from state 2 is one
    assert counts == [3, 3, 3]
    for searched_or_plain in (supernet(tiny(drop_path=0.3)), derived(tiny(), TWO_NODES)):
        assert not [part for part in searched_or_plain.modules() if isinstance(part, DropPath)]


def test_drop_path_changes_training_alone_and_grows_with_progress() -> None:
    torch.manual_seed(0)
    model = derived(tiny(drop_path=0.5), TWO_NODES)
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(model(x), model(x))
    model.anneal(1.0)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_the_auxiliary_head_answers_in_training_of_the_derived_network_alone() -> None:
    space = tiny(auxiliary=True)
    x = torch.randn(2, 1, 8, 8)
    model = derived(space, TWO_NODES)
    logits, auxiliary = model(x)
    assert logits.shape == auxiliary.shape == (2, 10)
    assert model.eval()(x).shape == (2, 10)
    assert supernet(space)(x).shape == (2, 10)


def test_the_auxiliary_head_reads_the_cell_at_two_thirds() -> None:
    model = derived(tiny(Task((3, 32, 32), 10), cells=8, auxiliary=True), TWO_NODES)
    logits, auxiliary = model(torch.randn(2, 3, 32, 32))
    auxiliary.sum().backward()
    reached = [any(p.grad is not None for p in cell.parameters()) for cell in cells_of(model)]
    assert reached == [True] * 6 + [False] * 2
    assert logits.grad_fn is not None


def test_an_auxiliary_head_on_too_small_a_map_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="must be at least 2x2, got 1x1"):
        derived(tiny(Task((1, 4, 4), 10), auxiliary=True), TWO_NODES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("('sep_conv_3x3', 0)", "('none', 0)"), "`normal_2_0` must keep some of"),
        (("('sep_conv_3x3', 0)", "('sep_conv_7x7', 0)"), "give the space the operations"),
    ],
)
def test_a_genotype_that_does_not_fit_is_refused(change: tuple[str, str], message: str) -> None:
    genotype = Genotype.from_darts(TWO_NODES.to_darts().replace(*change, 1))
    with pytest.raises(FormatError, match=message):
        derived(tiny(), genotype)
    with pytest.raises(FormatError, match=message):
        tiny().graphs(genotype)


def test_a_genotype_of_another_number_of_nodes_is_refused() -> None:
    with pytest.raises(FormatError, match="another number of nodes"):
        derived(
            tiny(nodes=1), Genotype({**TWO_NODES.choices, "normal_concat": ("2",), "reduce_concat": ("2",)})
        )
    with pytest.raises(FormatError, match="`normal_4` must keep"):
        derived(tiny(nodes=3), TWO_NODES)


def test_a_drawn_architecture_is_complete_reproducible_and_without_none() -> None:
    space = tiny(nodes=4)
    drawn = [sample(space, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    derived(space, drawn[0])
    assert Genotype.from_darts(drawn[0].to_darts()) == drawn[0]
    assert "none" not in drawn[0].to_darts()


def test_building_without_memory_gives_the_same_parameters() -> None:
    space = tiny()
    with torch.device("meta"):
        hollow = supernet(space)
    real = supernet(space)
    assert [(n, p.shape) for n, p in hollow.named_parameters()] == [
        (n, p.shape) for n, p in real.named_parameters()
    ]


def test_gradients_reach_every_weight_and_every_alpha() -> None:
    torch.manual_seed(0)
    for model in (supernet(tiny()), derived(tiny(), TWO_NODES)):
        model(torch.randn(4, 1, 8, 8)).square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_graphs_show_each_kept_edge_of_both_cells() -> None:
    graphs = tiny().graphs(TWO_NODES)
    assert list(graphs) == ["normal", "reduce"]
    assert graphs["normal"].nodes == ("c_{k-2}", "c_{k-1}", "0", "1", "c_{k}")
    assert set(graphs["normal"].edges) == {
        ("c_{k-2}", "0", "sep_conv_3x3"),
        ("c_{k-1}", "0", "skip_connect"),
        ("0", "1", "max_pool_3x3"),
        ("c_{k-2}", "1", "dil_conv_3x3"),
        ("0", "c_{k}", ""),
        ("1", "c_{k}", ""),
    }


def test_the_graphs_show_the_cells_that_there_are() -> None:
    only_reduction = {name: kept for name, kept in TWO_NODES.choices.items() if name.startswith("reduce")}
    assert list(tiny(cells=2).graphs(Genotype(only_reduction))) == ["reduce"]


def test_paths_of_the_supernet_are_dropped_where_the_space_says_so():
    names = ("none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3")
    plain, space = supernet(tiny(operations=names)), tiny(operations=names, search_drop_path=0.4)
    dropping = supernet(space)
    assert not any(isinstance(module, DropPath) for module in plain.modules())
    for module in dropping.modules():
        if isinstance(module, MixedLayer):
            dropped = [isinstance(list(each.modules())[-1], DropPath) for each in module.candidates]
            is_skip = isinstance(module.candidates[1], nn.Identity)  # with a stride it has weights
            assert dropped == [False, not is_skip, True, True]
    assert [p.shape for p in plain.parameters()] == [p.shape for p in dropping.parameters()]
    retrained = derived(space, sample(space, torch.Generator().manual_seed(0)))
    assert not any(isinstance(module, DropPath) for module in retrained.modules())
