"""What the mobile spaces have in common: images in, stem, first block, batch norms of one kind."""

from collections import OrderedDict
from typing import Literal

from torch import nn

from nasframe.core import Task
from nasframe.errors import UnsupportedError
from nasframe.ops.conv_bn import conv_bn
from nasframe.ops.inverted_residual import InvertedResidual


def require_images(space: str, task: Task) -> None:
    """Refuse a task without images.

    Raises:
        UnsupportedError: Its inputs are none.
    """
    if len(task.input_shape) != 3:
        raise UnsupportedError(
            f"space {space}: inputs must be images (channels, height, width), got {task.input_shape}"
        )


def require_one_item_a_stage(space: str, *settings: tuple[object, ...]) -> None:
    """Refuse widths, depths and strides of different lengths, and of none.

    Raises:
        UnsupportedError: They do not describe the same stages.
    """
    widths, depths, strides = map(len, settings)
    if not widths == depths == strides > 0:
        raise UnsupportedError(
            f"space {space}: widths, depths and strides must have one item a stage, "
            f"got {widths}, {depths} and {strides}"
        )


def beginning(
    task: Task, stem: Literal["cifar", "imagenet"], stem_channels: int, first_channels: int
) -> dict[str, nn.Module]:
    """The 3x3 stem and the block of expansion 1 that is not searched, by name."""
    stride = 2 if stem == "imagenet" else 1
    return {
        "stem": conv_bn(
            task.input_shape[0], stem_channels, kernel_size=3, stride=stride, activation=nn.ReLU6
        ),
        "first": InvertedResidual(stem_channels, first_channels, kernel_size=3, expansion=1, stride=1),
    }


def in_sequence(parts: dict[str, nn.Module], norm_eps: float) -> nn.Module:
    """The network of the parts, all of whose batch norms add `norm_eps` to the variance."""
    network = nn.Sequential(OrderedDict(parts))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = norm_eps
    return network
