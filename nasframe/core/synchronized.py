"""Batch norms over the ranks: each by its share of a batch, or all by the whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

import torch
from torch import nn

from nasframe.core import ranks
from nasframe.core.batch_norm import ExactBatchNorm2d, Statistics, track
from nasframe.errors import UnsupportedError

_BatchNorm = nn.modules.batchnorm._BatchNorm
_KNOWN: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, ExactBatchNorm2d)


@final
class SynchronizedBatchNorm(_BatchNorm):
    """A batch norm that in training sees the batch of all ranks, on any device.

    ``nn.SyncBatchNorm`` takes CUDA alone, and its gradients have none. Here mean and variance of each share
    are put together as Chan, Golub and LeVeque (1983) do, which cancels no digits: one reduction a pass.

    Args:
        norm: Whose parameters, buffers and settings it has, not copies of them.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        tracks = norm.running_mean is not None
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, tracks, device="meta")
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.training = norm.training
        self._alone = False

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected B x C x …, got {input.dim()} dimensions")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or self._alone or ranks.num_ranks() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        x = input if input.dtype == torch.float64 else input.float()
        over = [0, *range(2, x.dim())]
        var_C, mean_C = torch.var_mean(x, over, correction=0)
        own_2C = torch.stack([mean_C, var_C])
        placed = [
            own_2C if each == ranks.rank() else torch.zeros_like(own_2C) for each in range(ranks.num_ranks())
        ]
        mean_RC, var_RC = ranks.total(torch.stack(placed, 1))
        mean_C = mean_RC.mean(0)
        var_C = (var_RC + (mean_RC - mean_C).square()).mean(0)
        num_values = len(mean_RC) * x.numel() // len(mean_C)
        track([Statistics(self, mean_C.detach(), var_C.detach(), num_values)])
        scale_C = (var_C + self.eps).rsqrt()
        shift_C = -mean_C
        if self.affine:
            scale_C = scale_C * self.weight
        shift_C = shift_C * scale_C
        if self.affine:
            shift_C = shift_C + self.bias
        wide = [1, -1] + [1] * (x.dim() - 2)
        return torch.addcmul(shift_C.view(wide), x, scale_C.view(wide)).to(input.dtype)


@contextmanager
def synchronized(model: nn.Module) -> Iterator[None]:
    """Inside, a `SynchronizedBatchNorm` stands in the place of each batch norm; names stay.

    Raises:
        UnsupportedError: A batch norm is none of PyTorch's, or moves its statistics without a momentum.
    """
    made: dict[int, tuple[_BatchNorm, SynchronizedBatchNorm]] = {}
    for name, norm in model.named_modules():
        if isinstance(norm, _BatchNorm):
            if type(norm) not in _KNOWN or norm.momentum is None:
                raise UnsupportedError(
                    "batch_norm: to be synchronized, each must be one of PyTorch's with a momentum, but "
                    f"{name} is a {type(norm).__name__} with momentum {norm.momentum}; set batch_norm=local"
                )
            made[id(norm)] = norm, SynchronizedBatchNorm(norm)
    places = [
        (module._modules, name, child)
        for module in model.modules()
        for name, child in module._modules.items()
        if child is not None and id(child) in made
    ]
    try:
        for held, name, norm in places:
            held[name] = made[id(norm)][1]
        yield
    finally:
        for held, name, norm in places:
            held[name] = norm
        for norm, other in made.values():
            norm.train(other.training)


@contextmanager
def unsynchronized(model: nn.Module) -> Iterator[None]:
    """Inside, passes may be made that the other ranks do not make."""
    norms = [module for module in model.modules() if isinstance(module, SynchronizedBatchNorm)]
    for norm in norms:
        norm._alone = True
    try:
        yield
    finally:
        for norm in norms:
            norm._alone = False


def own_statistics(model: nn.Module) -> list[torch.Tensor]:
    """Running statistics that follow what this rank alone has seen.

    They are linear in what was seen: their means over the ranks are those of the means.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and not isinstance(module, SynchronizedBatchNorm)
    ]
    held = [each for norm in norms for each in (norm.running_mean, norm.running_var)]
    return list({id(each): each for each in held if each is not None}.values())
