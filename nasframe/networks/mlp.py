"""Networks of fully connected layers."""

import math
from collections import OrderedDict

from torch import nn

from nasframe.core import Task, networks
from nasframe.types import NonNegativeInt, PositiveInt, ProperFraction


@networks.register("mlp")
def mlp(
    task: Task, *, features: PositiveInt = 128, depth: NonNegativeInt = 3, dropout: ProperFraction = 0.0
) -> nn.Module:
    """Fully connected layers with ReLU and dropout: ``stem``, then ``hidden1`` …, then ``head``.

    Args:
        task: What goes in and what comes out.
        features: Of each hidden layer.
        depth: Hidden layers after the stem.
        dropout: Share of the features that are left out in training, after each ReLU.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        flatten=nn.Flatten(), stem=nn.Linear(math.prod(task.input_shape), features), relu0=nn.ReLU()
    )
    for index in range(1, depth + 1):
        parts[f"dropout{index}"] = nn.Dropout(dropout)
        parts[f"hidden{index}"] = nn.Linear(features, features)
        parts[f"relu{index}"] = nn.ReLU()
    parts["head"] = nn.Linear(features, task.num_outputs)
    return nn.Sequential(parts)
