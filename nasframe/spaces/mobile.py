"""The space of ProxylessNAS."""

from collections.abc import Mapping, Sequence
from typing import Literal, final

from torch import nn

from nasframe.core import Filler, Genotype, LayerChoice, OpName, Space, Task, ops, spaces
from nasframe.errors import UnsupportedError
from nasframe.ops.conv_classifier import ConvClassifier
from nasframe.spaces._mobile_parts import (
    beginning,
    in_sequence,
    require_images,
    require_one_item_a_stage,
    rising,
)
from nasframe.spaces._proxyless_config import read_config
from nasframe.types import PositiveFloat, PositiveInt

_PLAIN = "mb_k3_e6"
_SKIP = "skip_connect"  # where the shape changes there is no input to hand on


@spaces.register("mobile")
@final
class Mobile(Space):
    """A chain of MobileNetV2 blocks, each searched (Cai et al. 2019, arXiv 1812.00332, section 4.2).

    A 3x3 stem, a block of expansion 1 that is not searched, then stages of searched layers, a 1x1
    convolution and the classifier. The first layer of a stage has the stage's stride and changes the
    channels; of the others each may also be skipped. The defaults are the authors' space for
    ImageNet. All batch norms have parameters, in the supernet too.

    A departure from the authors' code, which adds the input to a mixture of blocks, one of them zero:
    here each block adds it itself and the zero block is ``skip_connect``. As the weights of a mixture
    sum to one, outputs and gradients are the same.

    Args:
        operations: Names of the candidates; ``skip_connect`` only where the shape stays.
        widths: Channels of each stage.
        depths: Layers of each stage.
        strides: Stride of the first layer of each stage.
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
            "mb_k3_e3",
            "mb_k3_e6",
            "mb_k5_e3",
            "mb_k5_e6",
            "mb_k7_e3",
            "mb_k7_e6",
            "skip_connect",
        ),
        widths: tuple[PositiveInt, ...] = (24, 40, 80, 96, 192, 320),
        depths: tuple[PositiveInt, ...] = (4, 4, 4, 4, 4, 1),
        strides: tuple[Literal[1, 2], ...] = (2, 2, 2, 1, 2, 1),
        stem: Literal["cifar", "imagenet"] = "imagenet",
        stem_channels: PositiveInt = 32,
        first_channels: PositiveInt = 16,
        features: PositiveInt = 1280,
        norm_eps: PositiveFloat = 1e-3,
    ) -> None:
        require_images("mobile", task)
        require_one_item_a_stage("mobile", widths, depths, strides)
        if len(set(operations)) < len(operations) or not set(operations) - {_SKIP}:
            raise UnsupportedError(
                f"space mobile: operations must be distinct, and one of them not `{_SKIP}`, "
                f"got {list(operations)}; correct the list"
            )
        self._task, self._make_op = task, {name: ops[name] for name in operations}
        self._stages = list(zip(widths, depths, strides, strict=True))
        self._stem: Literal["cifar", "imagenet"] = stem
        self._stem_channels, self._first_channels = stem_channels, first_channels
        self._features, self._norm_eps = features, norm_eps

    @classmethod
    def from_config(cls, text: str, *, image_size: int = 224) -> tuple["Mobile", Genotype]:
        """Read a network that the authors published as JSON (``net.config``) for ImageNet.

        Args:
            text: The JSON text.
            image_size: Height and width of the images.

        Returns:
            The space that has the network's widths and depths, and the network in it.

        Raises:
            FormatError: It is not such a network.
            UnsupportedError: It is a published network that this space does not hold, such as the
                PyramidNet tree for CIFAR-10, or one with blocks of another form.
        """
        config = read_config(text)
        space = cls(
            Task((config.in_channels, image_size, image_size), config.num_outputs),
            widths=tuple(stage.width for stage in config.stages),
            depths=tuple(len(stage.blocks) for stage in config.stages),
            strides=tuple(stage.stride for stage in config.stages),
            stem="imagenet" if config.stem_stride == 2 else "cifar",
            stem_channels=config.stem_channels,
            first_channels=config.first_channels,
            features=config.features,
            norm_eps=config.norm_eps,
        )
        blocks = [block for stage in config.stages for block in stage.blocks]
        return space, Genotype({f"layer_{index}": (name,) for index, name in enumerate(blocks)})

    def baselines(self) -> Mapping[str, Sequence[Genotype]]:
        """``mobilenet_v2`` has kernel 3 and expansion 6 everywhere (Sandler et al. 2018).

        Its networks differ in depth. No stage has fewer layers than the one before it, unless it is full.
        """
        if _PLAIN not in self._make_op:
            return {}
        depths = (range(1 if _SKIP in self._make_op else depth, depth + 1) for _, depth, _ in self._stages)
        return {"mobilenet_v2": [self._plain(deep) for deep in rising(depths)]}

    def _plain(self, depths: tuple[int, ...]) -> Genotype:
        """The block of MobileNetV2 in the first layers of each stage."""
        names = [
            _PLAIN if index < depth else _SKIP
            for depth, (_, most, _) in zip(depths, self._stages, strict=True)
            for index in range(most)
        ]
        return Genotype({f"layer_{index}": (name,) for index, name in enumerate(names)})

    def build(self, filler: Filler) -> nn.Module:
        parts = beginning(self._task, self._stem, self._stem_channels, self._first_channels)
        channels = self._first_channels
        layers: list[nn.Module] = []
        for width, depth, stride in self._stages:
            for index in range(depth):
                layers.append(self._layer(filler, len(layers), channels, width, stride if index == 0 else 1))
                channels = width
        parts["layers"] = nn.Sequential(*layers)
        parts["head"] = ConvClassifier(channels, self._features, self._task.num_outputs, activation=nn.ReLU6)
        return in_sequence(parts, self._norm_eps)

    def _layer(
        self, filler: Filler, index: int, in_channels: int, out_channels: int, stride: int
    ) -> nn.Module:
        same_shape = stride == 1 and in_channels == out_channels
        names = tuple(name for name in self._make_op if name != _SKIP or same_shape)
        choice = LayerChoice(f"layer_{index}", names)
        return filler.layer(choice, lambda name: self._make_op[name](in_channels, out_channels, stride, True))
