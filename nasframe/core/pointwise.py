"""1x1 convolutions and the batch norms after them, in training, several at once.

A convolution makes its output y centred, because the mean of y = W x is W·mean(x), and the deviation is that
of y. What a batch norm then is, a factor for each channel, goes into the ReLU or the weighted sum that
follows, so that its output is not kept beside y. Where a graph of the gradients is asked for
(``create_graph``), it is that of PyTorch's own convolution and batch norm.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeGuard, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.core.depthwise import is_conv2d


def is_pointwise(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a 1x1 convolution without stride and bias: a matrix for each pixel."""
    return (
        is_conv2d(layer)
        and layer.kernel_size == layer.stride == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == 1
        and layer.bias is None
    )


class Seen(NamedTuple):
    """What the batch norms of K convolutions saw of a batch.

    Attributes:
        mean_KD: Of the convolutions' outputs.
        var_KD: Of them, with bias.
        num_values: Of each channel, B · H · W.
    """

    mean_KD: torch.Tensor
    var_KD: torch.Tensor
    num_values: int


def normalized_relus(
    x_BXHW: torch.Tensor, weights: Sequence[torch.Tensor], eps: float
) -> tuple[torch.Tensor, Seen]:
    """The ReLU of the batch norm of the 1x1 convolution of each of K inputs.

    Args:
        x_BXHW: The inputs, C channels after C channels (X = K · C), in channels_last.
        weights: K of D C 1 1.
        eps: Of the batch norms.

    Returns:
        The outputs, D channels after D channels, in channels_last, which must not be overwritten; and
        what the batch norms saw.
    """
    seen: list[Seen] = []
    out_BYHW: torch.Tensor = _NormalizedRelus.apply(eps, seen, x_BXHW, *weights)  # type: ignore[no-untyped-call]
    return out_BYHW, seen[0]


def sum_of_normalized(
    scale_K: torch.Tensor, xs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], eps: float
) -> tuple[torch.Tensor, Seen]:
    """The sum of the batch norms of the 1x1 convolution of each of K inputs, each times its scale.

    Args:
        scale_K: Differentiable.
        xs: Tensors that hold the inputs, one or several each, as in `normalized_relus`.
        weights: K of D C 1 1.
        eps: Of the batch norms.

    Returns:
        B D H W, in channels_last, and what the batch norms saw.
    """
    seen: list[Seen] = []
    out_BDHW: torch.Tensor = _SumOfNormalized.apply(eps, seen, len(xs), scale_K, *xs, *weights)  # type: ignore[no-untyped-call]
    return out_BDHW, seen[0]


def _rows(x_BCHW: torch.Tensor) -> torch.Tensor:
    """A view of shape N C."""
    return x_BCHW.permute(0, 2, 3, 1).flatten(0, 2)


def _each(x_NX: torch.Tensor, num_channels: int) -> torch.Tensor:
    """A view of shape K N C of rows that hold K times so many channels."""
    return x_NX.view(x_NX.shape[0], -1, num_channels).transpose(0, 1)


def _empty_like(x_BCHW: torch.Tensor, num_channels: int) -> torch.Tensor:
    """A map of so many channels."""
    b, _, h, w = x_BCHW.shape
    return torch.empty((b, num_channels, h, w), dtype=x_BCHW.dtype, memory_format=torch.channels_last)


def _as_map(x_NC: torch.Tensor, like_BCHW: torch.Tensor) -> torch.Tensor:
    """A view of shape B C H W."""
    b, _, h, w = like_BCHW.shape
    return x_NC.view(b, h, w, -1).permute(0, 3, 1, 2)


def _centred(x_NX: torch.Tensor, weight_KDC: torch.Tensor, out_KND: torch.Tensor) -> torch.Tensor:
    """Convolve K inputs, and subtract from each output its mean; return these means, K D."""
    if x_NX.shape[0] == 1:
        functional.batch_norm(x_NX, None, None, training=True)  # refuses a single value a channel
    num, _, num_channels = weight_KDC.shape
    weight_KCD = weight_KDC.transpose(1, 2)
    mean_K1D = torch.bmm(x_NX.mean(0).view(num, 1, num_channels), weight_KCD)
    torch.baddbmm(mean_K1D, _each(x_NX, num_channels), weight_KCD, beta=-1, out=out_KND)
    return mean_K1D.squeeze(1)


