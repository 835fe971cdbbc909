"""1x1 convolutions folded into the batch norms after them are PyTorch's own two layers, to every order."""

import pytest
import torch
from torch.nn import functional

from nasframe.core.pointwise import normalized_relus, sum_of_normalized

EPS = 1e-2


def _random(*shape, dtype=torch.float64):
    x = torch.randn(*shape, dtype=dtype)
    return (x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x).requires_grad_()


def _plain(x, weight, eps=EPS):
    return functional.batch_norm(functional.conv2d(x, weight), None, None, training=True, eps=eps)


def _joined(*xs):
    """Inputs in one tensor that is nobody else's."""
    return torch.cat(xs, dim=1)


def _three(*, size=(4, 3, 5, 6), out_channels=2, dtype=torch.float64):
    torch.manual_seed(0)
    xs = [_random(*size, dtype=dtype) for _ in range(3)]
    weights = [_random(out_channels, size[1], 1, 1, dtype=dtype) for _ in range(3)]
    return _random(3, dtype=dtype), xs, weights


@pytest.mark.parametrize("joined", [(3,), (1, 2), (1, 1, 1)])
def test_a_sum_of_scaled_norms_equals_pytorch_s(joined):
    scale, xs, weights = _three()
    parts, first = [], 0
    for count in joined:
        parts.append(_joined(*xs[first : first + count]) * 1.0)
        first += count
    found, seen = sum_of_normalized(scale, parts, weights, EPS)
    plain = sum(s * _plain(x, weight) for s, x, weight in zip(scale, xs, weights, strict=True))
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    direction, inputs = torch.randn_like(plain), [scale, *xs, *weights]
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, direction),
        torch.autograd.grad(plain, inputs, direction),
        rtol=1e-10,
        atol=1e-11,
    )
    for index, (x, weight) in enumerate(zip(xs, weights, strict=True)):
        y = functional.conv2d(x, weight)
        torch.testing.assert_close(seen.mean_KD[index], y.mean((0, 2, 3)))
        torch.testing.assert_close(seen.var_KD[index], y.var((0, 2, 3), correction=0))
    assert seen.num_values == 4 * 5 * 6


def test_relus_of_norms_equal_pytorch_s():
    _, xs, weights = _three()
    found, seen = normalized_relus(_joined(*xs), weights, EPS)
    plain = torch.cat([_plain(x, weight).relu() for x, weight in zip(xs, weights, strict=True)], dim=1)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    direction, inputs = torch.randn_like(plain), [*xs, *weights]
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, direction),
        torch.autograd.grad(plain, inputs, direction),
        rtol=1e-10,
        atol=1e-11,
    )
    torch.testing.assert_close(
        seen.var_KD[2], functional.conv2d(xs[2], weights[2]).var((0, 2, 3), correction=0)
    )


def test_both_can_be_differentiated_twice():
    scale, xs, weights = _three(size=(2, 2, 2, 2))

    def summed(scale, *tensors):
        return sum_of_normalized(scale, [tensors[0] * 1.0, _joined(*tensors[1:3])], tensors[3:], EPS)[0]

    def relus(*tensors):
        return normalized_relus(_joined(*tensors[:3]), tensors[3:], EPS)[0]

    assert torch.autograd.gradgradcheck(summed, (scale, *xs, *weights))
    assert torch.autograd.gradgradcheck(relus, (*xs, *weights))


def test_inputs_that_are_made_from_each_other_are_counted_once():
    scale, xs, weights = _three(size=(2, 2, 2, 2))

    def summed(scale, x):
        first = x * 1.0
        second = first**2
        return sum_of_normalized(scale[:2], [first * 1.0, second], weights[:2], EPS)[0]

    assert torch.autograd.gradgradcheck(summed, (scale, xs[0]))


def test_frozen_weights_get_no_gradient_and_scales_and_inputs_do():
    scale, xs, weights = _three()
    frozen = [weight.detach() for weight in weights]
    found, _ = sum_of_normalized(scale, [_joined(*xs)], frozen, EPS)
    plain = sum(s * _plain(x, weight) for s, x, weight in zip(scale, xs, frozen, strict=True))
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), [scale, *xs]),
        torch.autograd.grad(plain.square().sum(), [scale, *xs]),
        rtol=1e-10,
        atol=1e-10,
    )


def test_it_is_as_exact_in_single_precision_as_pytorch_in_its_own_memory_format():
    """Error of the gradients against float64, at most twice that of NCHW (plus 1e-6 of their length)."""
    scale, xs, weights = _three(size=(16, 16, 32, 32), out_channels=16, dtype=torch.float32)
    with torch.no_grad():
        for x in xs:
            x += 2  # a mean that is large against the deviation
    direction = torch.randn(16, 16, 32, 32)

    def gradients(make, *, dtype=torch.float32, memory_format=torch.contiguous_format):
        inputs = [each.detach().to(dtype).requires_grad_() for each in (scale, *xs, *weights)]
        maps = [each.contiguous(memory_format=memory_format) for each in inputs[1:4]]
        out = make(inputs[0], maps, inputs[4:])
        return torch.autograd.grad(out, inputs, direction.to(dtype))

    def plain(scale, xs, weights):
        return sum(s * _plain(x, weight, 1e-5) for s, x, weight in zip(scale, xs, weights, strict=True))

    def folded(scale, xs, weights):
        return sum_of_normalized(scale, [_joined(*xs)], weights, 1e-5)[0]

    exact = gradients(plain, dtype=torch.float64)
    nchw = gradients(plain)
    ours = gradients(folded, memory_format=torch.channels_last)
    for wanted, one, other in zip(exact, nchw, ours, strict=True):
        assert (other - wanted).norm() <= 2 * (one - wanted).norm() + 1e-6 * wanted.norm()


def test_a_single_value_a_channel_is_refused_as_pytorch_refuses_it():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normalized_relus(torch.zeros(1, 2, 1, 1), [torch.zeros(2, 2, 1, 1)], EPS)
