"""Modules of PyTorch, as the calls that make them."""

import inspect
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from nasframe.core import ExactBatchNorm2d
from nasframe.core.depthwise import is_conv2d


@final
@dataclass(frozen=True)
class Layer:
    """A module of ``torch.nn``.

    Attributes:
        module: The module.
        made_by: The class that makes it.
        settings: What the class is given, by name.
        defaults: What it takes by itself.
    """

    module: nn.Module
    made_by: str
    settings: dict[str, Any]
    defaults: dict[str, Any]


def layer_of(module: nn.Module) -> Layer | None:
    """A module as what makes it anew, where it is one of ``torch.nn`` or says that it computes the same."""
    made_by = type(module)
    if is_conv2d(module):
        made_by = nn.Conv2d
    elif made_by is ExactBatchNorm2d:
        made_by = nn.BatchNorm2d
    if getattr(nn, made_by.__name__, None) is not made_by:
        return None
    takes = list(inspect.signature(made_by).parameters.values())
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in takes):
        return None
    settings: dict[str, Any] = {}
    for each in takes:
        if each.name in ("device", "dtype") or each.name.startswith("_"):
            continue
        value = getattr(module, each.name, each.default)
        if isinstance(value, torch.Tensor) or (each.name == "bias" and value is None):
            value = value is not None
        settings[each.name] = value
    if not all(map(is_plain, settings.values())):
        return None
    defaults = {each.name: each.default for each in takes}
    brief = {name: _brief(value) for name, value in settings.items()}
    for candidate in (brief, settings):
        if _is_alike(made_by, candidate, module):
            return Layer(module, f"nn.{made_by.__name__}", candidate, defaults)
    return None


def _brief(value: Any) -> Any:
    """One number in place of several equal ones."""
    if isinstance(value, tuple) and value and type(value[0]) is int and len(set(value)) == 1:
        return value[0]
    return value


def _is_alike(made_by: type[nn.Module], settings: dict[str, Any], module: nn.Module) -> bool:
    """Whether the settings make such a module."""
    try:
        with torch.device("meta"):
            other = made_by(**settings)
    except (TypeError, ValueError, RuntimeError):
        return False
    shapes, others = ({name: each.shape for name, each in m.state_dict().items()} for m in (module, other))
    return shapes == others and _described(module) == _described(other)


def _described(module: nn.Module) -> list[Any]:
    """The plain attributes of a module, but for the mode that it is in, and those in it with their types."""
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and is_plain(value)
    }
    return [own, *((name, type(child), _described(child)) for name, child in module.named_children())]


def is_plain(value: Any) -> bool:
    """Whether something is a number, a text, None, or a tuple of such."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)
