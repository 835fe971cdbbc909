import math

import pytest
import torch
from torch import nn

from nasframe.core import LayerChoice, MixedLayer
from nasframe.mixed_ops.softmax import Softmax
from nasframe.ops.zero import Zero

NAMES = ("none", "square", "cube")


class _Counted(nn.Module):
    """x ↦ a xⁿ, and how often it was computed."""

    def __init__(self, power, factor=1.0):
        super().__init__()
        self.power, self.calls = power, 0
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x):
        self.calls += 1
        return self.factor * x**self.power


class _Nothing(nn.Module):
    always_zero = True

    def forward(self, x):
        raise AssertionError("it is always zero, so that it need not be computed")


def _mixed(alpha, names=NAMES):
    mixed_op = Softmax(LayerChoice("edge", names)).double()
    with torch.no_grad():
        mixed_op.alpha.copy_(torch.tensor(alpha, dtype=torch.float64))
    return mixed_op


ALPHA = [0.3, -1.2, 0.7]
X = torch.tensor([2.0, -1.0], dtype=torch.float64)


def _shares(alpha):
    exponentials = [math.exp(each) for each in alpha]
    return [each / sum(exponentials) for each in exponentials]


def test_weights_are_the_softmax_of_alpha():
    assert _mixed(ALPHA).weights().tolist() == pytest.approx(_shares(ALPHA), rel=1e-12)


def test_the_mixture_is_the_sum_of_the_candidates_by_their_weights():
    candidates = [_Counted(1, 5.0), _Counted(2), _Counted(3)]
    p = _shares(ALPHA)
    expected = [p[0] * 5 * x + p[1] * x**2 + p[2] * x**3 for x in X.tolist()]
    assert _mixed(ALPHA)(candidates, X).tolist() == pytest.approx(expected, rel=1e-12)


def test_a_candidate_that_is_always_zero_takes_its_share_without_being_computed():
    candidates = [_Nothing(), _Counted(2), _Counted(3)]
    p = _shares(ALPHA)
    expected = [p[1] * x**2 + p[2] * x**3 for x in X.tolist()]
    assert _mixed(ALPHA)(candidates, X).tolist() == pytest.approx(expected, rel=1e-12)
    assert [candidate.calls for candidate in candidates[1:]] == [1, 1]


@pytest.mark.parametrize("zero_first", [False, True])
def test_gradients_are_those_of_the_formula(zero_first):
    # L = Σ_x y(x):  ∂L/∂a_i = p_i (s_i − Σ_j p_j s_j) with s_i = Σ_x o_i(x);  ∂L/∂factor_i = p_i s_i
    candidates = [_Nothing() if zero_first else _Counted(1), _Counted(2), _Counted(3)]
    mixed_op, p = _mixed(ALPHA), _shares(ALPHA)
    x = X.clone().requires_grad_()
    mixed_op(candidates, x).sum().backward()
    sums = [0.0 if zero_first else sum(X.tolist()), *(sum(v**n for v in X.tolist()) for n in (2, 3))]
    mean = sum(share * each for share, each in zip(p, sums, strict=True))
    expected = [share * (each - mean) for share, each in zip(p, sums, strict=True)]
    assert mixed_op.alpha.grad.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-14)
    for share, each, candidate in zip(p[1:], sums[1:], candidates[1:], strict=True):
        assert candidate.factor.grad.item() == pytest.approx(share * each, rel=1e-12)
    of_x = [(0 if zero_first else p[0]) + 2 * p[1] * v + 3 * p[2] * v**2 for v in X.tolist()]
    assert x.grad.tolist() == pytest.approx(of_x, rel=1e-12)


def test_a_site_with_nothing_but_zero_is_zero():
    site = MixedLayer(_mixed([0.0], ("none",)), [Zero(3, 3, 2, True)])
    assert torch.equal(site(torch.ones(2, 3, 4, 4)), torch.zeros(2, 3, 2, 2))


def test_sites_of_one_choice_add_up_in_the_gradient_of_their_alpha():
    mixed_op = _mixed(ALPHA)
    apart = []
    for powers in ((1, 2, 3), (2, 0, 1)):
        output = mixed_op([_Counted(power) for power in powers], X).sum()
        apart.append(torch.autograd.grad(output, mixed_op.alpha)[0])
    first, second = ([_Counted(power) for power in powers] for powers in ((1, 2, 3), (2, 0, 1)))
    (mixed_op(first, X).sum() + mixed_op(second, X).sum()).backward()
    torch.testing.assert_close(mixed_op.alpha.grad, sum(apart))


def test_the_initial_alpha_is_drawn_around_zero_with_the_given_deviation():
    choice = LayerChoice("edge", tuple(map(str, range(4000))))
    torch.manual_seed(0)
    alpha = Softmax(choice, init_std=0.5).alpha.detach()
    # of 4000 draws, the mean errs by 0.5/√4000 and the deviation by 0.5/√8000: five times that
    assert abs(alpha.mean().item()) < 5 * 0.5 / math.sqrt(4000)
    assert alpha.std().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(8000))
    assert Softmax(choice, init_std=0.0).alpha.count_nonzero() == 0
    assert Softmax(choice).alpha.detach().abs().max() < 6e-3


def test_very_unequal_alphas_stay_finite():
    weights = _mixed([1e4, 0.0, -1e4]).weights()
    assert weights.tolist() == [1.0, 0.0, 0.0]
