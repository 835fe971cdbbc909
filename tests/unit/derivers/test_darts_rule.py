from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasframe.core import Genotype, Task, choices_of, derived, supernet
from nasframe.derivers.darts import DartsRule
from nasframe.spaces.darts import Darts

OPERATIONS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
NODES = 3
SPACE = Darts(Task((1, 8, 8), 3), channels=1, cells=3, nodes=NODES, operations=OPERATIONS)
EDGES = [
    f"{cell}_{node}_{state}"
    for cell in ("normal", "reduce")
    for node in range(2, 2 + NODES)
    for state in range(node)
]


@cache
def _one_supernet():
    return supernet(SPACE)


def _supernet(alphas):
    """The supernet with the given alphas, by choice id."""
    model = _one_supernet()
    with torch.no_grad():
        for name, mixed_op in model.mixed_ops.items():
            mixed_op.alpha.copy_(torch.tensor(alphas[name]))
    return model


def _derive(alphas):
    return DartsRule().derive(_supernet(alphas))


def _paper(alphas):
    """Section 2.4 of the paper in words of its own, on the matrix of a cell's alphas: for each node
    the two predecessors whose best operation (never none) is strongest, each with that operation."""
    lines = {}
    for cell in ("normal", "reduce"):
        pairs = []
        for node in range(2, 2 + NODES):
            best = []
            for state in range(node):
                shares = torch.softmax(torch.tensor(alphas[f"{cell}_{node}_{state}"]), 0).tolist()
                share, name = max(
                    ((share, name) for share, name in zip(shares, OPERATIONS, strict=True) if name != "none"),
                    key=lambda pair: pair[0],
                )
                best.append((share, state, name))
            strongest = sorted(best, key=lambda entry: (-entry[0], entry[1]))[:2]
            pairs += [(name, state) for _, state, name in strongest]
        lines[cell] = pairs
    concat = list(range(2, 2 + NODES))
    return Genotype.from_darts(
        f"Genotype(normal={lines['normal']}, normal_concat={concat}, "
        f"reduce={lines['reduce']}, reduce_concat={concat})"
    )


def _same(alpha=0.0):
    return {name: [alpha] * len(OPERATIONS) for name in EDGES}


def test_the_supernet_has_an_alpha_for_each_edge_of_both_cells():
    assert sorted(name for name, _ in _one_supernet().mixed_ops.items()) == sorted(EDGES)


# few different values, so that ties are frequent
@given(
    data=st.data(), values=st.sampled_from([st.floats(-3, 3, width=32), st.sampled_from([-1.0, 0.0, 1.0])])
)
def test_it_is_the_rule_of_the_paper(data, values):
    rows = data.draw(
        st.lists(
            st.lists(values, min_size=len(OPERATIONS), max_size=len(OPERATIONS)),
            min_size=len(EDGES),
            max_size=len(EDGES),
        )
    )
    alphas = dict(zip(EDGES, rows, strict=True))
    assert _derive(alphas) == _paper(alphas)


def test_edges_are_ranked_by_weight_not_by_alpha():
    alphas = _same()
    alphas["normal_2_0"] = [9.0, 5.0, 0.0, 0.0]  # a large alpha, but none takes the weight
    alphas["normal_3_0"] = [9.0, 5.0, 0.0, 0.0]
    assert _derive(alphas)["normal_3"] == ("1", "2")


def test_of_equal_ones_the_first_wins():
    genotype = _derive(_same())
    for node in range(2, 2 + NODES):
        assert genotype[f"normal_{node}"] == ("0", "1")
        assert genotype[f"normal_{node}_0"] == ("max_pool_3x3",)


def test_none_is_never_kept_even_where_it_dominates():
    alphas = {name: [50.0, 0.0, 0.0, 1.0] for name in EDGES}
    genotype = _derive(alphas)
    kept = [ops for name, ops in genotype.choices.items() if name in EDGES]
    assert kept == [("sep_conv_3x3",)] * (2 * 2 * NODES)


def test_where_none_takes_all_the_weight_the_first_of_the_others_is_kept():
    alphas = {name: [1000.0, 0.0, 0.0, 1.0] for name in EDGES}  # the other weights are all 0
    assert _derive(alphas)["reduce_2_0"] == ("max_pool_3x3",)


def test_inputs_come_strongest_first():
    alphas = _same()
    alphas["normal_4_3"] = [0.0, 0.0, 0.0, 4.0]
    alphas["normal_4_1"] = [0.0, 0.0, 5.0, 0.0]
    genotype = _derive(alphas)
    assert genotype["normal_4"] == ("1", "3")
    assert genotype["normal_4_3"] == ("sep_conv_3x3",)
    assert genotype["normal_4_1"] == ("skip_connect",)


def test_cells_are_read_apart():
    alphas = _same()
    alphas["reduce_3_2"] = [0.0, 0.0, 0.0, 4.0]
    genotype = _derive(alphas)
    assert genotype["reduce_3"] == ("2", "0")
    assert genotype["normal_3"] == ("0", "1")


def test_what_is_derived_fits_the_space_and_decides_no_dropped_edge():
    generator = torch.Generator().manual_seed(0)
    alphas = {name: torch.randn(len(OPERATIONS), generator=generator).tolist() for name in EDGES}
    genotype = _derive(alphas)
    assert set(genotype.choices) - set(EDGES) == set(choices_of(SPACE)) - set(EDGES)
    assert len(set(genotype.choices) & set(EDGES)) == 2 * 2 * NODES
    assert genotype["normal_concat"] == ("2", "3", "4")
    derived(SPACE, genotype)


@pytest.mark.parametrize("mode", [True, False])
def test_deriving_changes_nothing(mode):
    model = _supernet(_same(0.5)).train(mode)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    assert DartsRule().derive(model) == DartsRule().derive(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.training is mode
