"""The multiplied penalty against the formula of ProxylessNAS's code."""

import math

import pytest
import torch

from nasframe.core import CostScale, costs
from nasframe.errors import UnsupportedError
from nasframe.penalties.mul_log import MulLog

SCALE = CostScale(cheapest=20.0, average=90.0, units=costs["latency"].units)


def test_it_is_the_formula_of_the_authors_code():
    loss = torch.tensor(2.5, dtype=torch.float64)
    cost = torch.tensor(65.0, dtype=torch.float64)
    found = MulLog(SCALE, reference="80 ms", alpha=0.2, beta=0.3)(loss, cost)
    assert found.item() == pytest.approx(0.2 * 2.5 * (math.log(65) / math.log(80)) ** 0.3, rel=1e-12)
    assert MulLog(SCALE, reference=65)(loss, cost).item() == pytest.approx(0.2 * 2.5, rel=1e-12)


def test_its_gradient_in_loss_and_cost_is_right():
    penalty = MulLog(SCALE, reference=80.0, alpha=1.0, beta=0.6)
    values = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (2.5, 65.0)]
    assert torch.autograd.gradcheck(penalty, values)


@pytest.mark.parametrize(("cheapest", "reference"), [(20.0, "0.9 ms"), (0.8, 80.0)])
def test_costs_whose_logarithm_turns_the_formula_round_are_refused(cheapest, reference):
    with pytest.raises(UnsupportedError, match="must cost more than 1"):
        MulLog(CostScale(cheapest, 90.0, SCALE.units), reference=reference)
