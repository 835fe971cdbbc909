"""A small network for text."""

from typing import final

import torch
from torch import nn

from nasframe.core import Task, networks
from nasframe.errors import UnsupportedError
from nasframe.types import NonNegativeInt, PositiveInt


@networks.register("text_mixer")
@final
class TextMixer(nn.Module):
    """Embedded tokens, layers of features at each token, their mean over the text, a linear classifier.

    ``embedding``, then ``layers.0`` … with the input added to each (He et al. 2016), ``norm`` and ``head``.

    Args:
        features: Of each token.
        depth: Layers.
    """

    def __init__(self, task: Task, *, features: PositiveInt = 64, depth: NonNegativeInt = 2) -> None:
        super().__init__()
        if task.vocabulary is None or len(task.input_shape) != 1:
            raise UnsupportedError(
                "network text_mixer: inputs must be tokens of a vocabulary, one row a text, but are of shape "
                f"{task.input_shape} and no tokens; take data that are text"
            )
        self.embedding = nn.Embedding(task.vocabulary, features)
        self.layers = nn.ModuleList(nn.Linear(features, features) for _ in range(depth))
        self.norm = nn.LayerNorm(features)
        self.head = nn.Linear(features, task.num_outputs)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        x_BTF = self.embedding(tokens_BT)
        for layer in self.layers:
            x_BTF = x_BTF + torch.relu(layer(x_BTF))
        out: torch.Tensor = self.head(self.norm(x_BTF.mean(1)))
        return out