def _stacked(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """K of D C 1 1 as K D C."""
    return torch.stack(list(weights)).flatten(2)


def _of_weights(grad_KND: torch.Tensor, x_NX: torch.Tensor, num_channels: int) -> Sequence[torch.Tensor]:
    """Gradients of the convolutions' weights, K of D C 1 1, of those of their outputs."""
    return torch.bmm(grad_KND.transpose(1, 2), _each(x_NX, num_channels))[..., None, None].unbind()


def _plain(x_BCHW: torch.Tensor, weight_DC11: torch.Tensor, eps: float) -> torch.Tensor:
    """A batch norm of a 1x1 convolution, as PyTorch computes it."""
    return functional.batch_norm(functional.conv2d(x_BCHW, weight_DC11), None, None, training=True, eps=eps)


def _all_plain(xs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], eps: float) -> list[torch.Tensor]:
    parts = [part for x_BXHW in xs for part in x_BXHW.chunk(x_BXHW.shape[1] // weights[0].shape[1], dim=1)]
    return [_plain(x_BCHW, weight, eps) for x_BCHW, weight in zip(parts, weights, strict=True)]


def _with_graph(
    make: Callable[[list[torch.Tensor]], torch.Tensor], inputs: Sequence[torch.Tensor], grad: torch.Tensor
) -> list[torch.Tensor | None]:
    """Gradients of what is made of inputs, with a graph of their own."""
    own = [each.view_as(each) for each in inputs]  # an input that was made from another counts once
    wanted = [each for each in own if each.requires_grad]
    found = iter(torch.autograd.grad(make(own), wanted, grad, create_graph=True))
    return [next(found) if each.requires_grad else None for each in own]


@final
class _NormalizedRelus(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, eps: float, seen: list[Seen], x_BXHW: torch.Tensor, *weights: torch.Tensor
    ) -> torch.Tensor:
        weight_KDC, x_NX = _stacked(weights), _rows(x_BXHW)
        k, d, _ = weight_KDC.shape
        y_NY, out_BYHW = x_NX.new_empty(x_NX.shape[0], k * d), _empty_like(x_BXHW, k * d)
        mean_KD = _centred(x_NX, weight_KDC, _each(y_NY, d))
        out_NY = _rows(out_BYHW)
        var_Y = torch.mul(y_NY, y_NY, out=out_NY).mean(0)
        factor_Y = (var_Y + eps).rsqrt_()
        torch.mul(y_NY, factor_Y, out=out_NY).relu_()
        seen.append(Seen(mean_KD, var_Y.view(k, d), x_NX.shape[0]))
        ctx.save_for_backward(x_BXHW, *weights, y_NY, factor_Y)
        ctx.eps = eps
        return out_BYHW

    @staticmethod
    def backward(ctx: Any, grad_BYHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_BXHW, *weights, y_NY, factor_Y = ctx.saved_tensors
        if torch.is_grad_enabled():

            def plain(inputs: list[torch.Tensor]) -> torch.Tensor:
                return functional.relu(torch.cat(_all_plain(inputs[:1], inputs[1:], ctx.eps), dim=1))

            return None, None, *_with_graph(plain, [x_BXHW, *weights], grad_BYHW)
        weight_KDC, x_NX = _stacked(weights), _rows(x_BXHW)
        _, d, c = weight_KDC.shape
        grad_BYHW = grad_BYHW.contiguous(memory_format=torch.channels_last)
        grad_NY = torch.ops.aten.threshold_backward.default(_rows(grad_BYHW), y_NY, 0)
        of_y_NY = grad_NY * y_NY
        of_y_NY = _of_centred(grad_NY, factor_Y, y_NY, of_y_NY.mean(0), grad_NY.mean(0), factor_Y, of_y_NY)
        of_y_KND, of_x_NX = _each(of_y_NY, d), torch.empty_like(x_NX)
        torch.bmm(of_y_KND, weight_KDC, out=_each(of_x_NX, c))
        of_weights: Sequence[torch.Tensor | None] = [None] * len(weights)
        if any(ctx.needs_input_grad[3:]):
            of_weights = _of_weights(of_y_KND, x_NX, c)
        return None, None, _as_map(of_x_NX, x_BXHW), *of_weights


@final
class _SumOfNormalized(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, eps: float, seen: list[Seen], num: int, scale_K: torch.Tensor, *tensors: torch.Tensor
    ) -> torch.Tensor:
        xs, weight_KDC = list(map(_rows, tensors[:num])), _stacked(tensors[num:])
        k, d, c = weight_KDC.shape
        num_rows = xs[0].shape[0]
        y_KND, means, first = xs[0].new_empty(k, num_rows, d), [], 0
        for x_NX in xs:
            last = first + x_NX.shape[1] // c
            means.append(_centred(x_NX, weight_KDC[first:last], y_KND[first:last]))
            first = last
        out_BDHW = _empty_like(tensors[0], d)
        out_ND = _rows(out_BDHW)
        var_KD = torch.stack([torch.mul(y_ND, y_ND, out=out_ND).mean(0) for y_ND in y_KND])
        factor_KD = (var_KD + eps).rsqrt_()
        scale_KD = factor_KD * scale_K[:, None]
        torch.mul(y_KND[0], scale_KD[0], out=out_ND)
        for y_ND, scale_D in zip(y_KND[1:], scale_KD[1:], strict=True):
            out_ND.addcmul_(y_ND, scale_D)
        seen.append(Seen(torch.cat(means), var_KD, num_rows))
        ctx.save_for_backward(scale_K, *tensors, y_KND, factor_KD)
        ctx.eps, ctx.num = eps, num
        return out_BDHW

    @staticmethod
    def backward(ctx: Any, grad_BDHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        num, (scale_K, *tensors, y_KND, factor_KD) = ctx.num, ctx.saved_tensors
        weights = tensors[num:]
        if torch.is_grad_enabled():

            def plain(inputs: list[torch.Tensor]) -> torch.Tensor:
                outs_BDHW = _all_plain(inputs[1 : 1 + num], inputs[1 + num :], ctx.eps)
                return torch.einsum("k,kbdhw->bdhw", inputs[0], torch.stack(outs_BDHW))

            return None, None, None, *_with_graph(plain, [scale_K, *tensors], grad_BDHW)
        weight_KDC = _stacked(weights)
        k, _, c = weight_KDC.shape
        grad_ND = _rows(grad_BDHW.contiguous(memory_format=torch.channels_last))
        of_y_KND = grad_ND * y_KND
        slope_KD = of_y_KND.mean(1)
        scale_KD = factor_KD * scale_K[:, None]
        of_y_KND = _of_centred(
            grad_ND,
            factor_KD[:, None],
            y_KND,
            slope_KD[:, None],
            grad_ND.mean(0),
            scale_KD[:, None],
            of_y_KND,
        )
        of_weights: list[torch.Tensor | None] = []
        of_xs, first = [], 0
        for x_BXHW in tensors[:num]:
            x_NX = _rows(x_BXHW)
            last, of_x_NX = first + x_NX.shape[1] // c, torch.empty_like(x_NX)
            torch.bmm(of_y_KND[first:last], weight_KDC[first:last], out=_each(of_x_NX, c))
            of_xs.append(_as_map(of_x_NX, x_BXHW))
            if any(ctx.needs_input_grad[4 + num :]):
                of_weights += _of_weights(of_y_KND[first:last], x_NX, c)
            first = last
        of_scale_K = (slope_KD * factor_KD).sum(1) * grad_ND.shape[0]
        return None, None, None, of_scale_K, *of_xs, *(of_weights or [None] * k)


def _of_centred(
    grad: torch.Tensor,
    factor: torch.Tensor,
    y: torch.Tensor,
    slope: torch.Tensor,
    mean: torch.Tensor,
    scale: torch.Tensor,
    out: torch.Tensor,
) -> torch.Tensor:
    """Gradient of a centred y that was multiplied by `scale`, a weight times `factor` = 1 / deviation.

    Args:
        grad: Of the outputs.
        factor: For each channel.
        y: The centred values.
        slope: Mean of the product of the two.
        mean: Of the outputs' gradients.
        scale: For each channel.
        out: Where to.
    """
    torch.addcmul(mean * -scale, y, factor.square().mul(scale).mul(slope), value=-1, out=out)
    return out.addcmul_(grad, scale)
