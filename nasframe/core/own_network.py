"""Choices that stand in a module of one's own."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, final

from torch import nn

from nasframe.core.choice import LayerChoice
from nasframe.core.filler import Filler
from nasframe.core.space import Space
from nasframe.errors import ComponentError, UnsupportedError


@final
class OneOf(nn.Module):
    """One of several modules, which a search decides; stands anywhere in a module of one's own.

    ``self.conv = OneOf("conv", {"wide": nn.Conv2d(8, 8, 5, padding=2), "skip": nn.Identity()})``

    It cannot run: `OwnNetwork`, or the space `surgery`, puts a mixture in its place, or what a genotype
    keeps. Places with one id, which must have the same names, share one decision.

    Args:
        id: Of the choice.
        candidates: Modules by name, which take and return the same shapes.
    """

    def __init__(self, id: str, candidates: Mapping[str, nn.Module]) -> None:
        super().__init__()
        given: Mapping[str, Any] = candidates
        if wrong := [name for name, module in given.items() if not isinstance(module, nn.Module)]:
            raise ComponentError(f"OneOf `{id}`: candidates must be modules, but not {', '.join(wrong)}")
        self.choice = LayerChoice(id, tuple(candidates))
        self._modules.update(candidates)

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(
            f"OneOf `{self.choice.id}`: must be decided before it runs; build the network by "
            "`supernet(space, …)` or `derived(space, genotype)`, where `space` is `OwnNetwork(…)` of it"
        )


@final
class OwnNetwork(Space):
    """The space of a module in which a `OneOf` stands, or several.

    Args:
        make: Builds the module anew, such as its class.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make

    def build(self, filler: Filler) -> nn.Module:
        return decide(self._make(), filler)


def decide(network: nn.Module, filler: Filler) -> nn.Module:
    """Put at each `OneOf` of a network, the network itself included, what a filler says."""
    if isinstance(network, OneOf):
        own = network._modules
        return filler.layer(network.choice, lambda name: decide(_module(own[name]), filler))
    for name, child in list(network.named_children()):
        decided = decide(child, filler)
        if decided is not child:
            setattr(network, name, decided)
    return network


def _module(module: nn.Module | None) -> nn.Module:
    assert module is not None
    return module
