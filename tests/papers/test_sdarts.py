"""The perturbations of SDARTS against independent computations in float64.

Chen and Hsieh, ICML 2020 (arXiv 2002.05283), Algorithm 1.
"""

import copy

import pytest
import torch
from torch import nn

import nasframe
from nasframe.core import (
    Batch,
    LayerChoice,
    Perturbation,
    Perturbed,
    Space,
    WeightUpdate,
    algorithms,
    objectives,
    projected,
)
from nasframe.errors import UnsupportedError
from nasframe.perturbations.adversarial import AdversarialPerturbation
from nasframe.perturbations.random import RandomPerturbation

SHARES = {"one": [0.5, 0.3, 0.2], "two": [0.96, 0.04]}


def mixtures(shares=SHARES):
    return {name: torch.tensor(row, dtype=torch.float64) for name, row in shares.items()}


def onto_simplex(row):
    kept = [max(each, 0.0) for each in row]
    return [each / sum(kept) for each in kept]


def uniform(seed, epsilon):
    """The noise of the next draws, one choice after the other."""
    torch.manual_seed(seed)
    return {
        name: (epsilon * (2 * torch.rand(len(row), dtype=torch.float64) - 1)).tolist()
        for name, row in SHARES.items()
    }


@pytest.mark.parametrize(("progress", "epsilon"), [(0.0, 0.03), (0.5, 0.165), (1.0, 0.3)])
def test_random_noise_is_uniform_in_a_box_that_grows_and_ends_on_the_simplex(progress, epsilon):
    noise = uniform(3, epsilon)
    torch.manual_seed(3)
    moved = RandomPerturbation()(mixtures(), lambda _: torch.zeros(()), progress)
    for name, row in SHARES.items():
        expected = onto_simplex([each + delta for each, delta in zip(row, noise[name], strict=True)])
        assert moved[name].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ([0.7, -0.2, 0.5], [0.7 / 1.2, 0, 0.5 / 1.2]),
        ([-0.3, -0.1, -0.2], [0, 1, 0]),
        ([0.6, 0.6, 0.3], [0.4, 0.4, 0.2]),
    ],
)
def test_no_share_is_negative_and_their_sum_stays(moved, expected):
    shares = torch.tensor([1.0, 0.6, 0.4], dtype=torch.float64)  # a sum of 2
    found = projected(torch.tensor(moved, dtype=torch.float64), shares)
    assert found.tolist() == pytest.approx([2 * each for each in expected], rel=1e-12)


SLOPES = {"one": [1.0, -2.0, 0.5], "two": [-1.0, 3.0]}


def linear(shares):
    return sum((shares[name] * torch.tensor(row, dtype=torch.float64)).sum() for name, row in SLOPES.items())


@pytest.mark.parametrize("steps", [1, 7])
def test_the_adversary_climbs_by_signs_within_the_box_and_the_simplex(steps):
    epsilon, noise = 0.3, uniform(5, 0.3)
    torch.manual_seed(5)
    moved = AdversarialPerturbation(steps=steps)(mixtures(), linear, 1.0)
    for name, row in SHARES.items():
        at = onto_simplex([each + delta for each, delta in zip(row, noise[name], strict=True)])
        for _ in range(steps):
            signs = [1 if slope > 0 else -1 for slope in SLOPES[name]]
            ahead = [each + 2 * epsilon / steps * sign for each, sign in zip(at, signs, strict=True)]
            within = [min(max(a - each, -epsilon), epsilon) for a, each in zip(ahead, row, strict=True)]
            at = onto_simplex([each + delta for each, delta in zip(row, within, strict=True)])
        assert moved[name].tolist() == pytest.approx(at, rel=1e-9, abs=1e-12)
    assert linear(moved) > linear(mixtures())


def test_an_adversary_that_finds_nothing_worse_moves_nothing():
    given = mixtures()
    moved = AdversarialPerturbation(steps=1)(
        given, lambda shares: -sum((shares[name] - row).square().sum() for name, row in given.items()), 0.0
    )
    assert all(torch.equal(moved[name], row) for name, row in given.items())


class Chain(Space):
    """A mixture of two layers, normalized, and a classifier."""

    def build(self, filler):
        site = filler.layer(LayerChoice("edge", ("a", "b")), lambda name: nn.Linear(4, 4))
        return nn.Sequential(site, nn.BatchNorm1d(4), nn.Linear(4, 3))


class Fixed(Perturbation):
    """Moves to given shares, and keeps what it saw."""

    def __init__(self, shares):
        self.shares, self.seen = shares, []

    def __call__(self, mixtures, loss, progress):
        self.seen.append((mixtures, loss(mixtures).item(), progress))
        return self.shares


def _search(perturbation, order=1, mixed_op="softmax"):
    torch.manual_seed(0)
    model = nasframe.supernet(Chain(), mixed_op).double()
    objective = objectives["cross_entropy"]()
    update = WeightUpdate(model, objective, torch.optim.SGD(model.parameters_at("lower"), lr=0.1))
    inner = algorithms["darts_bilevel"](model, objective, order=order)
    return model, update, Perturbed(inner, model, objective, perturbation)


BATCH = Batch(torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3)


def test_weights_are_trained_at_the_moved_mixtures_and_alphas_at_their_own():
    shares = torch.tensor([0.9, 0.1], dtype=torch.float64)
    perturbation = Fixed({"edge": shares})
    model, update, algorithm = _search(perturbation)
    model.anneal(0.25)
    before = copy.deepcopy(model)
    plain, plain_update, unperturbed = _search(perturbation)
    algorithm.step(BATCH, BATCH, update)
    unperturbed._algorithm.step(BATCH, BATCH, plain_update)
    (alpha,), (same,) = model.parameters_at("upper"), plain.parameters_at("upper")
    assert torch.equal(alpha, same)  # the alpha step saw the mixture as it is
    # by hand: the loss at the given shares, and a plain step of descent
    site, norm, head = before.network
    one, two = site.candidates
    mixed = shares[0] * one(BATCH.inputs) + shares[1] * two(BATCH.inputs)
    loss = nn.functional.cross_entropy(head(norm(mixed)), BATCH.targets)
    weights = list(before.parameters_at("lower"))
    for weight, moved, gradient in zip(
        weights, model.parameters_at("lower"), torch.autograd.grad(loss, weights), strict=True
    ):
        torch.testing.assert_close(moved, weight - 0.1 * gradient)
    ((mixtures, loss_as_it_is, progress),) = perturbation.seen
    torch.testing.assert_close(mixtures["edge"], torch.softmax(alpha.detach(), 0))
    mixed = sum(p * each(BATCH.inputs) for p, each in zip(mixtures["edge"], (one, two), strict=True))
    expected = nn.functional.cross_entropy(head(norm(mixed)), BATCH.targets)
    assert loss_as_it_is == pytest.approx(expected.item(), rel=1e-9)
    assert progress == 0.25
    # one training pass moved the statistics, for those of the perturbation leave none
    assert int(model.network[1].num_batches_tracked) == 1


def test_a_step_that_is_looked_through_must_be_at_the_mixtures_themselves():
    _, update, algorithm = _search(RandomPerturbation(), order=2)
    with pytest.raises(UnsupportedError, match="order must be 1 where weights are trained at perturbed"):
        algorithm.check_update(update)


def test_paths_that_run_alone_have_no_shares_to_move():
    with pytest.raises(
        UnsupportedError, match="must be a weighted sum of its candidates, but is a BinaryGate"
    ):
        _search(RandomPerturbation(), mixed_op="binary_gate")
