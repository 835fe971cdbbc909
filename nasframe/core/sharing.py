"""Weight sharing: a smaller module runs on slices of the weights of a larger one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.errors import ComponentError


def share(module: nn.Module, source: nn.Module, where: str) -> None:
    """Let a smaller module run on slices of the weights of a larger one, in place of its own.

    A parameter becomes a slice of the larger module's parameter of the same name: the first entries
    along each dimension (leading channels), but the middle ones along the kernel of a convolution.
    What the larger module has besides, such as later blocks, stays out. Buffers, and so batch-norm
    statistics, remain the smaller module's own.

    Each layer of the smaller module takes its slices when it is called, and has none in between: they
    are no parameters of it, and follow whatever happens to the larger module. So a layer whose weights
    another one reads cannot share.

    Args:
        module: The smaller module; it loses its parameters.
        source: The larger module; it may itself share with a still larger one.
        where: For messages.

    Raises:
        ComponentError: A parameter of `module` is no slice of one of `source`; nothing is shared then.
    """
    givers, loans = dict(source.named_modules(remove_duplicate=False)), []
    for path, layer in module.named_modules():
        slices = {}
        giver = givers.get(path)
        for key, parameter in _own(layer).items():
            whole = None if giver is None else weights_of(giver).get(key)
            spatial = isinstance(layer, nn.modules.conv._ConvNd)
            slices[key] = _slices(f"{where}: `{path}{'.' if path else ''}{key}`", parameter, whole, spatial)
        if slices:
            loans.append((layer, _Loan(givers[path], slices)))
    for layer, loan in loans:
        loan.grant(layer)


def weights_of(layer: nn.Module) -> dict[str, torch.Tensor]:
    """A module's own parameters by name; those that it shares, as views of the larger module's."""
    own = _own(layer)
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, _Loan):
            own |= hook.weights()
    return own


def _own(layer: nn.Module) -> dict[str, torch.Tensor]:
    return {key: parameter for key, parameter in layer._parameters.items() if parameter is not None}


@final
@dataclass(frozen=True, eq=False)
class _Loan:
    """What a layer takes from another one: by name of the parameter, which slices."""

    giver: nn.Module
    slices: Mapping[str, tuple[slice, ...]]

    def grant(self, layer: nn.Module) -> None:
        """Take the layer's parameters away, and give it slices in each call, also in one that fails."""
        for key in self.slices:
            layer.register_parameter(key, None)
        layer.register_forward_pre_hook(self)
        layer.register_forward_hook(self.end, always_call=True)

    def weights(self) -> dict[str, torch.Tensor]:
        whole = weights_of(self.giver)
        return {key: whole[key][slices] for key, slices in self.slices.items()}

    def __call__(self, layer: nn.Module, args: Any) -> None:
        held: dict[str, Any] = layer._parameters  # a slice is no Parameter, but is used as one
        held.update(self.weights())

    def end(self, layer: nn.Module, args: Any, output: Any) -> None:
        layer._parameters.update(dict.fromkeys(self.slices))


def _slices(
    where: str, parameter: torch.Tensor, whole: torch.Tensor | None, spatial: bool
) -> tuple[slice, ...]:
    """The place of a parameter in that of the larger module."""
    shape, larger = tuple(parameter.shape), () if whole is None else tuple(whole.shape)
    if whole is None or len(shape) != len(larger) or any(n > m for n, m in zip(shape, larger, strict=True)):
        raise ComponentError(
            f"{where} must be a slice of the parameter of that name at the largest value, but that has the "
            f"shape {larger or 'of nothing'} and this {shape}; build all values alike, or use a layer choice"
        )
    kernel_from = 2 if spatial else len(shape)
    around = [
        m - n if dim >= kernel_from else 0 for dim, (n, m) in enumerate(zip(shape, larger, strict=True))
    ]
    if any(each % 2 for each in around):
        raise ComponentError(
            f"{where} must lie in the middle of the largest kernel, but that has the shape {larger} and this "
            f"{shape}; let all kernel sizes be odd"
        )
    return tuple(slice(each // 2, each // 2 + n) for each, n in zip(around, shape, strict=True))


@final
class Resized(nn.Module):
    """A module that is given the first channels of its input, and whose output gets channels of zeros.

    Args:
        module: Takes B C … as its first argument, and returns such a tensor.
        in_channels: How many channels it is given; None for all.
        out_channels: How many channels there are in the end; None for those that it makes.
    """

    def __init__(self, module: nn.Module, in_channels: int | None, out_channels: int | None) -> None:
        super().__init__()
        self.module, self._in_channels, self._out_channels = module, in_channels, out_channels

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return padded(self.module(*narrowed(args, self._in_channels), **kwargs), self._out_channels)


def narrowed(args: tuple[Any, ...], channels: int | None) -> tuple[Any, ...]:
    """Arguments whose first, of shape B C …, is cut to its first channels."""
    return args if channels is None else (args[0][:, :channels], *args[1:])


def padded(output: Any, channels: int | None) -> Any:
    """An output of shape B C … with channels of zeros behind its own, up to so many."""
    if channels is None or output.shape[1] == channels:
        return output
    return functional.pad(output, (0, 0) * (output.dim() - 2) + (0, channels - output.shape[1]))
