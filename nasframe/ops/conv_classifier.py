"""The end of a mobile network."""

from typing import final

import torch
from torch import nn

from nasframe.core import global_average_pool
from nasframe.ops.conv_bn import conv_bn


@final
class ConvClassifier(nn.Module):
    """1x1 convolution with batch norm and activation, mean over the map, linear layer (MobileNetV2).

    Args:
        in_channels: Channels of the map.
        features: Channels after the convolution.
        num_outputs: Length of the output.
        activation: After the batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        num_outputs: int,
        *,
        activation: type[nn.ReLU] | type[nn.ReLU6],
    ) -> None:
        super().__init__()
        self.features = conv_bn(in_channels, features, activation=activation)
        self.classifier = nn.Linear(features, num_outputs)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.classifier(global_average_pool(self.features(x_BCHW)))
        return out
