import torch
from torch import nn

from nasframe.core import Model, Task
from nasframe.costs.parameters import Parameters


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.auxiliary = nn.Linear(7, 5)
        self.classifier = nn.Linear(4, 10)


CONVOLUTION, NORM, LINEAR = 3 * 4 * 9 + 4, 2 * 4, 4 * 10 + 10


def _count(network):
    return Parameters().of(Model(network), Task())


def test_weights_are_counted_and_those_of_an_auxiliary_head_are_not():
    assert _count(_Network()) == CONVOLUTION + NORM + LINEAR


def test_an_auxiliary_head_is_found_at_any_depth():
    assert _count(nn.Sequential(_Network(), nn.Linear(2, 3))) == CONVOLUTION + NORM + LINEAR + 9


def test_a_head_that_is_switched_off_is_no_obstacle():
    network = _Network()
    network.auxiliary = None
    assert _count(network) == CONVOLUTION + NORM + LINEAR


def test_frozen_parameters_are_not_counted_and_shared_ones_once():
    network = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)])
    network[1].weight = network[0].weight
    network[2].requires_grad_(False)
    assert _count(network) == 16 + 4 + 4


def test_a_network_without_parameters_costs_nothing():
    assert _count(nn.Flatten()) == 0


def test_nothing_is_computed_so_that_networks_on_meta_can_be_counted():
    with torch.device("meta"):
        network = nn.Linear(1000, 1000)
    assert _count(network) == 1_001_000


def test_conventions_leave_out_biases_and_normalizations():
    def count(**settings):
        return Parameters(**settings).of(Model(_Network()), Task())

    assert count(bias=False) == CONVOLUTION - 4 + NORM + LINEAR - 10
    assert count(norm=False) == CONVOLUTION + LINEAR
    assert count(bias=False, norm=False) == CONVOLUTION - 4 + LINEAR - 10
