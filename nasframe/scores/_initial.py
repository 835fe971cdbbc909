"""What scores of networks at initialization have in common."""

from collections.abc import Sequence

import torch
from torch import nn

from nasframe.core import Genotype, Model, Testbed

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def weights_of(model: Model) -> list[nn.Parameter]:
    """The weights of the convolutions and linear layers, each once, without biases."""
    layers = [each for each in model.modules() if isinstance(each, _LAYERS)]
    return list(dict.fromkeys(layer.get_parameter("weight") for layer in layers))


def loss_gradients(
    testbed: Testbed, genotype: Genotype, batch_size: int
) -> tuple[list[nn.Parameter], list[torch.Tensor]]:
    """The weights of a network in training, and the gradient of the loss of one batch in each of them."""
    model = testbed.network(genotype).train()
    weights, batch = weights_of(model), next(testbed.batches(batch_size).epoch(0))
    loss = testbed.objective.loss(model(batch.inputs), batch.targets)
    return weights, gradients(loss, weights)


def gradients(output: torch.Tensor, weights: Sequence[nn.Parameter]) -> list[torch.Tensor]:
    """The gradient of a scalar in each weight; zeros where it does not depend on one."""
    return list(torch.autograd.grad(output, weights, allow_unused=True, materialize_grads=True))
