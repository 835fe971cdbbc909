"""Which weights decay, by what they are."""

import torch
from torch import nn

from nasframe.core import Model, decay_groups


def _network():
    return nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "batch": nn.BatchNorm2d(4),
            "layer": nn.LayerNorm([4, 5]),  # with weights of two dimensions
            "group": nn.GroupNorm(2, 4),
            "linear": nn.Linear(4, 2),
            "embedding": nn.Embedding(7, 2),
            "relu": nn.PReLU(),
        }
    )


DECAYED = {"conv.weight", "linear.weight", "embedding.weight"}


def test_matrices_and_kernels_decay_and_norms_and_biases_do_not():
    network = _network()
    names = {parameter: name for name, parameter in network.named_parameters()}
    first, second = decay_groups(network, list(network.parameters()))
    assert {names[weight] for weight in first["params"]} == DECAYED
    assert (second["weight_decay"], "weight_decay" in first) == (0.0, False)
    assert len(first["params"]) + len(second["params"]) == len(names)
    assert {names[weight] for weight in second["params"]} == set(names.values()) - DECAYED


def test_the_groups_hold_what_they_are_given_and_no_group_is_empty():
    network = _network()
    (only,) = decay_groups(network, [network["linear"].weight])
    assert only == {"params": [network["linear"].weight]}
    (only,) = decay_groups(Model(network), [network["linear"].bias])
    assert (only["params"], only["weight_decay"]) == ([network["linear"].bias], 0.0)


def test_a_step_without_gradients_shrinks_matrices_alone():
    network = _network()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.SGD(decay_groups(network, network.parameters()), lr=0.5, weight_decay=0.2)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in network.named_parameters():
        torch.testing.assert_close(value, before[name] * (0.9 if name in DECAYED else 1.0))
