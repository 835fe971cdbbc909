"""The block of MobileNetV2, its head, and the identity that may project."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasframe.core import Task, ops, supernet
from nasframe.ops import inverted_residual
from nasframe.ops._normalized import statistics
from nasframe.ops.conv_classifier import ConvClassifier
from nasframe.ops.identity import identity
from nasframe.ops.inverted_residual import InvertedResidual
from nasframe.spaces.mobile import Mobile


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


# Layers computed together -----------------------------------------------------------------------------


@pytest.fixture
def small_maps(monkeypatch):
    """Maps of any size are computed together."""
    monkeypatch.setattr(inverted_residual, "_LARGE", 0)


def _block(dtype=torch.float64, **settings):
    """A block in channels_last whose batch norms are no identities."""
    settings = {"kernel_size": 3, "expansion": 3, "stride": 1, **settings}
    block = InvertedResidual(settings.pop("in_channels", 4), 4, **settings)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.5)
            nn.init.normal_(module.bias, 1.0, 2.0)
    return block.to(dtype).to(memory_format=torch.channels_last)


def _apart(block):
    twin = copy.deepcopy(block)
    twin.fused = False
    return twin


def _images(*shape, dtype=torch.float64):
    """Of a mean that is not zero, as maps after some blocks are."""
    return (2 * torch.randn(*shape, dtype=dtype) + 3).to(memory_format=torch.channels_last).requires_grad_()


def _saved_maps(block, x, channels):
    """How many maps of so many channels autograd keeps for a backward pass."""
    kept = {}

    def note(tensor):
        if tensor.dim() == 4 and tensor.shape[0] == len(x) and tensor.shape[1] == channels:
            kept[tensor.data_ptr()] = tensor  # held, so that no other comes to lie there
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        block(x)
    return len(kept)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"expansion": 1},
        {"expansion": 6, "kernel_size": 5},
        {"stride": 2},
        {"in_channels": 6, "kernel_size": 7},
        {"affine": False},
        {"activation": nn.ReLU},
    ],
    ids=str,
)
@pytest.mark.usefixtures("small_maps")
def test_layers_computed_together_equal_one_after_the_other(settings):
    torch.manual_seed(0)
    block = _block(**settings)
    plain, x = _apart(block), _images(3, settings.get("in_channels", 4), 9, 7)
    middle = settings.get("expansion", 3) * x.shape[1]
    assert _saved_maps(copy.deepcopy(block), x, middle) < _saved_maps(copy.deepcopy(plain), x, middle)
    out, plain_out = block(x), plain(x)
    torch.testing.assert_close(out, plain_out, rtol=1e-11, atol=1e-11)
    gradient = torch.randn_like(out)
    got = torch.autograd.grad(out, [x, *block.parameters()], gradient)
    want = torch.autograd.grad(plain_out, [x, *plain.parameters()], gradient)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(list(block.buffers()), list(plain.buffers()), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("small_maps")
def test_layers_computed_together_have_second_derivatives():
    torch.manual_seed(0)
    block, x = _block(), _images(2, 4, 5, 5)
    results = []
    for each in (block, _apart(block)):
        inputs = [x, *each.parameters()]
        gradients = torch.autograd.grad(each(x).square().sum(), inputs, create_graph=True)
        total = sum(gradient.square().sum() for gradient in gradients)
        results.append([*gradients, *torch.autograd.grad(total, inputs)])
    largest = max(each.abs().max().item() for each in results[0])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-13 * largest)


@pytest.mark.usefixtures("small_maps")
def test_a_block_without_gradients_returns_the_same_and_tracks_the_same():
    torch.manual_seed(0)
    block, x = _block(expansion=6), _images(2, 4, 6, 6)
    plain, before = _apart(block), x.detach().clone()
    with torch.no_grad():
        torch.testing.assert_close(block(x), plain(x), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(list(block.buffers()), list(plain.buffers()), rtol=1e-12, atol=1e-12)
    assert torch.equal(x.detach(), before)


@pytest.mark.usefixtures("small_maps")
def test_frozen_weights_get_no_gradient_and_the_input_the_same_one():
    torch.manual_seed(0)
    block, x = _block(), _images(2, 4, 6, 6)
    (want,) = torch.autograd.grad(block(x).square().sum(), x)
    block.requires_grad_(False)
    block(x).square().sum().backward()
    torch.testing.assert_close(x.grad, want, rtol=1e-11, atol=1e-11)
    assert all(weight.grad is None for weight in block.parameters())


@pytest.mark.usefixtures("small_maps")
def test_float32_is_as_accurate_together_as_apart():
    errors = {True: 0.0, False: 0.0}
    for seed in range(3):
        torch.manual_seed(seed)
        block, x = _block(expansion=6), _images(8, 4, 16, 16)
        exact = torch.autograd.grad(block(x).square().sum(), [x, *block.parameters()])
        for fused in errors:
            single, x_single = copy.deepcopy(block).float(), x.detach().float().requires_grad_()
            single.fused = fused
            got = torch.autograd.grad(single(x_single).square().sum(), [x_single, *single.parameters()])
            errors[fused] += sum(
                float((a - b).norm() / b.norm()) for a, b in zip(got[:-1], exact[:-1], strict=True)
            )
    assert errors[True] < 2 * errors[False]


@pytest.mark.parametrize("part", ["layers", "layers.0", "layers.0.0", "layers.1.1", "layers.2"])
@pytest.mark.usefixtures("small_maps")
def test_a_part_that_somebody_watches_is_called(part):
    block, seen = _block(), []
    block.get_submodule(part).register_forward_hook(lambda *args: seen.append(part))
    block(_images(2, 4, 6, 6))
    assert seen == [part]


@pytest.mark.usefixtures("small_maps")
def test_a_part_that_was_replaced_is_what_runs():
    torch.manual_seed(0)
    block, x = _block(), _images(2, 4, 6, 6)
    replaced = {
        "layers.0.0": nn.Conv2d(4, 12, 3, padding=1, bias=False),
        "layers.0.2": nn.Sigmoid(),
        "layers.1.1": nn.Identity(),
        "layers.1.2": nn.Tanh(),
        "layers.2.0": nn.Conv2d(12, 4, 1),
    }
    for part, module in replaced.items():
        other = copy.deepcopy(block)
        parent, name = part.rsplit(".", 1)
        other.get_submodule(parent)[int(name)] = module.double()
        assert torch.equal(other(x), copy.deepcopy(other.layers)(x) + x), part


@pytest.mark.usefixtures("small_maps")
def test_a_batch_norm_in_evaluation_mode_keeps_to_its_statistics():
    block, x = _block(), _images(2, 4, 6, 6)
    block.layers[1][1].eval()
    assert torch.equal(block(x), _apart(block)(x))


def test_one_switch_sets_layers_apart_in_a_whole_supernet():
    space = Mobile(Task((3, 8, 8), 10), widths=(8,), depths=(1,), strides=(1,), stem="cifar", features=8)
    for fused in (True, False):
        model = supernet(space, "binary_gate", fused=fused)
        blocks = [module for module in model.modules() if isinstance(module, InvertedResidual)]
        assert len(blocks) == 7
        assert all(block.fused is fused for block in blocks)


@pytest.mark.parametrize("num_channels", [1, 3, 24, 32, 40])
@pytest.mark.parametrize("size", [4, 5])
def test_statistics_of_pixels_taken_together_are_those_of_the_channels(num_channels, size):
    torch.manual_seed(0)
    offset = torch.arange(num_channels, dtype=torch.float64)[:, None, None]
    x = (torch.randn(3, num_channels, size, size, dtype=torch.float64) + offset).to(
        memory_format=torch.channels_last
    )
    mean, var = statistics(x)
    torch.testing.assert_close(mean, x.mean((0, 2, 3)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(var, x.var((0, 2, 3), correction=0), rtol=1e-12, atol=1e-12)
