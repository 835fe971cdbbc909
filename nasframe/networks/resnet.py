"""Residual networks for small images."""

from collections import OrderedDict
from typing import final

import torch
from torch import nn

from nasframe.core import GlobalAveragePool, Task, networks
from nasframe.errors import UnsupportedError
from nasframe.types import PositiveInt


@networks.register("resnet")
def resnet(
    task: Task, *, channels: PositiveInt = 64, blocks: tuple[PositiveInt, ...] = (2, 2, 2, 2)
) -> nn.Module:
    """A residual network for small images (He et al. 2016, arXiv 1512.03385, section 4.2).

    A 3x3 convolution, then stages ``layer1``, ``layer2`` … of basic blocks (``conv1``, ``bn1``, ``conv2``,
    ``bn2``, and ``shortcut`` where the shape changes). The default is ResNet-18 without the first halvings.

    Args:
        task: What goes in and what comes out.
        channels: Of the first stage; each stage has twice those of the one before.
        blocks: Of each stage.
    """
    if len(task.input_shape) != 3:
        raise UnsupportedError(
            f"network resnet: inputs must be images (channels, height, width), got {task.input_shape}"
        )
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(task.input_shape[0], channels, 3, padding=1, bias=False),
        bn=nn.BatchNorm2d(channels),
        relu=nn.ReLU(),
    )
    width = channels
    for stage, depth in enumerate(blocks):
        stride, before = (1 if stage == 0 else 2), width
        width = channels * 2**stage
        first = BasicBlock(before, width, stride)
        parts[f"layer{stage + 1}"] = nn.Sequential(
            first, *(BasicBlock(width, width, 1) for _ in range(depth - 1))
        )
    parts["pool"] = GlobalAveragePool()
    parts["fc"] = nn.Linear(width, task.num_outputs)
    return nn.Sequential(parts)


@final
class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the input, or its projection.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        stride: Of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out_BCHW = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x_BCHW)))))
        out: torch.Tensor = self.relu(out_BCHW + self.shortcut(x_BCHW))
        return out
