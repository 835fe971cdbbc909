"""The block of MobileNetV2, its head, and the identity that may project."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasframe.core import ops
from nasframe.ops.conv_classifier import ConvClassifier
from nasframe.ops.identity import identity
from nasframe.ops.inverted_residual import InvertedResidual


def _weights(block):
    return [module.weight for module in block.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize(
    ("out_channels", "stride", "shortcut"), [(4, 1, True), (4, 2, False), (6, 1, False), (6, 2, False)]
)
def test_block_is_widen_depthwise_narrow_plus_the_input_where_the_shape_stays(out_channels, stride, shortcut):
    torch.manual_seed(0)
    block = InvertedResidual(4, out_channels, kernel_size=5, expansion=3, stride=stride).double().eval()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    widen, depthwise, narrow = _weights(block)
    scale = (1 + 1e-5) ** -0.5  # a new batch norm in evaluation: mean 0, variance 1, eps 1e-5
    y = functional.relu6(scale * functional.conv2d(x, widen))
    y = functional.relu6(scale * functional.conv2d(y, depthwise, stride=stride, padding=2, groups=12))
    y = scale * functional.conv2d(y, narrow)
    torch.testing.assert_close(block(x), y + x if shortcut else y, rtol=1e-12, atol=1e-12)


def test_expansion_1_has_no_widening_convolution():
    block = InvertedResidual(4, 6, kernel_size=3, expansion=1, stride=1)
    assert [tuple(weight.shape) for weight in _weights(block)] == [(4, 1, 3, 3), (6, 4, 1, 1)]


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("expansion", [3, 6])
def test_registered_blocks_are_what_their_names_say(kernel_size, expansion):
    block = ops[f"mb_k{kernel_size}_e{expansion}"](4, 6, 2, True)
    middle = expansion * 4
    assert [tuple(weight.shape) for weight in _weights(block)] == [
        (middle, 4, 1, 1),
        (middle, 1, kernel_size, kernel_size),
        (6, middle, 1, 1),
    ]
    assert [type(m) for m in block.modules() if "ReLU" in type(m).__name__] == [nn.ReLU6, nn.ReLU6]


def test_block_leaves_its_input_alone():
    x = torch.randn(2, 4, 6, 6)
    before = x.clone()
    InvertedResidual(4, 4, kernel_size=3, expansion=3, stride=1)(x)
    assert torch.equal(x, before)


def test_identity_projects_only_where_the_shape_changes():
    x = torch.randn(2, 4, 6, 6)
    assert identity(4, 4, 1, True)(x) is x
    for out_channels, stride in ((4, 2), (8, 1), (8, 2)):
        (weight,) = _weights(
            projection := identity(out_channels=out_channels, in_channels=4, stride=stride, affine=True)
        )
        assert tuple(weight.shape) == (out_channels, 4, 1, 1)
        expected = functional.conv2d(x, weight, stride=stride) * (1 + 1e-5) ** -0.5
        torch.testing.assert_close(projection.eval()(x), expected)


def test_head_classifies_the_mean_of_its_features():
    torch.manual_seed(0)
    head = ConvClassifier(4, 8, 3, activation=nn.ReLU).double().eval()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    features = functional.relu(functional.conv2d(x, _weights(head)[0]) * (1 + 1e-5) ** -0.5)
    expected = functional.linear(features.mean((2, 3)), head.classifier.weight, head.classifier.bias)
    torch.testing.assert_close(head(x), expected, rtol=1e-12, atol=1e-12)
