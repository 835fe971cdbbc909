"""The convolution by phases is the dilated convolution, in value and gradient."""

import pytest
import torch
from torch.nn import functional

from nasframe.ops.dilated_conv import DilatedDepthwiseConv


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 8), (6, 10), (7, 8), (5, 5), (1, 1), (2, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_phases_equal_the_plain_convolution_in_value_and_gradient(kernel_size, stride, size, memory_format):
    torch.manual_seed(0)
    conv = DilatedDepthwiseConv(3, kernel_size=kernel_size, stride=stride).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    plain = functional.conv2d(x, conv.weight, stride=stride, padding=kernel_size - 1, dilation=2, groups=3)
    direction = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * direction).sum(), [x, conv.weight])

    out = conv.train()(x)
    gradients = torch.autograd.grad((out * direction).sum(), [x, conv.weight])

    torch.testing.assert_close(out, plain, rtol=1e-12, atol=1e-12)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(conv.eval()(x), plain, rtol=0, atol=0)


def test_channels_last_stays_channels_last():
    conv = DilatedDepthwiseConv(4, kernel_size=3, stride=1).to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    assert conv(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_gradients_of_gradients_are_those_of_the_plain_convolution(kernel_size):
    torch.manual_seed(0)
    conv = DilatedDepthwiseConv(2, kernel_size=kernel_size, stride=1).double()
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    found = []
    for out in (
        conv(x),
        functional.conv2d(x, conv.weight, padding=kernel_size - 1, dilation=2, groups=2),
    ):
        first = torch.autograd.grad(torch.tanh(out).sum(), [x, conv.weight], create_graph=True)
        slope = sum((each**2).sum() for each in first)
        found.append(torch.autograd.grad(slope, [x, conv.weight]))
    for gradient, wanted in zip(*found, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)


def test_only_the_input_is_kept_of_the_image():
    conv = DilatedDepthwiseConv(4, kernel_size=3, stride=1)
    x = torch.relu(torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)).requires_grad_()
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        conv(x)
    assert {each.data_ptr() for each in kept} == {x.data_ptr(), conv.weight.data_ptr()}
