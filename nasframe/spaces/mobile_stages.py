"""Stages of equal blocks, whose block, number and width are searched."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Literal, final

import torch
from torch import nn

from nasframe.core import Filler, Genotype, Graph, LayerChoice, OpName, Space, Task, derived, ops, spaces
from nasframe.errors import UnsupportedError
from nasframe.ops.conv_classifier import ConvClassifier
from nasframe.spaces._mobile_parts import (
    Stages,
    beginning,
    in_sequence,
    require_images,
    require_one_item_a_stage,
    require_values,
    rising,
)
from nasframe.types import PositiveFloat, PositiveInt

_PLAIN: Final = "mb_k3_e6"


@spaces.register("mobile_stages")
@final
class MobileStages(Space):
    """A chain of stages of equal blocks, each with a block, a number and a width to find.

    The factorized space of MnasNet (Tan et al. 2019, arXiv 1807.11626, section 4.1) with the blocks of
    EfficientNetV2 (Tan and Le 2021, arXiv 2104.00298, section 3.2) beside those of MobileNetV2. All blocks
    of a stage are of one kind (``block_<stage>``); how many there are (``depth_<stage>``) and how many
    channels they have (``width_<stage>``) is searched too, where there are several values. So there are
    few choices, each of which says much: a small network for a small budget is found by fewer trainings
    than where each layer is chosen. Stem, first block and head are those of the space `mobile`. In a
    supernet, values share weights by slices, as in Once-for-All (Cai et al. 2020, arXiv 1908.09791).

    Args:
        operations: Names of the candidates of each stage's blocks.
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
        operations: tuple[OpName, ...] = (
            "fused_k3_e1",
            "fused_k3_e2",
            "fused_k3_e4",
            "mb_k3_e3",
            "mb_k3_e6",
            "mb_k5_e6",
        ),
        widths: tuple[tuple[PositiveInt, ...], ...] = (
            (16, 24, 32),
            (32, 40, 48),
            (64, 80, 96),
            (112, 136, 160),
        ),
        depths: tuple[tuple[PositiveInt, ...], ...] = ((1, 2, 3),) * 4,
        strides: tuple[Literal[1, 2], ...] = (2, 2, 2, 2),
        stem: Literal["cifar", "imagenet"] = "imagenet",
        stem_channels: PositiveInt = 32,
        first_channels: PositiveInt = 16,
        features: PositiveInt = 1280,
        norm_eps: PositiveFloat = 1e-3,
    ) -> None:
        require_images("mobile_stages", task)
        require_one_item_a_stage("mobile_stages", widths, depths, strides)
        require_values("mobile_stages", widths=widths, depths=depths)
        if not operations or len(set(operations)) < len(operations) or "skip_connect" in operations:
            raise UnsupportedError(
                "space mobile_stages: operations must be distinct and each change channels, which "
                f"`skip_connect` does not, got {list(operations)}; correct the list"
            )
        self._task, self._make_op = task, {name: ops[name] for name in operations}
        self._stages = Stages(widths, depths, strides, first_channels)
        self._stem: Literal["cifar", "imagenet"] = stem
        self._stem_channels, self._features, self._norm_eps = stem_channels, features, norm_eps

    def baselines(self) -> Mapping[str, Sequence[Genotype]]:
        """``mobilenet_v2`` has kernel 3 and expansion 6 everywhere (Sandler et al. 2018).

        Its networks differ in depth, no stage less deep than the one before it if it can be, and in width:
        all stages have their first value, their second, and so on, as by a width multiplier.
        """
        if _PLAIN not in self._make_op:
            return {}
        return {"mobilenet_v2": list(self._plain())}

    def _plain(self) -> Iterator[Genotype]:
        widths = [sorted(each) for each in self._stages.widths]
        for multiplier in range(max(map(len, widths))):
            chosen = [values[min(multiplier, len(values) - 1)] for values in widths]
            for deep in rising(self._stages.depths):
                yield self._genotype([_PLAIN] * len(chosen), chosen, deep)

    def _genotype(self, blocks: Sequence[str], widths: Sequence[int], depths: Sequence[int]) -> Genotype:
        """The architecture of a block, a width and a depth of each stage."""
        kept: dict[str, tuple[str, ...]] = {}
        for stage, block in enumerate(blocks):
            kept[f"block_{stage}"] = (block,)
            if len(self._stages.widths[stage]) > 1:
                kept[f"width_{stage}"] = (str(widths[stage]),)
            if len(self._stages.depths[stage]) > 1:
                kept[f"depth_{stage}"] = (str(depths[stage]),)
        return Genotype(kept)

    def build(self, filler: Filler) -> nn.Module:
        parts = beginning(self._task, self._stem, self._stem_channels, self._stages.first_channels)
        parts["stages"] = self._stages.build(filler, partial(self._block, filler))
        parts["head"] = self._stages.head(filler, self._head)
        return in_sequence(parts, self._norm_eps)

    def graphs(self, genotype: Genotype) -> Mapping[str, Graph]:
        with torch.device("meta"):
            derived(self, genotype)  # refuses a genotype of another space
        return self._stages.graphs(genotype, lambda stage, index: genotype[f"block_{stage}"][0])

    def _block(
        self, filler: Filler, stage: int, index: int, in_channels: int, out_channels: int, stride: int
    ) -> nn.Module:
        choice = LayerChoice(f"block_{stage}", tuple(self._make_op))
        return filler.layer(choice, lambda name: self._make_op[name](in_channels, out_channels, stride, True))

    def _head(self, width: int) -> nn.Module:
        return ConvClassifier(width, self._features, self._task.num_outputs, activation=nn.ReLU6)
