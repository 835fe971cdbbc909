"""The Dirichlet mixtures and the anchor of DrNAS against independent computations in float64.

Chen, Wang, Cheng, Tang and Hsieh, ICLR 2021 (arXiv 2006.10355).
"""

import math

import pytest
import torch
from scipy import special
from torch.distributions import Dirichlet, kl_divergence
from torch.nn import functional

import nasframe
from nasframe.core import LayerChoice, strongest
from nasframe.mixed_ops.dirichlet import DirichletMixture
from nasframe.regularizers.dirichlet_anchor import DirichletAnchor
from nasframe.testing import example_space


def dirichlet(alpha):
    op = DirichletMixture(LayerChoice("edge", tuple(f"c{index}" for index in range(len(alpha))))).double()
    with torch.no_grad():
        op.alpha.copy_(torch.tensor(alpha, dtype=torch.float64))
    return op


def elu_plus_one(alpha):
    return alpha + 1 if alpha > 0 else math.exp(alpha)


def test_the_second_stage_has_the_half_of_the_largest_alphas():
    # the authors rank by the softmax of alpha, here the mean of the distribution does; both rise with alpha
    choice = LayerChoice("edge", tuple("abcdefgh"))
    for seed in range(5):
        alpha = torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        kept = strongest({"edge": choice}, {"edge": dirichlet(alpha.tolist()).weights().tolist()}, 4)
        assert set(kept["edge"]) == {"abcdefgh"[index] for index in alpha.topk(4).indices.tolist()}


def test_the_recipe_carries_weights_and_alphas_over_and_goes_on_with_its_schedule():
    first, second = nasframe.load_recipe("digits_drnas", check=False).search.stages
    assert (first.keep, second.keep, second.inherits) == (None, 4, ("weights", "alphas"))
    rates = []
    for stage in (first, second):
        epochs, schedule = stage.trainer.settings["epochs"], stage.trainer.settings["schedule"]()
        rates += [schedule(0.1, epoch, epochs) for epoch in range(epochs)]
    low = 1e-3
    cosine = [
        low + (0.1 - low) * (1 + math.cos(math.pi * epoch / len(rates))) / 2 for epoch in range(len(rates))
    ]
    assert rates == pytest.approx(cosine)


@pytest.mark.parametrize("alpha", [[0.0, 0.0], [0.8, -0.5], [-1.5, 2.0]])
@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_of_two_candidates_is_that_of_the_quantile(alpha, seed):
    # θ_1 ~ Beta(a, b) is the quantile of a uniform u: dθ/da = −(∂F/∂a) / f with F the cumulative
    # distribution (the incomplete beta function) and f the density; alike for b
    op = dirichlet(alpha)
    torch.manual_seed(seed)
    op.draw_noise()
    mixture = op.mixture()
    (mixture[0] - 3 * mixture[1]).backward()  # = 4 θ_1 − 3
    a, b = map(elu_plus_one, alpha)
    theta, h = mixture[0].item(), 1e-5
    density = math.exp((a - 1) * math.log(theta) + (b - 1) * math.log(1 - theta) - special.betaln(a, b))
    slopes = [
        (special.betainc(a + h, b, theta) - special.betainc(a - h, b, theta)) / (2 * h),
        (special.betainc(a, b + h, theta) - special.betainc(a, b - h, theta)) / (2 * h),
    ]
    outer = [1.0 if each > 0 else math.exp(each) for each in alpha]  # derivative of elu
    expected = [4 * -slope / density * each for slope, each in zip(slopes, outer, strict=True)]
    assert op.alpha.grad.tolist() == pytest.approx(expected, rel=1e-4)


