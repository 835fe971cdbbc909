"""The arithmetic of a network."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from math import prod
from typing import Any, ClassVar, final

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from nasframe.core import COUNT_UNITS, Cost, Model, Task, costs, on_meta

_ATEN = torch.ops.aten
_CONVOLUTIONS = (_ATEN.convolution, _ATEN._convolution)
_NORMS = (
    _ATEN.native_batch_norm,
    _ATEN._native_batch_norm_legit,
    _ATEN._native_batch_norm_legit_no_training,
    _ATEN.native_layer_norm,
    _ATEN.native_group_norm,
)


@costs.register("flops")
@final
class Flops(Cost):
    """Multiply-adds of one input in evaluation mode, counted as the network runs on the meta device.

    Counted are convolutions, linear layers, matrix products and attention, in modules and in
    functions alike. Additions, activations and pooling are not. This is what papers on mobile
    networks call FLOPs; a processor's count of multiplications and additions is twice as much.

    Args:
        bias: Whether adding the bias of a convolution or linear layer counts as one multiply-add for
            each element of its output.
        norm: Whether a normalization counts as one multiply-add for each element of its input.
    """

    units: ClassVar[Mapping[str, float]] = COUNT_UNITS

    def __init__(self, *, bias: bool = False, norm: bool = False) -> None:
        self._formulas: dict[Any, Callable[..., int]] = {}
        self._norm = norm
        if bias:
            self._formulas |= dict.fromkeys(_CONVOLUTIONS, _biased_convolution)
            self._formulas[_ATEN.addmm] = _biased_product
        if norm:
            self._formulas |= dict.fromkeys(_NORMS, _norm)

    def of(self, model: Model, task: Task) -> float:
        inputs = task.blank(1, device="meta")
        return self.of_call(on_meta(model.network), inputs)

    def of_call(self, module: nn.Module, *args: Any, **kwargs: Any) -> float:
        counter = FlopCounterMode(display=False, custom_mapping=self._formulas)
        with torch.no_grad(), nullcontext() if self._norm else _WithoutNorms(), counter:
            module(*args, **kwargs)
        return float(counter.get_total_flops()) / 2


@final
class _WithoutNorms(TorchFunctionMode):
    """Leaves out batch norms, most of the time of a count where they count for nothing."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.batch_norm:
            return torch.empty_like(args[0] if args else (kwargs or {})["input"])
        return func(*args, **(kwargs or {}))


# PyTorch counts a multiply-add as two operations, and so do these.


def _biased_convolution(
    x: Sequence[int],
    weight: Sequence[int],
    bias: Sequence[int] | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *args: Any,
    out_shape: Sequence[int],
    **kwargs: Any,
) -> int:
    products = prod(x if transposed else out_shape) * prod(weight[1:])
    return 2 * (products + (prod(out_shape) if bias is not None else 0))


def _biased_product(
    bias: Sequence[int], one: Sequence[int], other: Sequence[int], *, out_shape: Sequence[int], **kwargs: Any
) -> int:
    return 2 * (prod(out_shape) * one[-1] + prod(out_shape))


def _norm(x: Sequence[int], *args: Any, **kwargs: Any) -> int:
    return 2 * prod(x)
