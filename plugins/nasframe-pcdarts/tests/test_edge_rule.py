"""The rule that multiplies the weights of inputs with those of their candidates."""

import itertools
import math

import pytest
import torch

import nasframe
from nasframe.core import derivers, spaces
from nasframe.errors import TrainingError
from nasframe_pcdarts.edge_normalization import EdgeNormalized
from nasframe_pcdarts.edge_rule import EdgeRule
from nasframe_pcdarts.partial_channels import PartialChannels

OPERATIONS = ("none", "skip_connect", "max_pool_3x3")


def make(seed):
    darts = spaces.component("darts", channels=4, cells=3, nodes=3, operations=OPERATIONS)
    model = nasframe.supernet(PartialChannels(nasframe.Task((1, 8, 8), 3), of=darts), EdgeNormalized)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters_at("upper"):
            parameter.copy_(2 * torch.randn(parameter.shape, generator=generator))
    return model


def shares(parameter):
    exponentials = [math.exp(value) for value in parameter.tolist()]
    return [each / sum(exponentials) for each in exponentials]


def by_hand(model):
    """Of all pairs of inputs the one with the largest products, each with its best candidate."""
    kept = {}
    for cell, node in itertools.product(("normal", "reduce"), (2, 3, 4)):
        beta = shares(model.mixed_ops[f"{cell}_{node}"].alpha)
        best = {}
        for state in range(node):
            alpha = shares(model.mixed_ops[f"{cell}_{node}_{state}"].alpha)
            best[state] = max((beta[state] * alpha[index], OPERATIONS[index]) for index in (1, 2))
        pair = max(
            itertools.permutations(range(node), 2), key=lambda pair: [best[state][0] for state in pair]
        )
        kept[f"{cell}_{node}"] = tuple(map(str, pair))
        kept |= {f"{cell}_{node}_{state}": (best[state][1],) for state in pair}
    return kept


@pytest.mark.parametrize("seed", range(10))
def test_a_node_keeps_the_inputs_with_the_largest_products(seed):
    model = make(seed)
    choices = dict(EdgeRule().derive(model).choices)
    concat = {choices.pop("normal_concat"), choices.pop("reduce_concat")}
    assert choices == by_hand(model)
    assert concat == {("2", "3", "4")}


def test_betas_decide_where_the_rule_of_darts_does_not_see_them():
    model = make(0)
    with torch.no_grad():
        for alpha in model.parameters_of("alpha"):
            alpha.copy_(torch.tensor([0.0, 1.0, 0.0]))
        model.mixed_ops["normal_4"].alpha.copy_(torch.tensor([0.0, 1.0, 3.0, 2.0]))
    assert EdgeRule().derive(model)["normal_4"] == ("2", "3")
    assert derivers["darts"]().derive(model)["normal_4"] == ("0", "1")


def test_weights_that_are_not_finite_are_refused():
    model = make(0)
    with torch.no_grad():
        model.mixed_ops["normal_2"].alpha.fill_(math.nan)
    with pytest.raises(TrainingError, match=r"must be finite, but not of \['normal_2'\]"):
        EdgeRule().derive(model)
