"""The JSON in which the authors of ProxylessNAS published networks, read as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, final

from nasframe.core.json_text import read_json
from nasframe.errors import FormatError, UnsupportedError

_WHERE = "proxyless config"
_NORM_MOMENTUM = 0.1  # PyTorch's own
_CONV: Mapping[str, Any] = MappingProxyType(
    {
        "name": "ConvLayer",
        "dilation": 1,
        "groups": 1,
        "bias": False,
        "has_shuffle": False,
        "use_bn": True,
        "act_func": "relu6",
        "dropout_rate": 0,
        "ops_order": "weight_bn_act",
    }
)
_LINEAR: Mapping[str, Any] = MappingProxyType(
    {"name": "LinearLayer", "bias": True, "use_bn": False, "act_func": None, "dropout_rate": 0}
)
_IDENTITY: Mapping[str, Any] = MappingProxyType(
    {"name": "IdentityLayer", "use_bn": False, "act_func": None, "dropout_rate": 0}
)


@final
@dataclass(frozen=True)
class Stage:
    """Blocks that share their width; `stride` is that of the first, `blocks` their names."""

    width: int
    stride: Literal[1, 2]
    blocks: tuple[str, ...]


@final
@dataclass(frozen=True)
class Config:
    """What a published network says, as far as networks of this form differ."""

    in_channels: int
    stem_channels: int
    stem_stride: Literal[1, 2]
    first_channels: int
    stages: tuple[Stage, ...]
    features: int
    num_outputs: int
    norm_eps: float


def read_config(text: str) -> Config:
    """Read a published network; every key that changes what is computed is checked.

    Raises:
        FormatError: It is not such a JSON text, or its parts do not fit together.
        UnsupportedError: It is a network of another form.
    """
    config = read_json(text, _WHERE)
    name = _field(_WHERE, config, "name", str)
    if name == "PyramidTreeNet":
        raise UnsupportedError(
            f"{_WHERE}: `{name}` is the authors' CIFAR-10 network, a PyramidNet whose blocks are trees of "
            "paths; the space mobile is a chain of MobileNetV2 blocks, so give a `ProxylessNASNets`"
        )
    if name != "ProxylessNASNets":
        raise FormatError(f"{_WHERE}: name must be `ProxylessNASNets`, got `{name}`")
    norm = _field(_WHERE, config, "bn", dict)
    _require(f"{_WHERE}: bn", norm, {"momentum": _NORM_MOMENTUM})
    in_channels, stem_channels, stem_stride = _conv("first_conv", config, kernel_size=3)
    blocks = _field(_WHERE, config, "blocks", list)
    first_channels = _first_block(blocks, stem_channels)
    stages = _stages(blocks[1:], first_channels)
    mixed_channels, features, mix_stride = _conv("feature_mix_layer", config, kernel_size=1)
    _equal("feature_mix_layer: in_channels", mixed_channels, stages[-1].width)
    _equal("feature_mix_layer: stride", mix_stride, 1)
    linear = _field(_WHERE, config, "classifier", dict)
    _require(f"{_WHERE}: classifier", linear, _LINEAR)
    _equal("classifier: in_features", _size("classifier", linear, "in_features"), features)
    return Config(
        in_channels=in_channels,
        stem_channels=stem_channels,
        stem_stride=stem_stride,
        first_channels=first_channels,
        stages=stages,
        features=features,
        num_outputs=_size("classifier", linear, "out_features"),
        norm_eps=_positive_float("bn", norm, "eps"),
    )


def _conv(key: str, config: Mapping[str, Any], *, kernel_size: int) -> tuple[int, int, Literal[1, 2]]:
    """(in_channels, out_channels, stride) of a convolution whose other properties are as they must be."""
    layer = _field(_WHERE, config, key, dict)
    _require(f"{_WHERE}: {key}", layer, {**_CONV, "kernel_size": kernel_size})
    return _size(key, layer, "in_channels"), _size(key, layer, "out_channels"), _stride(key, layer)


def _first_block(blocks: list[Any], in_channels: int) -> int:
    """The width of the first block, which must be the one that the authors do not search."""
    if len(blocks) < 2:
        raise FormatError(f"{_WHERE}: blocks must be at least 2, got {len(blocks)}")
    where = "blocks[0]"
    conv, shortcut = _block(where, blocks[0])
    _require(f"{_WHERE}: {where}", conv, {"kernel_size": 3, "expand_ratio": 1, "stride": 1})
    _equal(f"{where}: in_channels", _size(where, conv, "in_channels"), in_channels)
    width = _size(where, conv, "out_channels")
    _equal(f"{where}: has a shortcut", shortcut, width == in_channels)
    return width


def _stages(blocks: list[Any], channels: int) -> tuple[Stage, ...]:
    """A block whose shape changes, and so has no shortcut, begins a stage."""
    stages: list[Stage] = []
    for index, block in enumerate(blocks, start=1):
        where = f"blocks[{index}]"
        conv, shortcut = _block(where, block)
        stride = _stride(where, conv)
        if conv["name"] == "ZeroLayer":
            _equal(f"{where}: a zero layer has a shortcut and stride", (shortcut, stride), (True, 1))
            name, width = "skip_connect", channels
        else:
            _equal(f"{where}: in_channels", _size(where, conv, "in_channels"), channels)
            name, width = _op(where, conv), _size(where, conv, "out_channels")
            _equal(f"{where}: has a shortcut", shortcut, stride == 1 and width == channels)
        if stages and shortcut:
            stages[-1] = Stage(width, stages[-1].stride, (*stages[-1].blocks, name))
        else:
            stages.append(Stage(width, stride, (name,)))
        channels = width
    return tuple(stages)


def _block(where: str, block: Any) -> tuple[dict[str, Any], bool]:
    """The searched layer of a block, and whether the block has a shortcut."""
    _require(f"{_WHERE}: {where}", block, {"name": "MobileInvertedResidualBlock"})
    conv = _field(f"{_WHERE}: {where}", block, "mobile_inverted_conv", dict)
    name = _field(f"{_WHERE}: {where}", conv, "name", str)
    if name not in ("MBInvertedConvLayer", "ZeroLayer"):
        raise UnsupportedError(f"{_WHERE}: {where}: must be a MobileNetV2 block or zero, got `{name}`")
    shortcut = block.get("shortcut")
    if shortcut is not None:
        _require(f"{_WHERE}: {where}: shortcut", shortcut, _IDENTITY)
    return conv, shortcut is not None


def _op(where: str, conv: Mapping[str, Any]) -> str:
    kernel_size, expansion = _size(where, conv, "kernel_size"), _size(where, conv, "expand_ratio")
    if kernel_size not in (3, 5, 7) or expansion not in (3, 6):
        raise UnsupportedError(
            f"{_WHERE}: {where}: kernel_size must be 3, 5 or 7 and expand_ratio 3 or 6, "
            f"got {kernel_size} and {expansion}"
        )
    return f"mb_k{kernel_size}_e{expansion}"


def _require(where: str, got: Any, wanted: Mapping[str, Any]) -> None:
    for key, value in wanted.items():
        given = _field(where, got, key, object)
        if given != value or isinstance(given, bool) != isinstance(value, bool):
            raise UnsupportedError(f"{where}: {key} must be {value!r}, got {given!r}")


def _equal(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise FormatError(f"{_WHERE}: {what} must be {wanted}, got {got}")


def _field(where: str, config: Any, key: str, kind: type[Any]) -> Any:
    if not isinstance(config, dict):
        raise FormatError(f"{where}: must be an object, got {config!r}")
    if key not in config or not isinstance(config[key], kind):
        needed = "be there" if kind is object else f"be there as a {kind.__name__}"
        raise FormatError(f"{where}: `{key}` must {needed}, got {config.get(key)!r}")
    return config[key]


def _size(where: str, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise FormatError(f"{_WHERE}: {where}: `{key}` must be a positive whole number, got {value!r}")
    return value


def _stride(where: str, config: Mapping[str, Any]) -> Literal[1, 2]:
    stride = _size(where, config, "stride")
    if stride not in (1, 2):
        raise UnsupportedError(f"{_WHERE}: {where}: stride must be 1 or 2, got {stride}")
    return 1 if stride == 1 else 2


def _positive_float(where: str, config: Mapping[str, Any], key: str) -> float:
    value: Any = config.get(key)
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        raise FormatError(f"{_WHERE}: {where}: `{key}` must be a positive number, got {value!r}")
    return float(value)