def test_draws_and_gradients_are_those_of_the_distribution():
    alpha = torch.tensor([0.4, -0.7, 1.3, 0.0], dtype=torch.float64, requires_grad=True)
    op, s = dirichlet(alpha.tolist()), torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    torch.manual_seed(3)
    op.draw_noise()
    (op.mixture() * s).sum().backward()
    torch.manual_seed(3)
    theta = Dirichlet(functional.elu(alpha) + 1).rsample()
    (theta * s).sum().backward()
    torch.testing.assert_close(op.mixture(), theta)
    torch.testing.assert_close(op.alpha.grad, alpha.grad)


def test_the_mean_gradient_of_a_square_is_that_of_its_mean():
    # E[θ_1²] = β_1 (β_1 + 1) / (Σβ (Σβ + 1))
    alpha, count = [0.5, 0.0, 1.0], 1_500
    op = dirichlet(alpha)
    torch.manual_seed(0)
    found = []
    for _ in range(count):
        op.draw_noise()
        found.append(torch.autograd.grad(op.mixture()[0].square(), op.alpha)[0])
    gradients = torch.stack(found)
    beta = torch.tensor([elu_plus_one(each) for each in alpha], dtype=torch.float64, requires_grad=True)
    mean = beta[0] * (beta[0] + 1) / (beta.sum() * (beta.sum() + 1))
    (expected,) = torch.autograd.grad(mean, beta)  # elu has slope 1 at these alphas
    error = 5 * gradients.std(0) / math.sqrt(count)
    assert bool(((gradients.mean(0) - expected).abs() < error).all())


def test_weights_and_evaluation_are_the_mean():
    op = dirichlet([1.0, -1.0, 0.0])
    beta = [2.0, math.exp(-1), 1.0]
    expected = [each / sum(beta) for each in beta]
    assert op.weights().tolist() == pytest.approx(expected, rel=1e-12)
    assert op.eval().mixture().tolist() == pytest.approx(expected, rel=1e-12)


def test_extreme_alphas_stay_finite():
    op = dirichlet([-60.0, 0.0, 60.0]).float()
    for seed in range(20):
        torch.manual_seed(seed)
        op.draw_noise()
        (gradient,) = torch.autograd.grad(op.mixture().square().sum(), op.alpha)
        assert op.mixture().isfinite().all()
        assert gradient.isfinite().all()


def _anchored(**settings):
    torch.manual_seed(0)
    model = nasframe.supernet(example_space(), "dirichlet").double()
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.copy_(torch.randn(alpha.shape))
    alphas = [alpha.tolist() for alpha in model.parameters_at("upper")]
    return model, alphas, DirichletAnchor(model, **settings)


def test_the_anchor_is_half_the_squared_distance_from_one():
    model, alphas, anchor = _anchored(weight=0.3)
    expected = 0.3 * sum((elu_plus_one(each) - 1) ** 2 / 2 for alpha in alphas for each in alpha)
    assert anchor(0.4).item() == pytest.approx(expected, rel=1e-9)
    anchor(0.4).backward()
    for parameter, alpha in zip(model.parameters_at("upper"), alphas, strict=True):
        # as a weight decay of alpha has where alpha is positive
        slopes = [0.3 * (each if each > 0 else (math.exp(each) - 1) * math.exp(each)) for each in alpha]
        assert parameter.grad.tolist() == pytest.approx(slopes, rel=1e-9)


def test_the_divergence_is_that_of_the_distributions():
    model, _, anchor = _anchored(weight=0.3, distance="kl")
    total = sum(
        kl_divergence(Dirichlet(op.concentration()), Dirichlet(torch.ones_like(op.alpha)))
        for op in model.mixed_ops.values()
    )
    torch.testing.assert_close(anchor(0.0), 0.3 * total)


@pytest.mark.parametrize("distance", ["l2", "kl"])
def test_nothing_is_paid_where_all_mixtures_are_equally_probable(distance):
    model = nasframe.supernet(example_space(), "dirichlet").double()
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.zero_()
    anchor = DirichletAnchor(model, distance=distance)
    assert anchor(1.0).item() == pytest.approx(0, abs=1e-12)
