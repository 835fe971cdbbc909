"""Weight sharing: a smaller module runs on slices of the weights of a larger one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.errors import ComponentError


@final
class Sliced(nn.Module):
    """A module whose weights are slices of those of a larger one, taken anew in each call.

    A parameter is a slice of the larger module's parameter of the same name: the first entries along
    each dimension (leading channels), but the middle ones along the kernel of a convolution. What the
    larger module has besides, such as later blocks, stays out. Buffers, and so batch-norm statistics,
    are the smaller module's own.

    Between calls the smaller module has no weights. So no part of it is called by itself, and
    activation checkpointing goes around the whole.

    Args:
        where: For messages.
        module: The smaller module; it loses its own parameters.
        source: The larger module, which is none of this one's submodules.
        in_channels: The first argument is cut to so many channels; None to leave it.
        out_channels: The output gets channels of zeros up to so many; None to leave it.

    Raises:
        ComponentError: A parameter of `module` is no slice of one of `source`.
    """

    def __init__(
        self,
        where: str,
        module: nn.Module,
        source: nn.Module,
        *,
        in_channels: int | None = None,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.module, self._in_channels, self._out_channels = module, in_channels, out_channels
        larger = dict(source.named_modules(remove_duplicate=False))
        # plain references: the weights belong to the larger module, which stands in state_dict
        self._slices: list[tuple[nn.Module, str, nn.Module, tuple[slice, ...]]] = []
        for name, parameter in list(module.named_parameters(remove_duplicate=False)):
            path, _, key = name.rpartition(".")
            owner, giver = module.get_submodule(path), larger.get(path, source)
            slices = _slices(f"{where}: parameter `{name}`", owner, parameter, giver._parameters.get(key))
            self._slices.append((owner, key, giver, slices))
        for owner, key, _, _ in self._slices:
            owner.register_parameter(key, None)

    @contextmanager
    def filled(self) -> Iterator[nn.Module]:
        """Inside, the smaller module has its weights, as views of the larger one's."""
        try:
            for owner, key, giver, slices in self._slices:
                owner._parameters[key] = giver._parameters[key][slices]  # type: ignore[index, assignment]
            yield self.module
        finally:
            for owner, key, _, _ in self._slices:
                owner._parameters[key] = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with self.filled() as module:
            output = module(*narrowed(args, self._in_channels), **kwargs)
        return padded(output, self._out_channels)


def narrowed(args: tuple[Any, ...], channels: int | None) -> tuple[Any, ...]:
    """Arguments whose first, of shape B C …, is cut to its first channels."""
    return args if channels is None else (args[0][:, :channels], *args[1:])


def padded(output: Any, channels: int | None) -> Any:
    """An output of shape B C … with channels of zeros behind its own, up to so many."""
    if channels is None or output.shape[1] == channels:
        return output
    return functional.pad(output, (0, 0) * (output.dim() - 2) + (0, channels - output.shape[1]))


def _slices(
    where: str, owner: nn.Module, parameter: torch.Tensor, whole: torch.Tensor | None
) -> tuple[slice, ...]:
    """The place of a parameter in that of the larger module."""
    shape, larger = tuple(parameter.shape), () if whole is None else tuple(whole.shape)
    if whole is None or len(shape) != len(larger) or any(n > m for n, m in zip(shape, larger, strict=True)):
        raise ComponentError(
            f"{where} must be a slice of the one with that name at the largest value, but that has the shape "
            f"{larger or 'of nothing'} and this {shape}; build all values alike, or use a layer choice"
        )
    first_kernel_dim = 2 if isinstance(owner, nn.modules.conv._ConvNd) else len(shape)
    around = [
        m - n if dim >= first_kernel_dim else 0 for dim, (n, m) in enumerate(zip(shape, larger, strict=True))
    ]
    if any(each % 2 for each in around):
        raise ComponentError(
            f"{where} must lie in the middle of the largest kernel, but that has the shape {larger} and this "
            f"{shape}; let all kernel sizes be odd"
        )
    return tuple(slice(each // 2, each // 2 + n) for each, n in zip(around, shape, strict=True))
