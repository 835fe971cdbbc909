"""Multiply-adds, against closed forms."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasframe.core import Model, Task, derived, generator_for, sample, spaces
from nasframe.costs.flops import Flops


def _count(network, shape, **settings):
    return Flops(**settings).of(Model(network), Task(shape))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(3, 8, 3), (3, 9, 7), 8 * 3 * 9 * (7 * 5)),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (3, 9, 7), 8 * 3 * 9 * (5 * 4)),
        (nn.Conv2d(8, 8, 5, padding=2, groups=8), (8, 6, 6), 8 * 25 * 36),
        (nn.Conv2d(8, 4, 3, padding=2, dilation=2, groups=2), (8, 6, 6), 4 * 4 * 9 * 36),
        (nn.Conv2d(4, 6, (1, 7), stride=(1, 2), padding=(0, 3)), (4, 5, 8), 6 * 4 * 7 * (5 * 4)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 5), 4 * 6 * 9 * 25),
        (nn.Conv1d(2, 3, 5), (2, 10), 3 * 2 * 5 * 6),
        (nn.Linear(7, 5), (7,), 35),
        (nn.Linear(7, 5, bias=False), (4, 7), 4 * 35),
    ],
    ids=str,
)
def test_layers_cost_their_closed_form(layer, shape, expected):
    assert _count(layer, shape) == expected


def test_products_in_functions_count_as_those_in_modules_do():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.ones(4, 2, 3, 3))

        def forward(self, x):
            y = functional.conv2d(x, self.kernel, padding=1).flatten(2)
            return y @ y.transpose(1, 2)

    assert _count(Functional(), (2, 5, 5)) == 4 * 2 * 9 * 25 + 4 * 4 * 25


def test_activations_poolings_and_additions_cost_nothing():
    network = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Sigmoid())
    assert _count(network, (3, 8, 8)) == 0


BIASED = nn.Sequential(
    nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5), nn.LayerNorm(5)
)
PRODUCTS = 4 * 3 * 9 * 36 + 4 * 36 * 5


@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        ({}, 0),
        ({"bias": True}, 4 * 36 + 5),
        ({"norm": True}, 4 * 36 + 5),
        ({"bias": True, "norm": True}, 2 * (4 * 36 + 5)),
    ],
)
def test_conventions_add_what_they_say(settings, extra):
    assert _count(BIASED, (3, 8, 8), **settings) == PRODUCTS + extra


def test_bias_counts_only_where_there_is_one():
    layers = [nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 36, 5, bias=False)]
    assert _count(nn.Sequential(*layers), (3, 8, 8), bias=True) == PRODUCTS
    assert _count(nn.ConvTranspose2d(2, 3, 3), (2, 4, 4), bias=True) == 2 * 3 * 9 * 16 + 3 * 36


def test_what_only_training_computes_is_not_counted():
    task = Task((3, 16, 16), 5)
    small = {"channels": 4, "cells": 3, "nodes": 2}
    genotype = sample(spaces["darts"](task, **small), generator_for(0))
    with_head = derived(spaces["darts"](task, **small, auxiliary=True), genotype)
    without = derived(spaces["darts"](task, **small), genotype)
    assert Flops().of(with_head, task) == Flops().of(without, task) > 0


def test_counting_leaves_a_model_in_its_mode_and_on_its_device():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    _count(network, (3, 8, 8))
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
