"""The space of NAS-Bench-Macro."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import final

from torch import nn

from nasframe.core import Filler, Genotype, LayerChoice, Space, Task, spaces
from nasframe.errors import FormatError, UnsupportedError
from nasframe.ops.conv_bn import conv_bn
from nasframe.ops.conv_classifier import ConvClassifier
from nasframe.ops.identity import identity
from nasframe.ops.inverted_residual import InvertedResidual
from nasframe.types import PositiveInt


def _identity(in_channels: int, out_channels: int, *, stride: int) -> nn.Module:
    return identity(in_channels, out_channels, stride, affine=True)


_CANDIDATES: MappingProxyType[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        "identity": _identity,
        "mb_k3_e3": partial(InvertedResidual, kernel_size=3, expansion=3, activation=nn.ReLU),
        "mb_k5_e6": partial(InvertedResidual, kernel_size=5, expansion=6, activation=nn.ReLU),
    }
)


@spaces.register("macro")
@final
class Macro(Space):
    """A chain of layers, each one of three blocks (NAS-Bench-Macro, Su et al. 2021, arXiv 2103.11922).

    The candidates of each layer are `identity`, `mb_k3_e3` and `mb_k5_e6`: MobileNetV2's block with
    kernel 3 and expansion 3, or 5 and 6, with ReLU in place of ReLU6. An identity that changes the
    shape is a 1x1 convolution with batch norm. The first layer of a stage halves the map and doubles
    the channels. As in the benchmark, all batch norms have parameters, in the supernet too.

    With the default settings, 10 outputs and images of 3 x 32 x 32, these are the 6,561 networks of
    the benchmark's table.

    Args:
        channels: Channels after the stem, whose convolution is 3x3 with stride 1.
        stages: Layers of each stage.
        features: Channels of the 1x1 convolution before the classifier.
    """

    def __init__(
        self,
        task: Task,
        *,
        channels: PositiveInt = 32,
        stages: tuple[PositiveInt, ...] = (2, 3, 3),
        features: PositiveInt = 1280,
    ) -> None:
        self._task, self._channels, self._stages, self._features = task, channels, stages, features
        if len(task.input_shape) != 3:
            raise UnsupportedError(
                f"space macro: inputs must be images (channels, height, width), got {task.input_shape}"
            )
        if not stages:
            raise UnsupportedError("space macro: stages must have at least one stage, got none")

    def build(self, filler: Filler) -> nn.Module:
        channels = self._channels
        stem = conv_bn(self._task.input_shape[0], channels, kernel_size=3, activation=nn.ReLU)
        layers: list[nn.Module] = []
        for depth in self._stages:
            layers.append(self._layer(filler, len(layers), channels, 2 * channels, stride=2))
            channels *= 2
            for _ in range(depth - 1):
                layers.append(self._layer(filler, len(layers), channels, channels, stride=1))
        head = ConvClassifier(channels, self._features, self._task.num_outputs, activation=nn.ReLU)
        return nn.Sequential(OrderedDict(stem=stem, layers=nn.Sequential(*layers), head=head))

    def _layer(
        self, filler: Filler, index: int, in_channels: int, out_channels: int, *, stride: int
    ) -> nn.Module:
        choice = LayerChoice(f"layer_{index}", tuple(_CANDIDATES))
        return filler.layer(choice, lambda name: _CANDIDATES[name](in_channels, out_channels, stride=stride))

    def key(self, genotype: Genotype) -> str:
        """The key of an architecture in the benchmark's table: a digit a layer, 0 identity, 1, 2.

        Raises:
            FormatError: The genotype is not one of this space.
        """
        names, digits = list(_CANDIDATES), ""
        for layer in self._layer_ids:
            kept = genotype.choices.get(layer, ())
            if len(kept) != 1 or kept[0] not in names:
                raise FormatError(f"genotype: choice `{layer}` must keep one of {names}, got {list(kept)}")
            digits += str(names.index(kept[0]))
        if unknown := sorted(set(genotype.choices) - set(self._layer_ids)):
            raise FormatError(f"genotype: the space macro has no choice {', '.join(unknown)}")
        return digits

    def genotype(self, key: str) -> Genotype:
        """The architecture of a key, such as ``22212220``.

        Raises:
            FormatError: The key is not one digit from 0 to 2 a layer.
        """
        names = list(_CANDIDATES)
        if len(key) != len(self._layer_ids) or set(key) - {"0", "1", "2"}:
            raise FormatError(
                f"macro: a key must be {len(self._layer_ids)} digits, each 0, 1 or 2, got `{key}`"
            )
        kept = zip(self._layer_ids, key, strict=True)
        return Genotype({layer: (names[int(digit)],) for layer, digit in kept})

    @property
    def _layer_ids(self) -> list[str]:
        return [f"layer_{index}" for index in range(sum(self._stages))]
