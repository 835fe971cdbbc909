"""Batch norms that are computed together with what follows are PyTorch's own, to every order."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasframe.core.batch_norm import ExactBatchNorm2d, can_normalize, normalize, track


def _random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("relu", [False, True])
def test_a_norm_equals_pytorch_s(relu, memory_format):
    torch.manual_seed(0)
    x, direction = _random(4, 3, 5, 6), torch.randn(4, 3, 5, 6, dtype=torch.float64)
    norm = nn.BatchNorm2d(3, affine=False).double()
    plain = norm(x).relu() if relu else norm(x)
    expected = torch.autograd.grad((plain * direction).sum(), x)

    other = nn.BatchNorm2d(3, affine=False).double()
    made = (2 * x).contiguous(memory_format=memory_format)  # twice x, to be halved: nobody else's
    out, seen = normalize(made / 2, other, relu=relu)
    track([seen])

    torch.testing.assert_close(out, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad((out * direction).sum(), x), expected, rtol=1e-10, atol=1e-12
    )
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(other.get_buffer(name), buffer, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("relu", [False, True])
def test_a_norm_can_be_differentiated_twice(relu):
    torch.manual_seed(0)
    x, norm = _random(2, 3, 3, 2), nn.BatchNorm2d(3, affine=False).double()

    def out(x):
        return normalize(x * 1.0, norm, relu=relu)[0]

    assert torch.autograd.gradcheck(out, x)
    assert torch.autograd.gradgradcheck(out, x)


def test_statistics_are_as_exact_in_channels_last_as_elsewhere():
    torch.manual_seed(0)
    x = torch.randn(16, 16, 32, 32) + 3
    exact = functional.batch_norm(x.double(), None, None, training=True)
    plain = functional.batch_norm(x, None, None, training=True)
    made = x.contiguous(memory_format=torch.channels_last).clone()
    out, _ = normalize(made, nn.BatchNorm2d(16, affine=False))
    assert (out - exact).abs().max() <= 2 * (plain - exact).abs().max()


@pytest.mark.parametrize("affine", [False, True])
def test_the_layer_is_pytorch_s_and_as_exact_in_channels_last_as_elsewhere(affine):
    torch.manual_seed(0)
    x, direction = torch.randn(16, 16, 32, 32) + 3, torch.randn(16, 16, 32, 32)
    plain, layer = nn.BatchNorm2d(16, affine=affine), ExactBatchNorm2d(16, affine=affine)
    exact = nn.BatchNorm2d(16, affine=affine).double()
    results = []
    for norm, given in (
        (exact, x.double()),
        (plain, x.clone()),
        (layer, x.contiguous(memory_format=torch.channels_last)),
    ):
        before = given.clone()
        out = norm(given.requires_grad_())
        (out * direction).sum().backward()
        assert torch.equal(given, before)
        parameters = [parameter.grad for parameter in norm.parameters()]
        results.append([out, given.grad, *parameters, norm.running_mean, norm.running_var])
    for wanted, one, other in zip(*results, strict=True):
        error = (one - wanted).abs().max()
        assert (other - wanted).abs().max() <= 2 * error + 1e-6 * wanted.abs().max()
    assert torch.equal(layer.eval()(x), nn.BatchNorm2d.forward(layer, x))


def test_a_single_value_a_channel_is_refused_as_pytorch_refuses_it():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normalize(torch.zeros(1, 2, 1, 1), nn.BatchNorm2d(2, affine=False))


def test_only_maps_of_several_values_a_channel_on_the_cpu_in_their_own_precision_are_taken():
    assert can_normalize(torch.zeros(1, 2, 1, 2))
    assert not can_normalize(torch.zeros(1, 2, 1, 1))
    assert not can_normalize(torch.zeros(2, 2))
    assert not can_normalize(torch.zeros(1, 2, 1, 2, dtype=torch.bfloat16))
    assert not can_normalize(torch.zeros(1, 2, 1, 2, device="meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_normalize(torch.zeros(1, 2, 1, 2))
