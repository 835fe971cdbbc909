"""Kinds of parameters: declared where a parameter is made, never read off its name."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from nasframe.errors import ComponentError


class Level(StrEnum):
    """The level of the bilevel problem that a kind belongs to (Liu et al. 2019, eq. 3 and 4)."""

    UPPER = "upper"
    LOWER = "lower"


@dataclass(frozen=True)
class Kind:
    """A kind of parameter and its level; a method that needs a new one declares it so."""

    name: str
    level: Level

    def __str__(self) -> str:
        return self.name


ALPHA = Kind("alpha", Level.UPPER)
WEIGHT = Kind("weight", Level.LOWER)


class ArchParam(nn.Parameter):
    """A parameter of a declared kind; every other parameter of a model is a weight.

    Args:
        data: Initial value.
        kind: Its kind, `ALPHA` unless said.
        requires_grad: False to freeze it.
    """

    kind: Kind

    def __new__(cls, data: torch.Tensor, kind: Kind = ALPHA, requires_grad: bool = True) -> "ArchParam":
        parameter: ArchParam = super().__new__(cls, data, requires_grad)
        parameter.kind = kind
        return parameter

    def __deepcopy__(self, memo: dict[int, Any]) -> "ArchParam":
        if id(self) not in memo:
            data = self.data.clone(memory_format=torch.preserve_format)
            memo[id(self)] = ArchParam(data, self.kind, self.requires_grad)
        copied: ArchParam = memo[id(self)]
        return copied

    def __reduce_ex__(self, proto: Any) -> tuple[Any, ...]:
        return ArchParam, (self.data, self.kind, self.requires_grad)


def kind_of(parameter: nn.Parameter) -> Kind:
    """The kind of a parameter."""
    return parameter.kind if isinstance(parameter, ArchParam) else WEIGHT


def kinds(module: nn.Module) -> tuple[str, ...]:
    """Names of the kinds that occur in a module (wrapped or not), in order of appearance.

    Raises:
        ComponentError: Two kinds share a name but not a level.
    """
    found: dict[str, Kind] = {}
    for parameter in module.parameters():
        kind = kind_of(parameter)
        if found.setdefault(kind.name, kind) != kind:
            raise ComponentError(f"kind `{kind.name}` must have one level, but is declared upper and lower")
    return tuple(found)


def named_parameters_of(module: nn.Module, kind: str | Kind) -> Iterator[tuple[str, nn.Parameter]]:
    """Each parameter of one kind once, with its first qualified name."""
    for name, parameter in module.named_parameters():
        if kind_of(parameter).name == str(kind):
            yield name, parameter


def named_parameters_at(module: nn.Module, level: str | Level) -> Iterator[tuple[str, nn.Parameter]]:
    """Each parameter of one level once, with its first qualified name."""
    wanted = Level(level)
    for name, parameter in module.named_parameters():
        if kind_of(parameter).level is wanted:
            yield name, parameter


def keep_kinds_on_load(module: nn.Module) -> None:
    """Make kinds survive ``load_state_dict(assign=True)``, which replaces parameter objects.

    PyTorch's hooks after loading run for a module also when only a parent or child of its is loaded.
    """
    for owner in module.modules():
        own = {name: p.kind for name, p in owner._parameters.items() if isinstance(p, ArchParam)}
        if own and not any(
            isinstance(hook, _RestoreKinds) for hook in owner._load_state_dict_post_hooks.values()
        ):
            owner.register_load_state_dict_post_hook(_RestoreKinds(own))  # type: ignore[no-untyped-call]


def restore_kinds(module: nn.Module) -> None:
    """Give parameters that replaced those of a declared kind that kind again."""
    for owner in module.modules():
        for hook in owner._load_state_dict_post_hooks.values():
            if isinstance(hook, _RestoreKinds):
                hook(owner, None)


@dataclass(frozen=True)
class _RestoreKinds:
    kinds: dict[str, Kind]

    def __call__(self, module: nn.Module, incompatible_keys: Any) -> None:
        for name, kind in self.kinds.items():
            parameter = module._parameters.get(name)
            if parameter is not None and not isinstance(parameter, ArchParam):
                setattr(module, name, ArchParam(parameter.data, kind, parameter.requires_grad))
