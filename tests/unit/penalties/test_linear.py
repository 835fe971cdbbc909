"""The linear penalty."""

import pytest
import torch

from nasframe.core import CostScale
from nasframe.penalties.linear import Linear


def test_the_average_network_pays_the_weight():
    penalty = Linear(CostScale(1.0, 40.0, {}), weight=0.3)
    assert penalty(torch.tensor(2.0), torch.tensor(40.0)).item() == pytest.approx(2.3)
    assert penalty(torch.tensor(2.0), torch.tensor(10.0)).item() == pytest.approx(2.075)


def test_what_costs_nothing_is_not_paid_for():
    assert Linear(CostScale(0.0, 0.0, {}))(torch.tensor(2.0), torch.tensor(0.0)).item() == 2.0


def test_it_allows_any_cost():
    assert Linear(CostScale(1.0, 40.0, {})).max_cost is None
