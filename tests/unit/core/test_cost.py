"""What a cost can do besides pricing whole networks."""

import pytest
import torch
from torch import nn

from nasframe.core import Cost, on_meta
from nasframe.errors import UnsupportedError


class PeakMemory(Cost):
    """A cost that is no sum over parts."""

    def of(self, model, task):
        return 1.0


def test_a_cost_that_is_no_sum_over_parts_says_so():
    with pytest.raises(UnsupportedError, match="cost PeakMemory: must be a sum over the parts"):
        PeakMemory().of_call(nn.Identity(), torch.zeros(1))


def test_a_copy_on_meta_shares_what_the_original_shares_and_leaves_it_alone():
    network = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)])
    network[1].weight = network[0].weight
    network[0].bias.requires_grad_(False)
    copied = on_meta(network)
    assert all(tensor.device.type == "meta" for tensor in copied.state_dict().values())
    assert copied[1].weight is copied[0].weight
    assert [p.requires_grad for p in copied.parameters()] == [p.requires_grad for p in network.parameters()]
    assert not any(module.training for module in copied.modules())
    assert all(module.training for module in network.modules())
    assert all(tensor.device.type == "cpu" for tensor in network.state_dict().values())
