"""The second classifier of deep cell networks."""

from typing import final

import torch
from torch import nn

from nasframe.errors import UnsupportedError


@final
class AuxiliaryHead(nn.Module):
    """Classifies from a map in the middle of the network, to train what lies below it better.

    ReLU, average pooling to 2x2, 1x1 convolution, 2x2 convolution, linear layer, as in the code of
    Liu et al. 2019. They pool 8x8 maps (CIFAR) by 5x5 with stride 3 and 7x7 maps (ImageNet) by 5x5
    with stride 2; maps of another size are pooled to 2x2 by windows that overlap alike.

    Args:
        in_channels: Channels of the map.
        num_outputs: Length of the output.
        map_size: Height and width of the map, each at least 2.
        final_norm: Whether a batch norm follows the 2x2 convolution; in the authors' network for
            ImageNet none does.

    Raises:
        UnsupportedError: The map is too small.
    """

    def __init__(
        self, in_channels: int, num_outputs: int, map_size: tuple[int, int], *, final_norm: bool
    ) -> None:
        super().__init__()
        if min(map_size) < 2:
            raise UnsupportedError(
                f"auxiliary head: its map must be at least 2x2, got {map_size[0]}x{map_size[1]}; "
                "use larger images, or no auxiliary head"
            )
        height, width = (min(size - 1, (size + 3) // 2) for size in map_size)
        stride = (map_size[0] - height, map_size[1] - width)
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d((height, width), stride),
            nn.Conv2d(in_channels, 128, kernel_size=1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, kernel_size=2, bias=False),
            *([nn.BatchNorm2d(768)] if final_norm else []),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_outputs)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.classifier(self.features(x_BCHW).flatten(1))
        return out
