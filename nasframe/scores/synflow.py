"""SynFlow: how much flows through a network, without data."""

from typing import final

import torch
from torch import nn

from nasframe.core import Genotype, Model, Score, Testbed, scores, tensors_of
from nasframe.scores._initial import gradients, weights_of


@scores.register("synflow")
@final
class SynFlow(Score):
    """Σ |θ ∂R/∂θ| with R = 1ᵀ f(1; |θ|) (Tanaka et al. 2020, arXiv 2006.05467).

    R is the sum of the outputs for an input of ones, with every parameter replaced by its absolute value
    and batch norms that pass their input on. The sum is over the weights of convolutions and linear
    layers, as Abdelfattah et al. 2021 (arXiv 2101.08134) score architectures by. In float64, because it
    grows exponentially with depth.
    """

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        model = self._testbed.network(genotype).double().eval()
        _linearize(model)
        ones = torch.ones(
            1, *self._testbed.task.input_shape, dtype=torch.float64, device=self._testbed.device
        )
        weights = weights_of(model)
        flows = gradients(tensors_of(model(ones))[0].sum(), weights)
        pairs = zip(weights, flows, strict=True)
        return float(sum((weight.detach() * flow).abs().sum() for weight, flow in pairs))


@torch.no_grad()
def _linearize(model: Model) -> None:
    """Positive parameters; batch norms in evaluation mode that return (x − 0) / √(1 − ε + ε)."""
    for parameter in model.parameters():
        parameter.abs_()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
            module.running_var.fill_(1 - module.eps)
