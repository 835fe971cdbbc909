"""The space of ProxylessNAS written plainly: MobileNetV2 blocks in sequence, each a site of candidates.

What stands at a site is for the peers to say. As in nasframe the shortcut is part of the candidates, and
the zero operation is the identity.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

BLOCKS = ((3, 3), (3, 6), (5, 3), (5, 6), (7, 3), (7, 6))  # kernel size, expansion
STEM, FIRST = 32, 16
NORM_EPS = 1e-3


def conv_bn(
    in_channels: int, out_channels: int, size: int = 1, stride: int = 1, groups: int = 1, *, act: bool = True
) -> list[nn.Module]:
    """Convolution, batch norm, and perhaps ReLU6."""
    conv = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(out_channels, eps=NORM_EPS)
    return [conv, norm, nn.ReLU6(inplace=True)] if act else [conv, norm]


class Block(nn.Module):
    """Widen, filter each channel, narrow; plus the input where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, size: int, expansion: int, stride: int) -> None:
        super().__init__()
        middle = expansion * in_channels
        self.layers = nn.Sequential(
            *(conv_bn(in_channels, middle) if expansion > 1 else []),
            *conv_bn(middle, middle, size, stride, middle),
            *conv_bn(middle, out_channels, act=False),
        )
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x_BCHW)
        return out + x_BCHW if self.shortcut else out


class OnePath(nn.Module):
    """A site that runs one candidate and knows of no architecture parameter: plain training."""

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)
        self.active = 0

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.candidates[self.active](x_BCHW)
        return out


class Network(nn.Module):
    """Stem, a block that is not searched, the sites, classifier.

    Args:
        site: Makes a site of its candidates.
        widths: Channels of each stage.
        depth: Sites of each stage.
        features: Channels before the classifier.

    Attributes:
        sites: The sites in their order.
        weights: All but architecture parameters, in the order of stem, sites, classifier.
    """

    def __init__(
        self,
        site: Callable[[list[nn.Module]], nn.Module],
        widths: Sequence[int],
        depth: int,
        features: int,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, STEM, 3), Block(STEM, FIRST, 3, 1, 1))
        channels, candidates = FIRST, []
        for stage, width in enumerate(widths):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                made: list[nn.Module] = [Block(channels, width, *block, stride) for block in BLOCKS]
                candidates.append([*made, nn.Identity()] if stride == 1 and channels == width else made)
                channels = width
        self.features = nn.Sequential(*conv_bn(channels, features))
        self.classifier = nn.Linear(features, num_classes)
        parts = [self.stem, *(each for made in candidates for each in made), self.features, self.classifier]
        self.weights = [weight for part in parts for weight in part.parameters()]
        self.sites = nn.ModuleList(map(site, candidates))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = self.stem(images_BCHW)
        for site in self.sites:
            x_BCHW = site(x_BCHW)
        out: torch.Tensor = self.classifier(self.features(x_BCHW).mean(dim=(2, 3)))
        return out
