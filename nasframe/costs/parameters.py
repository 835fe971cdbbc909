"""The size of a network."""

from typing import final

from torch import nn

from nasframe.core import Cost, Model, Task, costs


@costs.register("parameters")
@final
class Parameters(Cost):
    """Number of trainable parameters, each once.

    A module that stands as attribute ``auxiliary`` of another is not counted: such a head only
    helps in training.
    """

    def of(self, model: Model, task: Task) -> float:
        heads = [getattr(module, "auxiliary", None) for module in model.modules()]
        left_out = {
            id(parameter) for head in heads if isinstance(head, nn.Module) for parameter in head.parameters()
        }
        return sum(
            parameter.numel()
            for parameter in model.parameters()
            if parameter.requires_grad and id(parameter) not in left_out
        )
