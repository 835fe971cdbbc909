"""The β-decay regularizer against an independent computation in float64.

Ye, Li, Li, Chen and Ouyang, CVPR 2022 (arXiv 2203.01665).
"""

import math

import pytest
import torch

import nasframe
from nasframe.core import Batch, Regularized, WeightUpdate, algorithms, objectives
from nasframe.errors import UnsupportedError
from nasframe.regularizers.beta_decay import BetaDecay
from nasframe.testing import example_space


def _supernet(mixed_op="softmax"):
    torch.manual_seed(0)
    model = nasframe.supernet(example_space(), mixed_op).double()
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.copy_(torch.randn(alpha.shape))
    return model


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("mixed_op", ["softmax", "concrete"])
def test_it_is_the_mean_of_the_smooth_maxima_by_a_weight_that_grows(progress, mixed_op):
    model = _supernet(mixed_op)
    alphas = [alpha.tolist() for alpha in model.parameters_at("upper")]
    maxima = [math.log(sum(math.exp(each) for each in alpha)) for alpha in alphas]
    term = BetaDecay(model, max_weight=50)(progress)
    assert term.item() == pytest.approx(50 * progress * sum(maxima) / len(maxima), rel=1e-9)
    term.backward()
    for parameter, alpha in zip(model.parameters_at("upper"), alphas, strict=True):
        total = sum(math.exp(each) for each in alpha)
        slopes = [50 * progress * math.exp(each) / total / len(alphas) for each in alpha]
        assert parameter.grad.tolist() == pytest.approx(slopes, rel=1e-9)


@pytest.mark.parametrize("settings", [{}, {"order": 2}, {"order": 2, "hessian": "exact"}], ids=str)
def test_the_gradient_of_a_step_is_that_of_the_loss_plus_its_own_at_the_epoch(settings):
    model, found = _supernet(), {}
    batch = Batch(torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3)
    objective = Regularized(objectives["cross_entropy"](), model, [("beta_decay", BetaDecay(model))])
    update = WeightUpdate(model, objective, torch.optim.SGD(model.parameters_at("lower"), lr=0.1))
    algorithm = algorithms["darts_bilevel"](model, objective, **settings)
    for epoch in (0, 2):
        model.anneal(epoch / 8)
        found[epoch] = algorithm.upper_gradients(batch, batch, update)
    ops = model.mixed_ops.values()
    for op, first, third in zip(ops, found[0], found[2], strict=True):
        p = torch.softmax(op.alpha.detach(), 0)  # of 50 × 2/8 × mean
        torch.testing.assert_close(third - first, 12.5 * p / len(ops), rtol=1e-7, atol=1e-9)


def test_it_is_recorded_with_its_weight():
    model = _supernet()
    objective = Regularized(objectives["cross_entropy"](), model, [("beta_decay", BetaDecay(model))] * 2)
    model.anneal(0.5)
    terms = [math.log(sum(map(math.exp, alpha.tolist()))) for alpha in model.parameters_at("upper")]
    assert objective.figures() == {"beta_decay": pytest.approx(2 * 25 * sum(terms) / len(terms))}


def test_gates_have_no_logits():
    with pytest.raises(UnsupportedError, match=r"must have a mixed op with logits.*Sigmoid"):
        BetaDecay(nasframe.supernet(example_space(), "sigmoid"))
