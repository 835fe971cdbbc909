"""The concrete relaxation of SNAS against an independent computation in float64.

Xie, Zheng, Liu and Lin, ICLR 2019 (arXiv 1812.09926).
"""

import math
from collections import Counter

import pytest
import torch
from torch import nn

import nasframe
from nasframe.core import Batch, LayerChoice, WeightUpdate, algorithms, objectives
from nasframe.mixed_ops.concrete import Concrete
from nasframe.testing import example_space

ALPHA = [0.3, -1.2, 0.7]


def concrete(alpha=ALPHA, tau=1.0):
    op = Concrete(
        LayerChoice("edge", tuple(f"c{index}" for index in range(len(alpha)))), tau_max=tau
    ).double()
    with torch.no_grad():
        op.alpha.copy_(torch.tensor(alpha, dtype=torch.float64))
    return op


def shares(values):
    exponentials = [math.exp(value - max(values)) for value in values]
    return [each / sum(exponentials) for each in exponentials]


def relaxed(alpha, seed, tau):
    """softmax((log p + G) / τ) with the Gumbel noise G = −log E of the next draw, E exponential."""
    torch.manual_seed(seed)
    noise = [-math.log(each) for each in torch.empty(len(alpha), dtype=torch.float64).exponential_().tolist()]
    return shares([(math.log(p) + each) / tau for p, each in zip(shares(alpha), noise, strict=True)])


@pytest.mark.parametrize("tau", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_mixture_and_its_gradient_are_those_of_the_noise_that_was_drawn(seed, tau):
    z, op = relaxed(ALPHA, seed, tau), concrete(tau=tau)
    torch.manual_seed(seed)
    op.draw_noise()
    assert op.mixture().tolist() == pytest.approx(z, rel=1e-9)
    # L = Σ s_k z_k: ∂L/∂alpha_i = z_i (s_i − Σ_k z_k s_k) / τ, for shifts of all logits change nothing
    s = [2.0, -1.0, 0.5]
    (op.mixture() * torch.tensor(s, dtype=torch.float64)).sum().backward()
    mean = sum(one * other for one, other in zip(z, s, strict=True))
    expected = [one * (other - mean) / tau for one, other in zip(z, s, strict=True)]
    assert op.alpha.grad.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_cold_draws_are_one_hot_and_follow_the_softmax_of_alpha():
    op, count = concrete(tau=1e-4), 4_000
    torch.manual_seed(1)
    largest = []
    for _ in range(count):
        op.draw_noise()
        mixture = op.mixture()
        assert mixture.max() > 0.99 or mixture.sort().values[-2] > 0.01  # a tie within τ, at most
        largest.append(int(mixture.argmax()))
    drawn = Counter(largest)
    for index, p in enumerate(shares(ALPHA)):
        assert drawn[index] / count == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / count))


def test_weights_are_the_probabilities_and_evaluation_is_without_noise():
    op = concrete(tau=0.5)
    assert op.weights().tolist() == pytest.approx(shares(ALPHA), rel=1e-12)
    assert op.eval().mixture().tolist() == pytest.approx(shares([2 * each for each in ALPHA]), rel=1e-12)


def test_the_temperature_falls_linearly():
    op = Concrete(LayerChoice("edge", ("a", "b")), tau_max=2.0, tau_min=0.5)
    assert op.tau == 2
    for progress in (0.0, 0.25, 1.0):
        op.anneal(progress)
        assert op.tau == pytest.approx(2 - 1.5 * progress, rel=1e-12)


class Twice(nasframe.core.Space):
    """Two sites of one choice."""

    def build(self, filler):
        choice = LayerChoice("edge", ("a", "b"))
        return nn.Sequential(*(filler.layer(choice, lambda name: nn.Linear(2, 2)) for _ in range(2)))


def noises(model):
    """What is drawn in each pass of a model from now on."""
    seen = []
    ops = model.mixed_ops.values()
    model.network.register_forward_hook(lambda *_: seen.append([op.noise.tolist() for op in ops]))
    return seen


def test_sites_of_a_choice_share_a_draw_and_each_pass_has_its_own():
    model = nasframe.supernet(Twice(), "concrete")
    (op,), (one, two) = model.mixed_ops.values(), model.network
    seen, x = noises(model), torch.randn(3, 2)
    y = model(x)
    mixture = op.mixture()
    by_hand = x
    for site in (one, two):
        by_hand = sum(w * candidate(by_hand) for w, candidate in zip(mixture, site.candidates, strict=True))
    torch.testing.assert_close(y, by_hand)
    model(x)
    assert seen[0] != seen[1]
    model.eval()(x)
    assert seen[2] == seen[1]


@pytest.mark.parametrize("mixed_op", ["concrete", "dirichlet"])
def test_all_passes_of_a_second_order_step_see_the_same_draw(mixed_op):
    torch.manual_seed(0)
    model = nasframe.supernet(example_space(), mixed_op)
    seen = []
    buffer = {"concrete": "noise", "dirichlet": "drawn"}[mixed_op]
    model.network.register_forward_hook(
        lambda *_: seen.append([getattr(op, buffer).tolist() for op in model.mixed_ops.values()])
    )
    objective = objectives["cross_entropy"]()
    update = WeightUpdate(model, objective, torch.optim.SGD(model.parameters_at("lower"), lr=0.1))
    algorithm = algorithms["darts_bilevel"](model, objective, order=2)
    batch = Batch(torch.randn(8, 4), torch.arange(8) % 3)
    algorithm.upper_gradients(batch, batch, update)
    assert len(seen) == 4  # the virtual step, L_v there, and L_t at both sides
    assert all(each == seen[0] for each in seen)
    update(batch)
    update(batch)
    assert seen[4] == seen[0]  # the weight step of the pair; the next one differs
    assert seen[5] != seen[0]


@pytest.mark.parametrize("mixed_op", ["concrete", "dirichlet"])
def test_activations_that_are_computed_again_see_the_draw_of_their_own_pass(mixed_op):
    gradients = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        model = nasframe.supernet(example_space(), mixed_op, recomputed=recomputed)
        x = torch.randn(4, 4)
        torch.manual_seed(1)
        first = model(x).square().sum()
        second = model(2 * x).square().sum()  # draws again before the first goes backward
        first.backward()
        second.backward()
        gradients.append([each.grad for each in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
