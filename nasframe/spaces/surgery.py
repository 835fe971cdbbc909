"""The space around a network of one's own."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final, final

import torch
from torch import nn

from nasframe.core import Filler, LayerChoice, Network, SamplingFiller, Space, Task, layers, ops, spaces
from nasframe.core.own_network import decide
from nasframe.errors import UnsupportedError
from nasframe.registry import Component
from nasframe.suggestion import did_you_mean

ORIGINAL: Final = "original"
"""The candidate that is the layer itself, with the weights that the network gives it."""

_MAP_DIMENSIONS: Final = 4


@dataclass(frozen=True)
class Rule:
    """Where something is searched, and among what.

    Attributes:
        match: The qualified names of layers, with ``*``, ``?`` and ``[…]`` as in names of files, such as
            ``layer*.conv2``. A ``*`` stands for dots as well.
        choices: Names of candidates: of `ops` where a layer maps images, of `layers` where it maps
            features; ``original`` is the layer itself.
        id: What the choice is called, which all layers of the rule then share; without it each layer
            has a choice of its own, called after the layer: ``layer1_0_conv2``, or ``layer_2``.
    """

    match: str
    choices: tuple[str, ...]
    id: str | None = None


@final
@dataclass(frozen=True)
class _Site:
    name: str
    choice: LayerChoice
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]

    def make(self, original: nn.Module, name: str) -> nn.Module:
        """A candidate."""
        if name == ORIGINAL:
            return original
        if len(self.in_shape) == len(self.out_shape) == _MAP_DIMENSIONS:
            return ops[name](self.in_shape[1], self.out_shape[1], self._stride(), True)
        return layers[name](self.in_shape[-1], self.out_shape[-1])

    def _stride(self) -> int:
        """The one whose maps have the size of the layer's, or else 1."""
        before, after = self.in_shape[2:], self.out_shape[2:]
        fitting = (
            stride
            for stride in range(1, max(before) + 1)
            if tuple(-(-size // stride) for size in before) == after
        )
        return next(fitting, 1)

    def registered(self) -> list[str]:
        """Names of what may stand here."""
        is_map = len(self.in_shape) == len(self.out_shape) == _MAP_DIMENSIONS
        return [ORIGINAL, *(ops if is_map else layers).names()]


@spaces.register("surgery")
@final
class Surgery(Space):
    """A network of one's own, some layers of which are searched.

    Rules say which layers, and what may stand in their place. A candidate must take what the layer takes
    and return the shape that it returns, which is found out by running the network once on the meta device.
    Choices that stand in the network itself (`OneOf`) are searched as well. Batch norms of candidates
    have parameters, in the supernet too.

    Args:
        network: The network; whatever weights it is built with, layers that stay have.
        rules: Where something is searched. A layer that several rules match follows the first.

    Raises:
        UnsupportedError: A rule matches no layer, or a candidate does not fit.
    """

    def __init__(self, task: Task, *, network: Component[Network], rules: tuple[Rule, ...] = ()) -> None:
        self._task, self._make = task, network
        with torch.device("meta"):
            whole = decide(self._network(), SamplingFiller(torch.Generator()))  # any of each shape
            self._sites = list(_sites(whole, task, rules))
            for site in self._sites:
                _check(site, whole.get_submodule(site.name))

    def _network(self) -> nn.Module:
        network = self._make(self._task)
        if not isinstance(network, nn.Module):
            raise UnsupportedError(f"space surgery: network must be a module, got {type(network).__name__}")
        return network

    def build(self, filler: Filler) -> nn.Module:
        network = decide(self._network(), filler)
        for site in self._sites:
            parent, _, child = site.name.rpartition(".")
            original = network.get_submodule(site.name)
            layer = filler.layer(site.choice, partial(site.make, original))
            setattr(network.get_submodule(parent), child, layer)
        return network


def _sites(network: nn.Module, task: Task, rules: tuple[Rule, ...]) -> Iterator[_Site]:
    names = [name for name, _ in network.named_modules() if name]
    rule_of: dict[str, Rule] = {}
    for rule in rules:
        matched = [name for name in names if fnmatchcase(name, rule.match)]
        if not matched:
            nearest = did_you_mean(rule.match, names) or f"it has {', '.join(names[:8])} …"
            raise UnsupportedError(
                f"space surgery: rule `{rule.match}` must match a layer of the network, but matches none; "
                f"{nearest}"
            )
        for name in matched:
            rule_of.setdefault(name, rule)
    for name in rule_of:
        if inner := [other for other in rule_of if other.startswith(f"{name}.")]:
            raise UnsupportedError(
                f"space surgery: layers that are searched must not lie in each other, but `{inner[0]}` "
                f"lies in `{name}`; make the rules narrower"
            )
    shapes = _shapes(network, task, list(rule_of))
    for name in (each for each in names if each in rule_of):
        rule = rule_of[name]
        own_id = name.replace(".", "_")
        choice = LayerChoice(rule.id or (own_id if own_id[0].isalpha() else f"layer_{own_id}"), rule.choices)
        yield _Site(name, choice, *shapes[name])


def _shapes(
    network: nn.Module, task: Task, names: list[str]
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes of input and output of layers, of a batch of two."""
    found: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if len(args) != 1 or not isinstance(args[0], torch.Tensor) or not isinstance(output, torch.Tensor):
            raise UnsupportedError(
                f"space surgery: layer `{name}` must take one tensor and return one, but does not; "
                "match others, or put a `OneOf` into the network"
            )
        shapes = tuple(args[0].shape), tuple(output.shape)
        if found.setdefault(name, shapes) != shapes:
            raise UnsupportedError(
                f"space surgery: layer `{name}` must see one shape, but sees {found[name][0]} "
                f"and {shapes[0]}; match others"
            )

    for name in names:
        network.get_submodule(name).register_forward_hook(partial(note, name))
    network.eval()(task.blank(2, device="meta"))
    if idle := [name for name in names if name not in found]:
        raise UnsupportedError(
            f"space surgery: layer `{idle[0]}` must run when the network runs, but does not; match others"
        )
    return found


def _check(site: _Site, original: nn.Module) -> None:
    """Refuse candidates that do not fit."""
    known = site.registered()
    for name in site.choice.candidates:
        where = f"space surgery: layer `{site.name}`"
        if name not in known:
            advice = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise UnsupportedError(
                f"{where}: choices must be `{ORIGINAL}` or names of what maps "
                f"{site.in_shape[1:]} to {site.out_shape[1:]}, got `{name}`; {advice}"
            )
        try:
            out_shape = tuple(site.make(original, name).eval()(torch.empty(site.in_shape)).shape)
        except UnsupportedError as error:
            raise UnsupportedError(f"{where} cannot be `{name}`: {error}") from error
        if out_shape != site.out_shape:
            raise UnsupportedError(
                f"{where}: `{name}` must map {site.in_shape[1:]} to {site.out_shape[1:]} as the layer does, "
                f"but makes {out_shape[1:]}; leave it out, or match other layers"
            )
