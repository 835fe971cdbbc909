"""Perturbation-based selection of DARTS-PT against an independent implementation.

Wang, Cheng, Chen, Tang and Hsieh, ICLR 2021 (arXiv 2108.04392), Algorithm 1.
"""

import itertools

import pytest
import torch

import nasframe
from nasframe.core import Task, derived
from nasframe.derivers.perturbation import PerturbationRule
from nasframe.spaces.darts import Darts

OPERATIONS, NODES = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"), 3
SPACE = Darts(Task((1, 8, 8), 3), channels=1, cells=3, nodes=NODES, operations=OPERATIONS)


def _supernet(seed):
    torch.manual_seed(seed)
    model = nasframe.supernet(SPACE)
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.copy_(torch.randn(alpha.shape))
    return model


def _worth(seed):
    """How good a supernet is by its shares: any function of them will do, with terms that couple them."""
    generator = torch.Generator().manual_seed(seed)
    edges = [f"{c}_{n}_{s}" for c in ("normal", "reduce") for n in range(2, 2 + NODES) for s in range(n)]
    linear = {edge: torch.randn(len(OPERATIONS), generator=generator).tolist() for edge in edges}

    def worth(shares):
        terms = [sum(a * b for a, b in zip(linear[edge], shares[edge], strict=True)) for edge in edges]
        return sum(terms) + sum(one * other for one, other in itertools.pairwise(terms))

    return worth


def _paper(shares, worth):
    """Algorithm 1, on plain numbers: operations edge by edge, then edges node by node."""
    shares, kept = dict(shares), {}
    for cell in ("normal", "reduce"):
        for node in range(2, 2 + NODES):
            for state in range(node):
                edge = f"{cell}_{node}_{state}"
                drops = {}
                for index, name in enumerate(OPERATIONS):
                    if name != "none":
                        without = [0.0 if i == index else each for i, each in enumerate(shares[edge])]
                        drops[name] = worth({**shares, edge: without})
                best = min(drops, key=drops.__getitem__)
                shares[edge] = [float(name == best) for name in OPERATIONS]
                kept[edge] = best
    found = {}
    for cell in ("normal", "reduce"):
        found[f"{cell}_concat"] = ("2", "3", "4")
        for node in range(2, 2 + NODES):
            states = list(range(node))
            while len(states) > 2:
                left = {s: worth({**shares, f"{cell}_{node}_{s}": [0.0] * 4}) for s in states}
                states.remove(max(left, key=left.__getitem__))
                for state in set(range(node)) - set(states):
                    shares[f"{cell}_{node}_{state}"] = [0.0] * 4
            found[f"{cell}_{node}"] = tuple(map(str, states))
            for state in states:
                found[f"{cell}_{node}_{state}"] = (kept[f"{cell}_{node}_{state}"],)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_algorithm_of_the_paper(seed):
    model, worth, calls = _supernet(seed), _worth(seed), []

    def score(supernet):
        assert not supernet.training
        calls.append(worth({name: row.tolist() for name, row in supernet.mixtures().items()}))
        return calls[-1]

    shares = {name: row.tolist() for name, row in model.choice_weights().items()}
    genotype = PerturbationRule().derive_validated(model, score)
    assert dict(genotype.choices) == _paper(shares, worth)
    edges = 2 * (2 + 3 + 4)
    assert len(calls) == 3 * edges + 2 * (3 + 4 + 3)  # three operations an edge; nodes of 3 and 4 inputs
    assert model.training
    assert {name: row.tolist() for name, row in model.mixtures().items()} == shares
    derived(SPACE, genotype)


def test_until_the_search_ends_another_rule_shows_the_architecture():
    model = _supernet(0)
    shown = PerturbationRule(meanwhile=nasframe.Component("derivers", "threshold", {"threshold": 0.5}))
    expected = nasframe.registries["derivers"]["threshold"](threshold=0.5).derive(model)
    assert shown.derive(model) == expected
