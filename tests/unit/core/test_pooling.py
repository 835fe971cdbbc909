"""The mean over a map."""

import pytest
import torch
from torch.nn import functional

from nasframe.core import global_average_pool


def test_each_channel_becomes_its_mean():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    want = torch.stack([torch.stack([channel.mean() for channel in image]) for image in x])
    torch.testing.assert_close(global_average_pool(x), want, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format], ids=str)
def test_what_comes_before_gets_its_gradient_in_its_own_memory_format(memory_format):
    x = torch.randn(2, 3, 4, 5).to(memory_format=memory_format).requires_grad_()
    (gradient,) = torch.autograd.grad(global_average_pool(functional.relu(x)).square().sum(), x)
    assert gradient.is_contiguous(memory_format=memory_format)
