"""The strided 1x1 convolution is the plain one, in value and gradient, in every memory format."""

import pytest
import torch
from torch.nn import functional

from nasframe.ops.factorized_reduction import FactorizedReduction
from nasframe.ops.pointwise_conv import PointwiseConv


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 2, 4, 7, 8, 16])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_it_equals_the_plain_convolution_in_value_and_gradient(stride, channels, memory_format):
    torch.manual_seed(0)
    conv = PointwiseConv(channels, 6, stride=stride).to(memory_format=memory_format)
    x = torch.randn(4, channels, 8, 7).contiguous(memory_format=memory_format).requires_grad_()
    x_64, weight_64 = (each.detach().double().contiguous().requires_grad_() for each in (x, conv.weight))
    plain = functional.conv2d(x_64, weight_64, stride=stride)
    direction = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * direction).sum(), [x_64, weight_64])

    out = conv(x)
    gradients = torch.autograd.grad((out * direction.float()).sum(), [x, conv.weight])

    torch.testing.assert_close(out, plain.float())
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_a_narrow_reduction_has_right_gradients_in_the_memory_format_of_a_search(channels):
    torch.manual_seed(0)
    plain = FactorizedReduction(channels, 8, affine=True).double()
    fast = FactorizedReduction(channels, 8, affine=True).to(memory_format=torch.channels_last)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(16, channels, 16, 16)
    direction = torch.randn(16, 8, 8, 8)
    (fast(x.contiguous(memory_format=torch.channels_last)) * direction).sum().backward()
    (plain(x.double()) * direction).sum().backward()
    for (name, parameter), wanted in zip(fast.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            parameter.grad.double(),
            wanted.grad,
            rtol=1e-3,
            atol=1e-3,
            msg=lambda said, at=name: f"{at}: {said}",
        )


def test_of_what_a_reduction_reads_only_the_relu_is_kept_whole():
    reduction = FactorizedReduction(8, 8, affine=True).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        reduction(x)
    assert [num_bytes for num_bytes, _ in kept.values() if num_bytes > x.nbytes / 2] == [x.nbytes]


def test_gradients_of_gradients_of_a_strided_convolution_are_those_of_the_plain_one():
    torch.manual_seed(0)
    conv = PointwiseConv(4, 3, stride=2).double()
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    found = []
    for out in (conv(x), functional.conv2d(x, conv.weight, stride=2)):
        first = torch.autograd.grad(torch.tanh(out).sum(), [x, conv.weight], create_graph=True)
        slope = sum((each**2).sum() for each in first)
        found.append(torch.autograd.grad(slope, [x, conv.weight]))
    for gradient, wanted in zip(*found, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)
