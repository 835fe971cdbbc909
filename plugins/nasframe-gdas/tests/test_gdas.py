"""The equations of GDAS against an independent computation in float64."""

import math
from collections import Counter

import pytest
import torch
from torch import nn

import nasframe
from nasframe.core import InputChoice, LayerChoice
from nasframe.testing import example_space
from nasframe_gdas.gdas import Gdas

ALPHA = [0.3, -1.2, 0.7]
X = torch.tensor([2.0, -1.0], dtype=torch.float64)


class Power(nn.Module):
    """x ↦ a xⁿ, and how often it was computed."""

    def __init__(self, power):
        super().__init__()
        self.power, self.calls = power, 0
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        self.calls += 1
        return self.factor * x**self.power


def powers():
    return [Power(1), Power(2), Power(3)]


def gdas(alpha, *, choice=None, tau=1.0, **settings):
    names = tuple(map(str, range(len(alpha))))
    op = Gdas(choice or LayerChoice("edge", names), tau_max=tau, **settings).double()
    with torch.no_grad():
        op.alpha.copy_(torch.tensor(alpha, dtype=torch.float64))
    return op


def noise(seed, count):
    """The Gumbel noise of the next draw, −log E with E exponential."""
    torch.manual_seed(seed)
    return [-math.log(each) for each in torch.empty(count, dtype=torch.float64).exponential_().tolist()]


def shares(values):
    exponentials = [math.exp(value - max(values)) for value in values]
    return [each / sum(exponentials) for each in exponentials]


def soft_weights(alpha, drawn, tau):
    """h = softmax((log p + o) / τ)."""
    logs = [math.log(p) for p in shares(alpha)]
    return shares([(log + each) / tau for log, each in zip(logs, drawn, strict=True)])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_gradients_are_those_of_the_soft_weight_at_the_drawn_noise(seed, tau):
    # L = Σ_x y(x): ∂L/∂a_i = Σ_x o_k(x) · h_k (δ_ik − h_i) / τ
    h = soft_weights(ALPHA, noise(seed, 3), tau)
    k = h.index(max(h))
    op, candidates, x = gdas(ALPHA, tau=tau), powers(), X.clone().requires_grad_()
    torch.manual_seed(seed)
    op(candidates, x).sum().backward()
    total = sum(value ** (k + 1) for value in X.tolist())
    expected = [total * h[k] * ((i == k) - h[i]) / tau for i in range(3)]
    assert op.alpha.grad.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    # weights and inputs get the gradient of the drawn candidate alone, unscaled
    assert candidates[k].factor.grad.item() == pytest.approx(total, rel=1e-12)
    assert x.grad.tolist() == pytest.approx([(k + 1) * value**k for value in X.tolist()], rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_drawn_candidate_runs_alone_and_its_output_is_unchanged_to_the_last_bit(seed):
    h = soft_weights(ALPHA, noise(seed, 3), 1.0)
    k = h.index(max(h))
    op, candidates = gdas(ALPHA), powers()
    torch.manual_seed(seed)
    assert torch.equal(op(candidates, X), X ** (k + 1))
    assert [candidate.calls for candidate in candidates] == [int(index == k) for index in range(3)]


@pytest.mark.parametrize("tau", [0.1, 10.0])
def test_draws_follow_the_softmax_of_alpha_whatever_the_temperature(tau):
    op, count = gdas(ALPHA, tau=tau), 4_000
    torch.manual_seed(1)
    with torch.no_grad():
        drawn = Counter(op([lambda index=index: index for index in range(3)]).item() for _ in range(count))
    for index, p in enumerate(shares(ALPHA)):
        assert drawn[index] / count == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / count))


def test_a_choice_that_keeps_two_candidates_draws_two_different_ones():
    choice = InputChoice("merge", ("0", "1", "2"), num_chosen=2)
    h = soft_weights(ALPHA, noise(3, 3), 1.0)
    first, second = sorted(range(3), key=lambda index: -h[index])[:2]
    candidates = powers()
    op = gdas(ALPHA, choice=choice)
    torch.manual_seed(3)
    output = op(candidates, X)
    assert output.tolist() == pytest.approx([v ** (first + 1) + v ** (second + 1) for v in X.tolist()])
    assert sum(candidate.calls for candidate in candidates) == 2


def test_the_temperature_falls_linearly_from_ten_to_a_tenth():
    op = Gdas(LayerChoice("edge", ("a", "b")))
    assert op.tau == 10
    for progress in (0.0, 0.25, 0.5, 1.0):
        op.anneal(progress)
        assert op.tau == pytest.approx(10 - 9.9 * progress, rel=1e-12)


def test_the_temperature_falls_at_every_site_of_a_supernet():
    model = nasframe.supernet(example_space(), Gdas)
    model.anneal(0.5)
    assert {op.tau for op in model.mixed_ops.values()} == {5.05}


def test_evaluation_runs_the_most_likely_candidate_that_may_be_kept_without_a_draw():
    choice = LayerChoice("edge", ("none", "square", "cube"), search_only=("none",))
    op, candidates, state = gdas([5.0, 0.1, 0.2], choice=choice).eval(), powers(), torch.get_rng_state()
    assert torch.equal(op(candidates, X), X**3)
    assert [candidate.calls for candidate in candidates] == [0, 0, 1]
    assert torch.equal(state, torch.get_rng_state())


def test_a_backward_pass_over_weights_alone_leaves_alpha_without_a_gradient():
    op, candidates = gdas(ALPHA), powers()
    op(candidates, X).sum().backward(inputs=[candidate.factor for candidate in candidates])
    assert op.alpha.grad is None
    assert sum(candidate.factor.grad is not None for candidate in candidates) == 1
