"""The mean over a map."""

from typing import final

import torch
from torch import nn


def global_average_pool(x_BCHW: torch.Tensor) -> torch.Tensor:
    """The mean of each channel over its map, B C.

    As a quotient of a sum, because PyTorch 2.13 hands back the gradient of a mean in NCHW, whatever lies in
    memory: batch norms and convolutions before it then mix memory formats, at many times their cost.
    """
    return x_BCHW.sum(dim=(2, 3)) / (x_BCHW.shape[2] * x_BCHW.shape[3])


@final
class GlobalAveragePool(nn.Module):
    """The mean of each channel over its map, B C; see `global_average_pool`."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return global_average_pool(x_BCHW)
