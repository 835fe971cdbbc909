"""MobileNetV2 blocks whose kernel, expansion, number and width are searched."""

from collections.abc import Callable, Mapping
from typing import Literal, final

import torch
from torch import nn

from nasframe.core import Filler, Genotype, Graph, Space, Task, ValueChoice, derived, spaces
from nasframe.errors import UnsupportedError
from nasframe.ops.conv_classifier import ConvClassifier
from nasframe.ops.inverted_residual import InvertedResidual
from nasframe.spaces._mobile_parts import beginning, in_sequence, require_images, require_one_item_a_stage
from nasframe.types import PositiveFloat, PositiveInt


@spaces.register("mobile_elastic")
@final
class MobileElastic(Space):
    """A chain of MobileNetV2 blocks, whole blocks searched by value, with shared weights.

    The networks of the space `mobile` (Cai et al. 2019, arXiv 1812.00332), searched by the numbers of a
    block instead of by its name: each block's kernel size (``kernel_<stage>_<block>``) and expansion
    (``expansion_<stage>_<block>``), each stage's number of blocks (``depth_<stage>``) and channels
    (``width_<stage>``). All values of a choice share one set of weights, as in Once-for-All (Cai et
    al. 2020, arXiv 1908.09791): the middle of the largest kernel, the first channels, the first blocks.
    Where a setting gives one value alone, it is no choice. The defaults are the widths of `mobile`.

    Args:
        kernel_sizes: Odd, of the depthwise convolutions.
        expansions: Channels in the middle of a block, as multiples of those of its input; 1, which has
            one convolution less, only alone.
        widths: Channels of each stage, to choose from.
        depths: Blocks of each stage, to choose from.
        strides: Stride of the first block of each stage.
        stem: `imagenet` halves the map at the stem, `cifar` does not.
        stem_channels: Channels after the stem.
        first_channels: Channels after the block that is not searched.
        features: Channels of the 1x1 convolution before the classifier.
        norm_eps: Added to the variance by each batch norm.
    """

    def __init__(
        self,
        task: Task,
        *,
        kernel_sizes: tuple[PositiveInt, ...] = (3, 5, 7),
        expansions: tuple[PositiveInt, ...] = (3, 6),
        widths: tuple[tuple[PositiveInt, ...], ...] = ((24,), (40,), (80,), (96,), (192,), (320,)),
        depths: tuple[tuple[PositiveInt, ...], ...] = ((2, 3, 4),) * 5 + ((1,),),
        strides: tuple[Literal[1, 2], ...] = (2, 2, 2, 1, 2, 1),
        stem: Literal["cifar", "imagenet"] = "imagenet",
        stem_channels: PositiveInt = 32,
        first_channels: PositiveInt = 16,
        features: PositiveInt = 1280,
        norm_eps: PositiveFloat = 1e-3,
    ) -> None:
        require_images("mobile_elastic", task)
        require_one_item_a_stage("mobile_elastic", widths, depths, strides)
        _require_values(kernel_sizes=[kernel_sizes], expansions=[expansions], widths=widths, depths=depths)
        if any(kernel_size % 2 == 0 for kernel_size in kernel_sizes):
            raise UnsupportedError(
                f"space mobile_elastic: kernel_sizes must be odd, got {list(kernel_sizes)}"
            )
        if 1 in expansions and len(expansions) > 1:
            raise UnsupportedError(
                f"space mobile_elastic: an expansion of 1 must stand alone, got {list(expansions)}; such a "
                "block has no convolution to share with the others"
            )
        self._task, self._kernel_sizes, self._expansions = task, kernel_sizes, expansions
        self._widths, self._depths, self._strides = widths, depths, strides
        self._stem: Literal["cifar", "imagenet"] = stem
        self._stem_channels, self._first_channels = stem_channels, first_channels
        self._features, self._norm_eps = features, norm_eps

    def build(self, filler: Filler) -> nn.Module:
        parts = beginning(self._task, self._stem, self._stem_channels, self._first_channels)
        parts["stages"] = nn.Sequential(*(self._stage(filler, stage) for stage in range(len(self._widths))))
        parts["head"] = _one_of(
            filler, f"width_{len(self._widths) - 1}", self._widths[-1], self._head, reads=True
        )
        return in_sequence(parts, self._norm_eps)

    def graphs(self, genotype: Genotype) -> Mapping[str, Graph]:
        with torch.device("meta"):
            derived(self, genotype)  # refuses a genotype of another space
        return {f"stage_{stage}": self._graph(genotype, stage) for stage in range(len(self._widths))}

    def _stage(self, filler: Filler, stage: int) -> nn.Module:
        depths = self._depths[stage]

        def block(index: int) -> nn.Module:
            return self._block(filler, stage, index)

        if len(depths) == 1:
            return nn.Sequential(*map(block, range(depths[0])))
        return filler.repeat(ValueChoice.of(f"depth_{stage}", depths), block)

    def _block(self, filler: Filler, stage: int, index: int) -> nn.Module:
        """A block at each width of its input and output; the first of a stage joins two choices."""
        widths, stride = self._widths[stage], 1 if index else self._strides[stage]

        def at(in_channels: int, out_channels: int) -> nn.Module:
            return self._at_widths(filler, f"{stage}_{index}", in_channels, out_channels, stride)

        if index:
            return _one_of(filler, f"width_{stage}", widths, lambda w: at(w, w), reads=True, makes=True)
        before = self._widths[stage - 1] if stage else (self._first_channels,)

        def joint(in_channels: int) -> nn.Module:
            return _one_of(filler, f"width_{stage}", widths, lambda w: at(in_channels, w), makes=True)

        return _one_of(filler, f"width_{stage - 1}", before, joint, reads=True)

    def _at_widths(
        self, filler: Filler, key: str, in_channels: int, out_channels: int, stride: int
    ) -> nn.Module:
        def block(expansion: int, kernel_size: int) -> nn.Module:
            return InvertedResidual(
                in_channels, out_channels, kernel_size=kernel_size, expansion=expansion, stride=stride
            )

        def expanded(expansion: int) -> nn.Module:
            return _one_of(filler, f"kernel_{key}", self._kernel_sizes, lambda k: block(expansion, k))

        return _one_of(filler, f"expansion_{key}", self._expansions, expanded)

    def _head(self, width: int) -> nn.Module:
        return ConvClassifier(width, self._features, self._task.num_outputs, activation=nn.ReLU6)

    def _graph(self, genotype: Genotype, stage: int) -> Graph:
        def kept(choice: str, values: tuple[int, ...]) -> str:
            return genotype[choice][0] if len(values) > 1 else str(values[0])

        depth = int(kept(f"depth_{stage}", self._depths[stage]))
        edges = [
            (
                str(index),
                str(index + 1),
                f"mb_k{kept(f'kernel_{stage}_{index}', self._kernel_sizes)}"
                f"_e{kept(f'expansion_{stage}_{index}', self._expansions)}",
            )
            for index in range(depth)
        ]
        width = kept(f"width_{stage}", self._widths[stage])
        return Graph(f"stage {stage}, {width} channels", tuple(map(str, range(depth + 1))), tuple(edges))


def _one_of(
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


def _require_values(**settings: tuple[tuple[int, ...], ...] | list[tuple[int, ...]]) -> None:
    for name, choices in settings.items():
        for values in choices:
            if not values or len(set(values)) < len(values):
                raise UnsupportedError(
                    f"space mobile_elastic: {name} must have distinct values to choose from, got "
                    f"{list(values)}; correct the list"
                )
