"""MobileNetV2 blocks whose kernel, expansion, number and width are searched."""

from collections.abc import Mapping
from functools import partial
from typing import Literal, final

import torch
from torch import nn

from nasframe.core import Filler, Genotype, Graph, Space, Task, derived, spaces
from nasframe.errors import UnsupportedError
from nasframe.ops.conv_classifier import ConvClassifier
from nasframe.ops.inverted_residual import InvertedResidual
from nasframe.spaces._mobile_parts import (
    Stages,
    beginning,
    in_sequence,
    kept_of,
    one_of,
    require_images,
    require_one_item_a_stage,
    require_values,
)
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
        require_values(
            "mobile_elastic",
            kernel_sizes=[kernel_sizes],
            expansions=[expansions],
            widths=widths,
            depths=depths,
        )
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
        self._stages = Stages(widths, depths, strides, first_channels)
        self._stem: Literal["cifar", "imagenet"] = stem
        self._stem_channels, self._features, self._norm_eps = stem_channels, features, norm_eps

    def build(self, filler: Filler) -> nn.Module:
        parts = beginning(self._task, self._stem, self._stem_channels, self._stages.first_channels)
        parts["stages"] = self._stages.build(filler, partial(self._block, filler))
        parts["head"] = self._stages.head(filler, self._head)
        return in_sequence(parts, self._norm_eps)

    def graphs(self, genotype: Genotype) -> Mapping[str, Graph]:
        with torch.device("meta"):
            derived(self, genotype)  # refuses a genotype of another space
        return self._stages.graphs(genotype, partial(self._name, genotype))

    def _block(
        self, filler: Filler, stage: int, index: int, in_channels: int, out_channels: int, stride: int
    ) -> nn.Module:
        def block(expansion: int, kernel_size: int) -> nn.Module:
            return InvertedResidual(
                in_channels, out_channels, kernel_size=kernel_size, expansion=expansion, stride=stride
            )

        def expanded(expansion: int) -> nn.Module:
            return one_of(
                filler, f"kernel_{stage}_{index}", self._kernel_sizes, lambda k: block(expansion, k)
            )

        return one_of(filler, f"expansion_{stage}_{index}", self._expansions, expanded)

    def _head(self, width: int) -> nn.Module:
        return ConvClassifier(width, self._features, self._task.num_outputs, activation=nn.ReLU6)

    def _name(self, genotype: Genotype, stage: int, index: int) -> str:
        kernel_size = kept_of(genotype, f"kernel_{stage}_{index}", self._kernel_sizes)
        return f"mb_k{kernel_size}_e{kept_of(genotype, f'expansion_{stage}_{index}', self._expansions)}"
