"""The operations of cell spaces."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasframe.core import is_zero, ops
from nasframe.errors import UnsupportedError
from nasframe.ops.factorized_reduction import FactorizedReduction
from nasframe.ops.relu_conv_bn import ReLUConvBN

CELL_OPS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_7x1_1x7",
)
KEEPS_CHANNELS = ("max_pool_3x3", "avg_pool_3x3", "skip_connect")


def images(channels: int = 4, size: tuple[int, int] = (8, 8), seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, *size, generator=generator, dtype=torch.float64)


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def normalized(x: torch.Tensor) -> torch.Tensor:
    """What a batch norm does in training, from its definition."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def test_all_operations_of_the_published_cells_are_registered() -> None:
    assert set(CELL_OPS) <= set(ops)


@pytest.mark.parametrize("name", CELL_OPS)
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (2, 2), (1, 3)])
def test_an_op_keeps_the_map_at_stride_1_and_halves_it_rounding_up_at_stride_2(
    name: str, size: tuple[int, int]
) -> None:
    x = images(size=size)
    assert ops[name](4, 4, 1, True).double()(x).shape == (3, 4, *size)
    assert ops[name](4, 4, 2, True).double()(x).shape == (3, 4, *((side + 1) // 2 for side in size))


@pytest.mark.parametrize("name", [name for name in CELL_OPS if name not in KEEPS_CHANNELS])
def test_an_op_can_change_the_number_of_channels(name: str) -> None:
    assert ops[name](4, 6, 2, True).double()(images()).shape == (3, 6, 4, 4)


@pytest.mark.parametrize("name", KEEPS_CHANNELS)
def test_an_op_that_cannot_change_the_number_of_channels_says_so(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"`{name}`.* must be 4, got 6"):
        ops[name](4, 6, 1, True)


@pytest.mark.parametrize("name", CELL_OPS)
@pytest.mark.parametrize("stride", [1, 2])
def test_an_op_leaves_its_input_as_it_was(name: str, stride: int) -> None:
    x = images()
    kept = x.clone()
    ops[name](4, 4, stride, True).double()(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("name", CELL_OPS)
@pytest.mark.parametrize("stride", [1, 2])
def test_without_affine_no_batch_norm_has_parameters(name: str, stride: int) -> None:
    for affine in (True, False):
        norms = [m for m in ops[name](4, 4, stride, affine).modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(norm.affine is affine for norm in norms)


@pytest.mark.parametrize("name", CELL_OPS)
def test_no_convolution_of_an_op_has_a_bias(name: str) -> None:
    assert all(conv.bias is None for conv in convolutions(ops[name](4, 4, 2, True)))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_convolution_is_applied_twice_with_the_stride_in_the_first(
    kernel: int, stride: int
) -> None:
    op = ops[f"sep_conv_{kernel}x{kernel}"](4, 6, stride, False).double()
    depth_1, point_1, depth_2, point_2 = (conv.weight for conv in convolutions(op))
    padding = (kernel - 1) // 2
    x = images().relu()
    x = functional.conv2d(x, depth_1, stride=stride, padding=padding, groups=4)
    x = normalized(functional.conv2d(x, point_1)).relu()
    x = functional.conv2d(x, depth_2, padding=padding, groups=4)
    x = normalized(functional.conv2d(x, point_2))
    torch.testing.assert_close(op(images()), x)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_dilated_convolution_reads_every_second_pixel(kernel: int, stride: int) -> None:
    op = ops[f"dil_conv_{kernel}x{kernel}"](4, 6, stride, False).double()
    depth, point = (conv.weight for conv in convolutions(op))
    spread = torch.zeros(4, 1, 2 * kernel - 1, 2 * kernel - 1, dtype=torch.float64)
    spread[..., ::2, ::2] = depth
    x = functional.conv2d(images().relu(), spread, stride=stride, padding=kernel - 1, groups=4)
    torch.testing.assert_close(op(images()), normalized(functional.conv2d(x, point)))


@pytest.mark.parametrize("stride", [1, 2])
def test_the_factorized_7x7_convolution_runs_along_rows_then_columns(stride: int) -> None:
    op = ops["conv_7x1_1x7"](4, 6, stride, False).double()
    row, column = (conv.weight for conv in convolutions(op))
    assert row.shape == (4, 4, 1, 7)
    assert column.shape == (6, 4, 7, 1)
    whole = torch.einsum("mixk,omyz->oiyk", row, column)  # two passes without a nonlinearity are one
    x = functional.conv2d(images().relu(), whole, stride=stride, padding=3)
    torch.testing.assert_close(op(images()), normalized(x))


def test_max_pool_takes_the_largest_of_each_window() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4).negative()
    expected = torch.tensor([[0.0, -1], [-4, -5]])
    assert torch.equal(ops["max_pool_3x3"](1, 1, 2, True)(x)[0, 0], expected)


def test_avg_pool_does_not_count_the_padding() -> None:
    x = torch.ones(1, 1, 5, 5)
    assert torch.equal(ops["avg_pool_3x3"](1, 1, 1, True)(x), x)


def test_skip_connect_at_stride_1_is_the_input_itself() -> None:
    x = images()
    op = ops["skip_connect"](4, 4, 1, True)
    assert op(x) is x
    assert isinstance(op, nn.Identity)


def test_skip_connect_refuses_a_stride_that_it_cannot_make() -> None:
    with pytest.raises(UnsupportedError, match="stride must be 1 or 2, got 3"):
        ops["skip_connect"](4, 4, 3, True)


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (4, 5), (5, 3)])
def test_factorized_reduction_reads_even_pixels_and_odd_pixels(size: tuple[int, int]) -> None:
    layer = FactorizedReduction(4, 6, affine=False).double()
    even, odd = (conv.weight[:, :, 0, 0] for conv in convolutions(layer))
    x = images(size=size).relu()
    rows, columns = ((side + 1) // 2 for side in size)
    expected = torch.zeros(3, 6, rows, columns, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            expected[:, :3, row, column] = x[:, :, 2 * row, 2 * column] @ even.T
            if 2 * row + 1 < size[0] and 2 * column + 1 < size[1]:
                expected[:, 3:, row, column] = x[:, :, 2 * row + 1, 2 * column + 1] @ odd.T
    torch.testing.assert_close(layer(images(size=size)), normalized(expected))


def test_factorized_reduction_makes_an_odd_number_of_channels() -> None:
    assert FactorizedReduction(4, 5, affine=True).double()(images()).shape == (3, 5, 4, 4)


def test_factorized_reduction_refuses_a_single_channel() -> None:
    with pytest.raises(UnsupportedError, match="out_channels must be at least 2, got 1"):
        FactorizedReduction(4, 1, affine=True)


def test_relu_conv_bn_is_its_name() -> None:
    layer = ReLUConvBN(4, 6, affine=False).double()
    (conv,) = convolutions(layer)
    torch.testing.assert_close(layer(images()), normalized(functional.conv2d(images().relu(), conv.weight)))


@pytest.mark.parametrize("stride", [1, 2])
def test_none_is_zero_even_where_its_input_is_not_finite(stride: int) -> None:
    x = images()
    x[0, 0, 0, 0] = float("nan")
    op = ops["none"](4, 4, stride, True)
    assert torch.equal(op(x), torch.zeros(3, 4, 8 // stride, 8 // stride, dtype=torch.float64))


def test_none_alone_declares_that_it_is_always_zero() -> None:
    assert [name for name in CELL_OPS if is_zero(ops[name](4, 4, 1, True))] == ["none"]


@pytest.mark.parametrize("name", [name for name in CELL_OPS if name != "none"])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_reach_the_input_and_every_parameter(name: str, stride: int) -> None:
    op = ops[name](4, 4, stride, True).double()
    x = images().requires_grad_()
    (op(x) * images(seed=1)[..., : (8 // stride), : (8 // stride)]).sum().backward()
    for tensor in (x, *op.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0
