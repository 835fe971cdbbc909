"""DARTS as its authors compute it (Liu et al. 2019, arXiv 1806.09055), written again in plain PyTorch.

The authors' code (quark0/darts) needs PyTorch 0.3 and CUDA. This is own code of the same computations in the
same order: NCHW, every candidate of every edge computed, ``none`` as a product with 0, the mixture as a sum
of scaled candidates, alphas in two tensors, a second model for the virtual weights, and gradients of all
that ``backward`` reaches.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

ALL_OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4


class Zero(nn.Module):
    """``none``: the input, at every `stride`-th pixel, times 0."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if self.stride > 1:
            x_BCHW = x_BCHW[:, :, :: self.stride, :: self.stride]
        return x_BCHW.mul(0.0)


class FactorizedReduction(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2 a pixel apart, concatenated, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        half = out_channels // 2
        self.even = nn.Conv2d(in_channels, half, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels - half, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = functional.relu(x_BCHW)
        out: torch.Tensor = self.norm(torch.cat([self.even(x_BCHW), self.odd(x_BCHW[:, :, 1:, 1:])], dim=1))
        return out


def relu_conv_bn(in_channels: int, out_channels: int, *, affine: bool) -> nn.Sequential:
    """ReLU, 1x1 convolution, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels, affine=affine),
    )


def separable(channels: int, kernel_size: int, stride: int, dilation: int, *, affine: bool) -> nn.Sequential:
    """ReLU, depthwise and 1x1 convolution, batch norm."""
    padding = dilation * (kernel_size - 1) // 2
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel_size, stride, padding, dilation, channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


def operation(name: str, channels: int, stride: int, *, affine: bool) -> nn.Module:
    """One of `ALL_OPERATIONS`, as a derived network has it."""
    match name.rsplit("_", 1):
        case ["none"]:
            return Zero(stride)
        case ["max_pool", _]:
            return nn.MaxPool2d(3, stride, padding=1)
        case ["avg_pool", _]:
            return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        case ["skip", _]:
            return nn.Identity() if stride == 1 else FactorizedReduction(channels, channels, affine=affine)
        case ["sep_conv", size]:
            return nn.Sequential(
                separable(channels, int(size[0]), stride, 1, affine=affine),
                separable(channels, int(size[0]), 1, 1, affine=affine),
            )
        case ["dil_conv", size]:
            return separable(channels, int(size[0]), stride, 2, affine=affine)
    raise ValueError(f"peers.darts: must be one of {', '.join(ALL_OPERATIONS)}, got {name}")


class MixedOperation(nn.Module):
    """All candidates of an edge; pools have a batch norm behind them."""

    def __init__(self, channels: int, stride: int, operations: Sequence[str]) -> None:
        super().__init__()
        made = [operation(name, channels, stride, affine=False) for name in operations]
        self.candidates = nn.ModuleList(
            nn.Sequential(each, nn.BatchNorm2d(channels, affine=False)) if "pool" in name else each
            for name, each in zip(operations, made, strict=True)
        )

    def forward(self, x_BCHW: torch.Tensor, weights_K: torch.Tensor) -> torch.Tensor:
        parts = zip(weights_K, self.candidates, strict=True)
        out: torch.Tensor = sum(weight * each(x_BCHW) for weight, each in parts)  # type: ignore[assignment]
        return out


class Cell(nn.Module):
    """A cell of the supernet: each node adds up the mixtures of all states before it."""

    def __init__(
        self,
        in_channels: tuple[int, int],
        channels: int,
        operations: Sequence[str],
        *,
        reduction: bool,
        reduced: bool,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        before_last, last = in_channels
        halve = FactorizedReduction if reduced else relu_conv_bn
        self.preprocess = nn.ModuleList(
            [halve(before_last, channels, affine=False), relu_conv_bn(last, channels, affine=False)]
        )
        self.edges = nn.ModuleList(
            MixedOperation(channels, 2 if reduction and state < 2 else 1, operations)
            for node in range(NODES)
            for state in range(2 + node)
        )

    def forward(
        self, before_last: torch.Tensor, last: torch.Tensor, weights_EK: torch.Tensor
    ) -> torch.Tensor:
        states, edge = [self.preprocess[0](before_last), self.preprocess[1](last)], 0
        for _ in range(NODES):
            parts = [self.edges[edge + j](state, weights_EK[edge + j]) for j, state in enumerate(states)]
            edge += len(states)
            states.append(sum(parts))
        return torch.cat(states[-NODES:], dim=1)


class Network(nn.Module):
    """The supernet for images of 3 channels.

    Attributes:
        alphas: Those of normal and of reduction cells, E K each, outside the module's parameters.
    """

    def __init__(self, channels: int, cells: int, operations: Sequence[str], num_classes: int = 10) -> None:
        super().__init__()
        self._settings = (channels, cells, tuple(operations), num_classes)
        self.stem = nn.Sequential(
            nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
        )
        self.cells = nn.ModuleList()
        before_last = last = 3 * channels
        reduced = False
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(
                Cell((before_last, last), channels, operations, reduction=reduction, reduced=reduced)
            )
            before_last, last, reduced = last, NODES * channels, reduction
        self.pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(last, num_classes)
        edges = sum(2 + node for node in range(NODES))
        self.alphas = [torch.zeros(edges, len(operations), requires_grad=True) for _ in range(2)]

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        before_last = last = self.stem(images_BCHW)
        for cell in self.cells:
            weights_EK = functional.softmax(self.alphas[1 if cell.reduction else 0], dim=-1)
            before_last, last = last, cell(before_last, last, weights_EK)
        out: torch.Tensor = self.classifier(self.pool(last).flatten(1))
        return out

    def loss(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Mean cross-entropy of a batch (images, classes)."""
        return functional.cross_entropy(self(batch[0]), batch[1])

    def load(self, weights: Sequence[torch.Tensor], alphas: Sequence[torch.Tensor]) -> None:
        """Take over values, given in the order of this network; its type becomes theirs.

        Raises:
            ValueError: A shape is another.
        """
        self.to(weights[0].dtype)
        for own, value in zip(self.parameters(), weights, strict=True):
            if own.shape != value.shape:
                raise ValueError(f"peers.darts: weight must have shape {own.shape}, got {value.shape}")
            own.data.copy_(value)
        self.alphas = [value.detach().clone().requires_grad_() for value in alphas]

    def another(self) -> "Network":
        """A new network of the same kind with these alphas."""
        other = Network(*self._settings)
        other.to(next(self.parameters()).dtype)
        other.alphas = [alpha.detach().clone().requires_grad_() for alpha in self.alphas]
        return other


Batch = tuple[torch.Tensor, torch.Tensor]


class Search:
    """The authors' search step: alphas first, on the held-out batch, then weights, on the training batch.

    Args:
        network: Supernet.
        second_order: Whether alphas follow eq. 7 with eq. 8, else the first-order approximation.
        lr: Learning rate of the weights, and the ξ of eq. 6.
        clip: Norm that the gradient of the weights is clipped to, in the weight step alone; None for none.
    """

    def __init__(
        self, network: Network, *, second_order: bool, lr: float = 0.025, clip: float | None = 5.0
    ) -> None:
        self.network, self.second_order, self.lr, self.clip = network, second_order, lr, clip
        self.momentum, self.decay = 0.9, 3e-4
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr, momentum=self.momentum, weight_decay=self.decay
        )
        self.alpha_optimizer = torch.optim.Adam(
            network.alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3
        )

    def step(self, train: Batch, valid: Batch) -> None:
        """One step of alphas, then one of the weights."""
        self.alpha_optimizer.zero_grad()
        self.backward(train, valid)
        self.alpha_optimizer.step()
        self.optimizer.zero_grad()
        self.network.loss(train).backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()

    def backward(self, train: Batch, valid: Batch) -> None:
        """Put the gradient of the alphas where their optimizer looks for it."""
        if not self.second_order:
            self.network.loss(valid).backward()
            return
        moved = self.virtual(train)
        moved.loss(valid).backward()
        vector = [weight.grad for weight in moved.parameters()]
        product = self.product(vector, train)
        for alpha, other, part in zip(self.network.alphas, moved.alphas, product, strict=True):
            alpha.grad = other.grad - self.lr * part

    def gradients(self, train: Batch, valid: Batch) -> list[torch.Tensor]:
        """The gradients of both alphas; those of the weights are dropped."""
        self.alpha_optimizer.zero_grad()
        self.backward(train, valid)
        self.optimizer.zero_grad()
        return [alpha.grad.detach().clone() for alpha in self.network.alphas]

    def virtual(self, train: Batch) -> Network:
        """A second network with w' = w − ξ (momentum × buffer + ∇w L_t + decay × w), without clipping."""
        weights = list(self.network.parameters())
        loss = self.network.loss(train)
        theta = flat(weights)
        buffers = [self.optimizer.state[weight].get("momentum_buffer") for weight in weights]
        moment = torch.zeros_like(theta) if None in buffers else self.momentum * flat(buffers)
        step = flat(torch.autograd.grad(loss, weights)) + self.decay * theta
        theta = theta - self.lr * (moment + step)
        moved = self.network.another()
        state, start = self.network.state_dict(), 0
        for name, weight in self.network.named_parameters():
            state[name] = theta[start : start + weight.numel()].view(weight.shape)
            start += weight.numel()
        moved.load_state_dict(state)
        return moved

    def product(self, vector: Sequence[torch.Tensor], train: Batch) -> list[torch.Tensor]:
        """∇²a,w L_t · vector by the central difference of eq. 8, in place of the weights themselves."""
        weights = list(self.network.parameters())
        return central_difference(self.network, train, weights, vector, self.epsilon(vector))

    def epsilon(self, vector: Sequence[torch.Tensor]) -> float:
        """0.01 / ‖vector‖."""
        return 0.01 / float(flat(vector).norm())


def kinks(original: Search, train: Batch, valid: Batch) -> list[torch.Tensor]:
    """The gradient with the exact product less that with the central difference.

    The exact product is double backward, which sees none of the kinks that the difference steps over.
    """
    network, moved = original.network, original.virtual(train)
    vector = torch.autograd.grad(moved.loss(valid), list(moved.parameters()))
    gradients = torch.autograd.grad(network.loss(train), list(network.parameters()), create_graph=True)
    inner = sum((one * other).sum() for one, other in zip(gradients, vector, strict=True))
    exact = torch.autograd.grad(inner, network.alphas)
    difference = original.product(vector, train)
    return [original.lr * (other - one) for one, other in zip(exact, difference, strict=True)]


def central_difference(
    network: Network,
    batch: Batch,
    points: Sequence[torch.Tensor],
    vector: Sequence[torch.Tensor],
    epsilon: float,
) -> list[torch.Tensor]:
    """(∇a L(x + εv) − ∇a L(x − εv)) / 2ε, `points` being the x of the network; they go there and back.

    As in the authors' code the first pass is let go only when the second one stands.
    """
    _shift(points, vector, epsilon)
    loss = network.loss(batch)
    plus = torch.autograd.grad(loss, network.alphas)
    _shift(points, vector, -2 * epsilon)
    loss = network.loss(batch)
    minus = torch.autograd.grad(loss, network.alphas)
    _shift(points, vector, epsilon)
    return [(one - other) / (2 * epsilon) for one, other in zip(plus, minus, strict=True)]


@torch.no_grad()
def _shift(points: Sequence[torch.Tensor], vector: Sequence[torch.Tensor], length: float) -> None:
    for point, direction in zip(points, vector, strict=True):
        point.add_(direction, alpha=length)


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All entries in one vector."""
    return torch.cat([tensor.reshape(-1).detach() for tensor in tensors])
