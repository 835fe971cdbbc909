"""1x1 convolutions and the batch norms after them, in training, without what is between the two.

A batch norm without parameters of y = W x subtracts W·mean(x) and divides by the deviation, whose square
is the diagonal of W·cov(x)·Wᵀ. So it is another 1x1 convolution, of the centred x, that the covariance of
x tells: y is neither made nor kept, several of them are added up as products of matrices, and what is
left of the batch norms are matrices of C x C. Where a graph of the gradients is asked for
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
        x_BXHW: The inputs, C channels after C channels (X = K · C), in channels_last. It is overwritten, so
            it must be nobody else's, and what made it must not have saved it.
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
    return x_NX.view(len(x_NX), -1, num_channels).transpose(0, 1)


def _empty_like(x_BCHW: torch.Tensor, num_channels: int) -> torch.Tensor:
    """A map of so many channels."""
    b, _, h, w = x_BCHW.shape
    return torch.empty((b, num_channels, h, w), dtype=x_BCHW.dtype, memory_format=torch.channels_last)


def _as_map(x_NC: torch.Tensor, like_BCHW: torch.Tensor) -> torch.Tensor:
    """A view of shape B C H W."""
    b, _, h, w = like_BCHW.shape
    return x_NC.view(b, h, w, -1).permute(0, 3, 1, 2)


class _Folded(NamedTuple):
    """Batch norms as factors of the convolutions before them.

    Attributes:
        weight_KDC: Of the convolutions.
        slope_KDC: Derivative of half the variances in the weights: W·cov(x).
        factor_KD: 1 / deviation.
        scale_KD: What a convolution's output is multiplied with: a factor, and what comes on top of it.
    """

    weight_KDC: torch.Tensor
    slope_KDC: torch.Tensor
    factor_KD: torch.Tensor
    scale_KD: torch.Tensor

    @classmethod
    def of(
        cls,
        xs: Sequence[torch.Tensor],
        weights: Sequence[torch.Tensor],
        eps: float,
        scale_K: torch.Tensor | None = None,
    ) -> "tuple[_Folded, Seen]":
        """Centre the inputs, rows of one or several C each, in place."""
        num_rows = len(xs[0])
        if num_rows == 1:
            functional.batch_norm(xs[0], None, None, training=True)  # refuses a single value a channel
        weight_KDC = torch.stack(list(weights)).flatten(2)
        num_channels = weight_KDC.shape[2]
        means, covariances = [], []
        for x_NX in xs:
            mean_X = x_NX.mean(0)
            x_KNC = _each(x_NX.sub_(mean_X), num_channels)
            means.append(mean_X.view(-1, num_channels))
            covariances.append(torch.bmm(x_KNC.transpose(1, 2), x_KNC))
        slope_KDC = torch.bmm(weight_KDC, _joined(covariances)).div_(num_rows)
        var_KD = (slope_KDC * weight_KDC).sum(2).clamp_(min=0)
        factor_KD = (var_KD + eps).rsqrt_()
        scale_KD = factor_KD if scale_K is None else factor_KD * scale_K[:, None]
        seen = Seen(torch.bmm(weight_KDC, _joined(means)[:, :, None]).squeeze(2), var_KD, num_rows)
        return cls(weight_KDC, slope_KDC, factor_KD, scale_KD), seen

    def matrices(self) -> torch.Tensor:
        """What takes the place of the convolutions' weights, K D C."""
        return self.scale_KD[:, :, None] * self.weight_KDC

    def through_statistics(
        self, product_KDC: torch.Tensor, num_rows: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the gradients have of the way through the variances.

        Args:
            product_KDC: Of the outputs' gradients, transposed, with the centred inputs.
            num_rows: N.

        Returns:
            The gradient of `scale_KD`, that of the variances (K D), and the matrices (K C C) that take
            the inputs to their share.
        """
        of_scale_KD = (product_KDC * self.weight_KDC).sum(2)
        of_var_KD = (self.factor_KD.square() * self.scale_KD).mul_(of_scale_KD).mul_(-0.5)
        weighted_KDC = (of_var_KD * (2 / num_rows))[:, :, None] * self.weight_KDC
        return of_scale_KD, of_var_KD, torch.bmm(self.weight_KDC.transpose(1, 2), weighted_KDC)

    def of_weights(self, product_KDC: torch.Tensor, of_var_KD: torch.Tensor) -> list[torch.Tensor]:
        """Gradients of the convolutions' weights; overwrites the product."""
        of_weight_KDC = product_KDC.mul_(self.scale_KD[:, :, None])
        of_weight_KDC.addcmul_(self.slope_KDC, of_var_KD[:, :, None], value=2)
        return list(of_weight_KDC[..., None, None].unbind())


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


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
        x_NX = _rows(x_BXHW)
        folded, statistics = _Folded.of([x_NX], weights, eps)
        seen.append(statistics)
        matrix_KCD = folded.matrices().transpose(1, 2)
        _, c, d = matrix_KCD.shape
        out_BYHW = _empty_like(x_BXHW, len(weights) * d)
        for x_NC, out_ND, matrix_CD in zip(
            _each(x_NX, c), _each(_rows(out_BYHW), d), matrix_KCD, strict=True
        ):
            torch.mm(x_NC, matrix_CD, out=out_ND)
        out_BYHW.relu_()
        ctx.save_for_backward(x_BXHW, *weights, out_BYHW, *folded)
        ctx.eps = eps
        return out_BYHW

    @staticmethod
    def backward(ctx: Any, grad_BYHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_BXHW, *weights, out_BYHW, weight_KDC, slope_KDC, factor_KD, scale_KD = ctx.saved_tensors
        if torch.is_grad_enabled():

            def plain(inputs: list[torch.Tensor]) -> torch.Tensor:
                return functional.relu(torch.cat(_all_plain(inputs[:1], inputs[1:], ctx.eps), dim=1))

            return None, None, *_with_graph(plain, [x_BXHW, *weights], grad_BYHW)
        folded = _Folded(weight_KDC, slope_KDC, factor_KD, scale_KD)
        _, d, c = weight_KDC.shape
        grad_NY = _rows(torch.ops.aten.threshold_backward.default(grad_BYHW, out_BYHW, 0))
        x_NX = _rows(x_BXHW)
        grad_KND, x_KNC, num_rows = _each(grad_NY, d), _each(x_NX, c), len(x_NX)
        product_KDC = torch.bmm(grad_KND.transpose(1, 2), x_KNC)
        _, of_var_KD, back_KCC = folded.through_statistics(product_KDC, num_rows)
        matrix_KDC = folded.matrices()
        total_KD = grad_NY.sum(0).view(-1, d)
        constant_KC = torch.bmm(total_KD[:, None], matrix_KDC).squeeze(1).div_(-num_rows)
        of_x_NX = torch.empty_like(x_NX)
        for grad_ND, x_NC, constant_C, matrix_DC, back_CC, of_x_NC in zip(
            grad_KND, x_KNC, constant_KC, matrix_KDC, back_KCC, _each(of_x_NX, c), strict=True
        ):
            torch.addmm(constant_C, grad_ND, matrix_DC, out=of_x_NC).addmm_(x_NC, back_CC)
        of_weights: list[torch.Tensor | None] = [None] * len(weights)
        if any(ctx.needs_input_grad[3:]):
            of_weights[:] = folded.of_weights(product_KDC, of_var_KD)
        return None, None, _as_map(of_x_NX, x_BXHW), *of_weights


@final
class _SumOfNormalized(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, eps: float, seen: list[Seen], num: int, scale_K: torch.Tensor, *tensors: torch.Tensor
    ) -> torch.Tensor:
        xs, weights = list(map(_rows, tensors[:num])), tensors[num:]
        folded, statistics = _Folded.of(xs, weights, eps, scale_K)
        seen.append(statistics)
        matrix_KCD = folded.matrices().transpose(1, 2)
        _, c, d = matrix_KCD.shape
        out_BDHW = _empty_like(tensors[0], d)
        out_ND, first = _rows(out_BDHW), 0
        for x_NX in xs:
            last = first + x_NX.shape[1] // c
            out_ND.addmm_(x_NX, matrix_KCD[first:last].reshape(-1, d), beta=0 if first == 0 else 1)
            first = last
        ctx.save_for_backward(scale_K, *tensors, *folded)
        ctx.eps, ctx.num = eps, num
        return out_BDHW

    @staticmethod
    def backward(ctx: Any, grad_BDHW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        num, (scale_K, *tensors, weight_KDC, slope_KDC, factor_KD, scale_KD) = ctx.num, ctx.saved_tensors
        weights = tensors[num:]
        if torch.is_grad_enabled():

            def plain(inputs: list[torch.Tensor]) -> torch.Tensor:
                outs_BDHW = _all_plain(inputs[1 : 1 + num], inputs[1 + num :], ctx.eps)
                return torch.einsum("k,kbdhw->bdhw", inputs[0], torch.stack(outs_BDHW))

            return None, None, None, *_with_graph(plain, [scale_K, *tensors], grad_BDHW)
        folded = _Folded(weight_KDC, slope_KDC, factor_KD, scale_KD)
        _, d, c = weight_KDC.shape
        grad_ND = _rows(grad_BDHW.contiguous(memory_format=torch.channels_last))
        xs, num_rows = list(map(_rows, tensors[:num])), len(grad_ND)
        products = [(grad_ND.t() @ x_NX).view(d, -1, c).transpose(0, 1) for x_NX in xs]
        product_KDC = _joined(products)
        of_scale_KD, of_var_KD, back_KCC = folded.through_statistics(product_KDC, num_rows)
        matrix_DKC = folded.matrices().transpose(0, 1)
        matrix_DX = matrix_DKC.reshape(d, -1)
        constant_X = (grad_ND.sum(0) @ matrix_DX).div_(-num_rows)
        of_xs, first = [], 0
        for x_NX, x_BXHW in zip(xs, tensors[:num], strict=True):
            last = first + x_NX.shape[1]
            of_x_NX = torch.addmm(constant_X[first:last], grad_ND, matrix_DX[:, first:last])
            for of_x_NC, x_NC, back_CC in zip(
                _each(of_x_NX, c), _each(x_NX, c), back_KCC[first // c : last // c], strict=True
            ):
                of_x_NC.addmm_(x_NC, back_CC)
            of_xs.append(_as_map(of_x_NX, x_BXHW))
            first = last
        of_scale_K = (of_scale_KD * factor_KD).sum(1)
        of_weights: list[torch.Tensor | None] = [None] * len(weights)
        if any(ctx.needs_input_grad[4 + num :]):
            of_weights[:] = folded.of_weights(product_KDC.contiguous(), of_var_KD)
        return None, None, None, of_scale_K, *of_xs, *of_weights
