"""What the mobile spaces have in common: images in, stem, first block, stages, batch norms of one kind."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal, final

from torch import nn

from nasframe.core import Filler, Genotype, Graph, Task, ValueChoice
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


def require_values(space: str, **settings: tuple[tuple[int, ...], ...] | list[tuple[int, ...]]) -> None:
    """Refuse settings without values to choose from, and with equal ones.

    Raises:
        UnsupportedError: One of them is such.
    """
    for name, choices in settings.items():
        for values in choices:
            if not values or len(set(values)) < len(values):
                raise UnsupportedError(
                    f"space {space}: {name} must have distinct values to choose from, got "
                    f"{list(values)}; correct the list"
                )


def rising(depths: Iterable[Iterable[int]]) -> Iterator[tuple[int, ...]]:
    """Depths of stages, one of each, where none is less than the one before it, or than its own most."""
    ordered = [sorted(each) for each in depths]
    for deep in product(*ordered):
        if all(
            here >= min(before, most[-1])
            for before, here, most in zip(deep, deep[1:], ordered[1:], strict=False)
        ):
            yield deep


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


@final
@dataclass(frozen=True)
class Stages:
    """Stages whose channels (``width_<stage>``) and number of blocks (``depth_<stage>``) are searched.

    Where there is one value alone, it is no choice.

    Attributes:
        widths: Channels of each stage, to choose from.
        depths: Blocks of each stage, to choose from.
        strides: Stride of the first block of each stage.
        first_channels: Of the input.
    """

    widths: tuple[tuple[int, ...], ...]
    depths: tuple[tuple[int, ...], ...]
    strides: tuple[int, ...]
    first_channels: int

    def build(self, filler: Filler, make: "MakeBlock") -> nn.Module:
        """All of them, one after the other."""
        return nn.Sequential(*(self._stage(filler, stage, make) for stage in range(len(self.widths))))

    def head(self, filler: Filler, make: Callable[[int], nn.Module]) -> nn.Module:
        """What reads the last stage, built with its channels."""
        return one_of(filler, f"width_{len(self.widths) - 1}", self.widths[-1], make, reads=True)

    def _stage(self, filler: Filler, stage: int, make: "MakeBlock") -> nn.Module:
        depths = self.depths[stage]

        def block(index: int) -> nn.Module:
            return self._block(filler, stage, index, make)

        if len(depths) == 1:
            return nn.Sequential(*map(block, range(depths[0])))
        return filler.repeat(ValueChoice.of(f"depth_{stage}", depths), block)

    def _block(self, filler: Filler, stage: int, index: int, make: "MakeBlock") -> nn.Module:
        """A block at each width of its input and output; the first of a stage joins two choices."""
        widths, stride = self.widths[stage], 1 if index else self.strides[stage]

        def at(in_channels: int, out_channels: int) -> nn.Module:
            return make(stage, index, in_channels, out_channels, stride)

        if index:
            return one_of(filler, f"width_{stage}", widths, lambda w: at(w, w), reads=True, makes=True)
        before = self.widths[stage - 1] if stage else (self.first_channels,)

        def joint(in_channels: int) -> nn.Module:
            return one_of(filler, f"width_{stage}", widths, lambda w: at(in_channels, w), makes=True)

        return one_of(filler, f"width_{stage - 1}", before, joint, reads=True)

    def graphs(self, genotype: Genotype, block: Callable[[int, int], str]) -> Mapping[str, Graph]:
        """A chain for each stage; `block` names what stands at a stage and index."""
        drawn = {}
        for stage in range(len(self.widths)):
            depth = int(kept_of(genotype, f"depth_{stage}", self.depths[stage]))
            width = kept_of(genotype, f"width_{stage}", self.widths[stage])
            edges = [(str(index), str(index + 1), block(stage, index)) for index in range(depth)]
            name = f"stage {stage}, {width} channels"
            drawn[f"stage_{stage}"] = Graph(name, tuple(map(str, range(depth + 1))), tuple(edges))
        return drawn


MakeBlock = Callable[[int, int, int, int, int], nn.Module]
"""Builds a block from stage, index in it, channels of input and output, and stride."""


def kept_of(genotype: Genotype, choice: str, values: tuple[int, ...]) -> str:
    """What a genotype keeps of some values, or the one that there is."""
    return genotype[choice][0] if len(values) > 1 else str(values[0])


def one_of(
    filler: Filler,
    choice: str,
    values: tuple[int, ...],
    make: Callable[[int], nn.Module],
    *,
    reads: bool = False,
    makes: bool = False,
) -> nn.Module:
    """A site of a value choice, or what stands there if there is one value; `reads` and `makes` channels."""
    if len(values) == 1:
        return make(values[0])
    return filler.value(ValueChoice.of(choice, values), make, narrow_input=reads, pad_output=makes)
