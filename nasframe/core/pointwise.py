"""1x1 convolutions and the batch norms after them, in training, several at once.

A convolution makes its output y centred, because the mean of y = W x is W·mean(x), and the deviation is that
of y. What a batch norm then is, a factor for each channel, goes into the ReLU or the weighted sum that
follows, so that its output is not kept beside y.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard, final

import torch
from torch import nn
from torch.nn import functional

from nasframe.core.depthwise import is_conv2d
from nasframe.core.second_order import last_derivative, second_derivatives


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


def _channels_last(x_BCHW: torch.Tensor) -> torch.Tensor:
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def _where_positive(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The gradient of a ReLU."""
    return torch.ops.aten.threshold_backward.default(grad, x, 0)  # type: ignore[no-any-return]


def _directions(along: Sequence[torch.Tensor | None], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of K weights, as K D C; zeros where there are none."""
    pairs = zip(along, weights, strict=True)
    return _stacked([torch.zeros_like(weight) if each is None else each for each, weight in pairs])


def _along(
    along_NX: torch.Tensor,
    weight_KDC: torch.Tensor,
    x_NX: torch.Tensor,
    along_KDC: torch.Tensor,
    out_KND: torch.Tensor,
) -> None:
    """What K convolutions do along directions of their inputs and of their weights."""
    c = weight_KDC.shape[2]
    torch.bmm(_each(along_NX, c), weight_KDC.mT, out=out_KND)
    out_KND.baddbmm_(_each(x_NX, c), along_KDC.mT)


def _through_convolutions(
    of_y_KND: torch.Tensor,
    of_along_KND: torch.Tensor,
    weight_KDC: torch.Tensor,
    along_KDC: torch.Tensor,
    x_NX: torch.Tensor,
    along_NX: torch.Tensor,
) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """Gradients of inputs and weights, of those of what `_centred` and `_along` make of them."""
    c, of_x_NX = weight_KDC.shape[2], torch.empty_like(x_NX)
    of_x_KNC = torch.bmm(of_y_KND, weight_KDC, out=_each(of_x_NX, c))
    of_x_KNC.baddbmm_(of_along_KND, along_KDC)
    pairs = zip(_of_weights(of_y_KND, x_NX, c), _of_weights(of_along_KND, along_NX, c), strict=True)
    return of_x_NX, [one + other for one, other in pairs]


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
        ctx.save_for_backward(y_NY, factor_Y, x_BXHW, *weights)
        return out_BYHW

    @staticmethod
    def backward(ctx: Any, grad_BYHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = _GradientsOfRelus.apply if torch.is_grad_enabled() else _of_relus
        return None, None, *gradients(any(ctx.needs_input_grad[3:]), grad_BYHW, *ctx.saved_tensors)


def _of_relus(
    want_weights: bool,
    grad_BYHW: torch.Tensor,
    y_NY: torch.Tensor,
    factor_Y: torch.Tensor,
    x_BXHW: torch.Tensor,
    *weights: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of the input and of each weight."""
    weight_KDC, x_NX = _stacked(weights), _rows(x_BXHW)
    _, d, c = weight_KDC.shape
    grad_NY = _where_positive(_rows(_channels_last(grad_BYHW)), y_NY)
    of_y_NY = grad_NY * y_NY
    of_y_NY = _of_centred(grad_NY, factor_Y, y_NY, of_y_NY.mean(0), grad_NY.mean(0), factor_Y, of_y_NY)
    of_y_KND, of_x_NX = _each(of_y_NY, d), torch.empty_like(x_NX)
    torch.bmm(of_y_KND, weight_KDC, out=_each(of_x_NX, c))
    of_weights: Sequence[torch.Tensor | None] = [None] * len(weights)
    if want_weights:
        of_weights = _of_weights(of_y_KND, x_NX, c)
    return _as_map(of_x_NX, x_BXHW), *of_weights


@final
class _GradientsOfRelus(torch.autograd.Function):
    """`_of_relus`, which can be differentiated."""

    @staticmethod
    def forward(ctx: Any, want_weights: bool, *tensors: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        ctx.save_for_backward(*tensors)
        return _of_relus(want_weights, *tensors)

    @staticmethod
    @last_derivative
    def backward(
        ctx: Any, along_x_BXHW: torch.Tensor, *along_weights: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        grad_BYHW, y_NY, factor_Y, x_BXHW, *weights = ctx.saved_tensors
        weight_KDC, along_KDC = _stacked(weights), _directions(along_weights, weights)
        d = weight_KDC.shape[1]
        x_NX, along_NX = _rows(x_BXHW), _rows(_channels_last(along_x_BXHW))
        along_NY = torch.empty_like(y_NY)
        _along(along_NX, weight_KDC, x_NX, along_KDC, _each(along_NY, d))
        grad_NY = _where_positive(_rows(_channels_last(grad_BYHW)), y_NY)
        found = second_derivatives(y_NY, factor_Y, factor_Y, grad_NY, along_NY, over=(0,))
        of_x_NX, of_weights = _through_convolutions(
            _each(found.of_x, d), _each(found.of_along, d), weight_KDC, along_KDC, x_NX, along_NX
        )
        of_grad_BYHW = _as_map(_where_positive(found.of_grad, y_NY), x_BXHW)
        return None, of_grad_BYHW, None, None, _as_map(of_x_NX, x_BXHW), *of_weights


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
        ctx.save_for_backward(y_KND, factor_KD, scale_K, *tensors)
        ctx.num = num
        return out_BDHW

    @staticmethod
    def backward(ctx: Any, grad_BDHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        want_weights = any(ctx.needs_input_grad[4 + ctx.num :])
        gradients = _GradientsOfSum.apply if torch.is_grad_enabled() else _of_sum
        return None, None, None, *gradients(ctx.num, want_weights, grad_BDHW, *ctx.saved_tensors)


def _of_sum(
    num: int,
    want_weights: bool,
    grad_BDHW: torch.Tensor,
    y_KND: torch.Tensor,
    factor_KD: torch.Tensor,
    scale_K: torch.Tensor,
    *tensors: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of the scales, of each tensor of inputs and of each weight."""
    weight_KDC = _stacked(tensors[num:])
    k, _, c = weight_KDC.shape
    grad_ND = _rows(_channels_last(grad_BDHW))
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
        if want_weights:
            of_weights += _of_weights(of_y_KND[first:last], x_NX, c)
        first = last
    of_scale_K = (slope_KD * factor_KD).sum(1) * grad_ND.shape[0]
    return of_scale_K, *of_xs, *(of_weights or [None] * k)


@final
class _GradientsOfSum(torch.autograd.Function):
    """`_of_sum`, which can be differentiated."""

    @staticmethod
    def forward(
        ctx: Any, num: int, want_weights: bool, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        ctx.save_for_backward(*tensors)
        ctx.num = num
        return _of_sum(num, want_weights, *tensors)

    @staticmethod
    @last_derivative
    def backward(
        ctx: Any, along_scale_K: torch.Tensor, *along: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        num, (grad_BDHW, y_KND, factor_KD, scale_K, *tensors) = ctx.num, ctx.saved_tensors
        inputs, weights = tensors[:num], tensors[num:]
        weight_KDC, along_KDC = _stacked(weights), _directions(along[num:], weights)
        c, along_KND, pieces, first = weight_KDC.shape[2], torch.empty_like(y_KND), [], 0
        for x_BXHW, along_BXHW in zip(inputs, along[:num], strict=True):
            assert along_BXHW is not None  # autograd makes zeros of what is missing
            x_NX, along_NX = _rows(x_BXHW), _rows(_channels_last(along_BXHW))
            ks = slice(first, first + x_NX.shape[1] // c)
            _along(along_NX, weight_KDC[ks], x_NX, along_KDC[ks], along_KND[ks])
            pieces.append((ks, x_BXHW, x_NX, along_NX))
            first = ks.stop
        factor_K1D = factor_KD[:, None]
        found = second_derivatives(
            y_KND,
            factor_K1D,
            factor_K1D * scale_K[:, None, None],
            _rows(_channels_last(grad_BDHW)),
            along_KND,
            along_scale=along_scale_K[:, None, None],
            over=(-2,),
        )
        of_xs: list[torch.Tensor] = []
        of_weights: list[torch.Tensor] = []
        for ks, x_BXHW, x_NX, along_NX in pieces:
            of_x_NX, of_some = _through_convolutions(
                found.of_x[ks], found.of_along[ks], weight_KDC[ks], along_KDC[ks], x_NX, along_NX
            )
            of_xs.append(_as_map(of_x_NX, x_BXHW))
            of_weights += of_some
        of_grad_BDHW, of_scale_K = _as_map(found.of_grad.sum(0), grad_BDHW), found.of_scale.sum((1, 2))
        return None, None, of_grad_BDHW, None, None, of_scale_K, *of_xs, *of_weights


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
