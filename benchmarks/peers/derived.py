"""The DARTS paper's network written plainly in PyTorch, without a framework."""

import torch
from torch import nn

from peers import darts

# figures 4 and 5 of Liu et al. 2019, published as DARTS_V2: (operation, state) twice for each node
NORMAL = (
    (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
    (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
    (("sep_conv_3x3", 1), ("skip_connect", 0)),
    (("skip_connect", 0), ("dil_conv_3x3", 2)),
)
REDUCE = (
    (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
    (("skip_connect", 2), ("max_pool_3x3", 1)),
    (("max_pool_3x3", 0), ("skip_connect", 2)),
    (("skip_connect", 2), ("max_pool_3x3", 1)),
)
GENOTYPE = (
    f"Genotype(normal={[pair for node in NORMAL for pair in node]}, normal_concat=[2, 3, 4, 5], "
    f"reduce={[pair for node in REDUCE for pair in node]}, reduce_concat=[2, 3, 4, 5])"
)


class Cell(nn.Module):
    """Each node adds up two operations on earlier states."""

    def __init__(
        self, in_channels: tuple[int, int], channels: int, *, reduction: bool, reduced: bool
    ) -> None:
        super().__init__()
        before_last, last = in_channels
        halve = darts.FactorizedReduction if reduced else darts.relu_conv_bn
        self.first = halve(before_last, channels, affine=True)
        self.second = darts.relu_conv_bn(last, channels, affine=True)
        # by state, which is the order in which nasframe has their weights
        nodes = [sorted(node, key=lambda edge: edge[1]) for node in (REDUCE if reduction else NORMAL)]
        self.states = [[state for _, state in node] for node in nodes]
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                darts.operation(name, channels, 2 if reduction and state < 2 else 1, affine=True)
                for name, state in node
            )
            for node in nodes
        )

    def forward(self, before_last: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        states = [self.first(before_last), self.second(last)]
        for (one, other), (i, j) in zip(self.nodes, self.states, strict=True):
            states.append(one(states[i]) + other(states[j]))
        return torch.cat(states[2:], dim=1)


class Network(nn.Module):
    """The network for images of 3 channels, without the auxiliary classifier and drop path."""

    def __init__(self, channels: int, cells: int, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
        )
        self.cells = nn.ModuleList()
        before_last = last = 3 * channels
        reduced = False
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(Cell((before_last, last), channels, reduction=reduction, reduced=reduced))
            before_last, last, reduced = last, 4 * channels, reduction
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        before_last = last = self.stem(images_BCHW)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        out: torch.Tensor = self.classifier(last.mean(dim=(2, 3)))
        return out
