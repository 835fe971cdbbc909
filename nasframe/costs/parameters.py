"""The size of a network."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, final

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from nasframe.core import COUNT_UNITS, Cost, Model, Task, costs


@costs.register("parameters")
@final
class Parameters(Cost):
    """Number of trainable parameters, each once.

    A module that stands as attribute ``auxiliary`` of another is not counted: such a head only
    helps in training.

    Args:
        bias: Whether the biases of convolutions and linear layers count.
        norm: Whether the parameters of normalizations count.
    """

    units: ClassVar[Mapping[str, float]] = COUNT_UNITS

    def __init__(self, *, bias: bool = True, norm: bool = True) -> None:
        self._bias, self._norm = bias, norm

    def of(self, model: Model, task: Task) -> float:
        return self.of_call(model)

    def of_call(self, module: nn.Module, *args: Any, **kwargs: Any) -> float:
        left_out = {id(parameter) for parameter in self._left_out(module)}
        return sum(
            parameter.numel()
            for parameter in module.parameters()
            if parameter.requires_grad and id(parameter) not in left_out
        )

    def _left_out(self, module: nn.Module) -> Iterator[nn.Parameter]:
        for part in module.modules():
            head = getattr(part, "auxiliary", None)
            if isinstance(head, nn.Module):
                yield from head.parameters()
            if not self._norm and isinstance(part, (_NormBase, nn.LayerNorm, nn.GroupNorm)):
                yield from part.parameters(recurse=False)
            bias = getattr(part, "bias", None)
            is_layer = isinstance(part, (nn.Linear, nn.modules.conv._ConvNd))
            if not self._bias and is_layer and isinstance(bias, nn.Parameter):
                yield bias
