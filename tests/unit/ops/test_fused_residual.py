"""The block of EfficientNetV2's early stages."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasframe.core import Task, ops, price
from nasframe.costs.parameters import Parameters
from nasframe.ops.fused_residual import FusedResidual
from nasframe.spaces.mobile import Mobile


def _weights(block):
    return [module.weight for module in block.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize(
    ("out_channels", "stride", "shortcut"), [(4, 1, True), (4, 2, False), (6, 1, False), (6, 2, False)]
)
def test_block_widens_by_a_full_convolution_and_narrows_plus_the_input_where_the_shape_stays(
    out_channels, stride, shortcut
):
    torch.manual_seed(0)
    block = FusedResidual(4, out_channels, kernel_size=5, expansion=3, stride=stride).double().eval()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    before = x.clone()
    widen, narrow = _weights(block)
    scale = (1 + 1e-5) ** -0.5  # a new batch norm in evaluation: mean 0, variance 1, eps 1e-5
    y = functional.relu6(scale * functional.conv2d(x, widen, stride=stride, padding=2))
    y = scale * functional.conv2d(y, narrow)
    torch.testing.assert_close(block(x), y + x if shortcut else y, rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before)


@pytest.mark.parametrize("stride", [1, 2])
def test_expansion_1_is_one_convolution_with_its_activation(stride):
    torch.manual_seed(0)
    block = FusedResidual(4, 4, kernel_size=3, expansion=1, stride=stride).double().eval()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    (weight,) = _weights(block)
    y = functional.conv2d(x, weight, stride=stride, padding=1) * (1 + 1e-5) ** -0.5
    y = functional.relu6(y)
    torch.testing.assert_close(block(x), y + x if stride == 1 else y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("fused_k3_e1", [(6, 4, 3, 3)]),
        ("fused_k3_e2", [(8, 4, 3, 3), (6, 8, 1, 1)]),
        ("fused_k3_e4", [(16, 4, 3, 3), (6, 16, 1, 1)]),
    ],
)
def test_registered_blocks_are_what_their_names_say(name, shapes):
    block = ops[name](4, 6, 2, True)
    assert [tuple(weight.shape) for weight in _weights(block)] == shapes
    assert [type(m) for m in block.modules() if "ReLU" in type(m).__name__] == [nn.ReLU6]


def test_a_mobile_space_may_choose_between_both_kinds_of_blocks():
    task, kinds = Task((3, 8, 8), 10), ("mb_k3_e6", "fused_k3_e2", "skip_connect")
    space = Mobile(task, operations=kinds, widths=(8,), depths=(2,), strides=(1,), stem="cifar", features=8)
    prices = price(space, task, Parameters()).choices["layer_1"]
    full, narrow, depthwise = 8 * 16 * 9, 16 * 8, 48 * 9
    assert {name: each.fixed for name, each in prices.items()} == {
        "mb_k3_e6": 8 * 48 + depthwise + 48 * 8 + 2 * (48 + 48 + 8),
        "fused_k3_e2": full + narrow + 2 * (16 + 8),
        "skip_connect": 0,
    }
