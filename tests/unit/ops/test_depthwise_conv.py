"""The depthwise convolution is the plain one, in value and gradient."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nasframe.core import depthwise
from nasframe.errors import UnsupportedError
from nasframe.ops.depthwise_conv import DepthwiseConv


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch):
    """The gradients that are written for AVX2 are right on every processor."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def _twins(channels, kernel_size, stride, dtype):
    """The convolution, and PyTorch's of the same weights."""
    ours = DepthwiseConv(channels, kernel_size=kernel_size, stride=stride).to(dtype)
    padding = kernel_size // 2
    plain = nn.Conv2d(
        channels, channels, kernel_size, stride, padding, groups=channels, bias=False, dtype=dtype
    )
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize("size", [(8, 8), (4, 4), (3, 5), (9, 6), (6, 2), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 9])
def test_gradients_equal_the_plain_convolution_s(kernel_size, stride, size):
    ours, plain = _twins(3, kernel_size, stride, torch.float64)
    x_BCHW = torch.randn(2, 3, *size, dtype=torch.float64).to(memory_format=torch.channels_last)
    x_BCHW.requires_grad_()
    out_BCHW = ours(x_BCHW)
    grad_BCHW = torch.randn_like(out_BCHW)
    got = torch.autograd.grad(out_BCHW, [x_BCHW, ours.weight], grad_BCHW)
    want = torch.autograd.grad(plain(x_BCHW), [x_BCHW, plain.weight], grad_BCHW)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_wide_kernels_are_put_together_from_narrow_ones(monkeypatch):
    widths = []
    whole = depthwise._gradients

    def counted(*args):
        weight = args[2]
        widths.append(weight.shape[-1])
        return whole(*args)

    monkeypatch.setattr(depthwise, "_gradients", counted)
    for kernel_size, want in ((5, [3, 3]), (7, [2, 3, 2])):
        widths.clear()
        ours, _ = _twins(8, kernel_size, 1, torch.float32)
        ours(torch.randn(2, 8, 8, 8).to(memory_format=torch.channels_last)).sum().backward()
        assert widths == want


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_second_derivatives_exist(kernel_size):
    conv = DepthwiseConv(2, kernel_size=kernel_size).double()
    x_BCHW = torch.randn(1, 2, 4, 4, dtype=torch.float64).to(memory_format=torch.channels_last)
    assert torch.autograd.gradgradcheck(
        lambda x, weight: depthwise.depthwise_conv(x, weight),
        (x_BCHW.requires_grad_(), conv.weight),
    )


@pytest.mark.parametrize(("kernel_size", "stride", "dilation"), [(3, 1, 1), (5, 1, 1), (3, 2, 1), (3, 1, 2)])
def test_several_together_can_be_differentiated_twice(kernel_size, stride, dilation):
    torch.manual_seed(0)
    xs = [torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    size = (1, 1, kernel_size, kernel_size)
    weights = [torch.randn(size, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def together(one, other, *weights):
        maps = [each.contiguous(memory_format=torch.channels_last) for each in (one, other)]
        return depthwise.depthwise_convs(maps, weights, stride=stride, dilation=dilation)

    assert torch.autograd.gradgradcheck(together, (*xs, *weights))


def test_second_derivatives_take_as_many_operations_whatever_the_channels():
    """PyTorch's own go channel by channel."""

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += not func.is_view
            return func(*args, **(kwargs or {}))

    def count(channels):
        x_BCHW = torch.randn(1, channels, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
        weight = torch.randn(channels, 1, 3, 3, requires_grad=True)
        with Counter() as counter:
            out = depthwise.depthwise_convs([x_BCHW], [weight]).square().sum()
            slopes = torch.autograd.grad(out, [x_BCHW, weight], create_graph=True)
            torch.autograd.grad(sum(each.square().sum() for each in slopes), [x_BCHW, weight])
        return counter.count

    assert count(2) == count(16)


def test_a_third_derivative_is_refused_not_wrong():
    x_BCHW = torch.randn(1, 2, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(2, 1, 3, 3, requires_grad=True)
    out = depthwise.depthwise_convs([x_BCHW], [weight])
    (slope,) = torch.autograd.grad(out.square().sum(), weight, create_graph=True)
    with pytest.raises(UnsupportedError, match="third derivatives"):
        torch.autograd.grad(slope.square().sum(), x_BCHW, create_graph=True)


def test_only_what_is_asked_for_is_computed(monkeypatch):
    ours, _ = _twins(8, 5, 1, torch.float32)
    x_BCHW = torch.randn(2, 8, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    monkeypatch.setattr(depthwise, "_gradient_of_weight", None)  # would fail if it was called
    ours.weight.requires_grad_(False)
    ours(x_BCHW).sum().backward()
    assert x_BCHW.grad is not None
