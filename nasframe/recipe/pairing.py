"""What must fit together although each part is valid alone."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from nasframe.core import WEIGHT, Cost, Deriver, Level, Penalty, SampledOp, read_amount
from nasframe.errors import FormatError, Problem
from nasframe.recipe.recipe import Recipe, Search
from nasframe.recipe.tree import Node
from nasframe.registry import Component, registries
from nasframe.types import Amount


def pairing_problems(recipe: Recipe, tree: Node) -> Iterator[Problem]:
    """Check a recipe whose every part is valid.

    Args:
        recipe: It is only read.
        tree: What it was read from, for places.
    """
    for check in _CHECKS:
        yield from check(recipe, tree)


def _place(tree: Node, *path: str) -> str:
    """Where a path, or the nearest thing above it, is written."""
    node, place = tree, tree.key_at
    for key in path:
        child = node.child(key)
        if child is None:
            break
        node, place = child, child.key_at
    return str(place)


def _name(recipe: Recipe, tree: Node) -> Iterator[Problem]:
    if not re.fullmatch(r"[\w][\w. +-]*", recipe.name):
        rule = "must be usable as the name of a folder: letters, digits and _ . + -, not a dot first"
        yield Problem(_place(tree, "name"), "name", rule, f"`{recipe.name}`")


def _kinds(recipe: Recipe, tree: Node) -> Iterator[Problem]:
    """The algorithm needs kinds of parameter that the mixed op makes; weights there are always."""
    algorithm, mixed_op = recipe.search.algorithm, recipe.search.mixed_op
    made = _attribute(mixed_op, "makes")
    if made is None:
        return
    kinds = [WEIGHT, *made]
    served = {name for kind in kinds for name in (kind.name, str(kind.level))}
    for need in sorted(_attribute(algorithm, "needs") or ()):
        if need not in served:
            what = (
                f"parameters of the {need} level" if need in list(Level) else f"parameters of kind `{need}`"
            )
            names = ", ".join(kind.name for kind in made) or "none"
            rule = f"`{algorithm.name}` needs {what}, but `{mixed_op.name}` makes only: {names}"
            advice = "choose another search.mixed_op or search.algorithm"
            yield Problem(_place(tree, "search", "algorithm"), "search.algorithm", rule, "", advice)


def _mixes(recipe: Recipe, tree: Node) -> Iterator[Problem]:
    """The algorithm takes the sort of mixed op that there is; one that draws needs a draw."""
    algorithm, mixed_op = recipe.search.algorithm, recipe.search.mixed_op
    made, mixes = registries["mixed_ops"][mixed_op.name], _attribute(algorithm, "mixes")
    if mixes is None or not isinstance(made, type):
        return
    draws = issubclass(made, SampledOp)
    if not issubclass(made, mixes):
        rule = (
            f"`{algorithm.name}` needs a mixed op that is a {mixes.__name__}, but `{mixed_op.name}` is none"
        )
    elif draws and not issubclass(mixes, SampledOp):
        rule = f"`{mixed_op.name}` needs an algorithm that draws its paths, but `{algorithm.name}` does not"
    else:
        return
    advice = "choose another search.mixed_op or search.algorithm"
    yield Problem(_place(tree, "search", "algorithm"), "search.algorithm", rule, "", advice)


def _cost(recipe: Recipe, tree: Node) -> Iterator[Problem]:
    """Alphas pay for a cost that is a sum over candidates, in an algorithm that lets them."""
    algorithm, cost = recipe.search.algorithm, recipe.search.cost
    if cost is None:
        return
    place = _place(tree, "search", "cost")
    if not _attribute(algorithm, "follows_penalty"):
        rule = f"`{algorithm.name}` must follow a penalty of the alphas, but does not declare that it does"
        yield Problem(place, "search.cost", rule, "", "choose another search.algorithm, or no search.cost")
    if _attribute(cost, "of_call") is Cost.of_call:
        rule = f"`{cost.name}` must be a sum over the parts of a network, but prices whole networks alone"
        yield Problem(place, "search.cost", rule, "", "choose another search.cost")


def _penalty(recipe: Recipe, tree: Node) -> Iterator[Problem]:
    """A penalty has a cost to work on, amounts in that cost's units, and a deriver that keeps a budget."""
    cost, penalty, deriver = recipe.search.cost, recipe.search.penalty, recipe.search.deriver
    place = _place(tree, "search", "penalty")
    if cost is None:
        if penalty != Search().penalty:
            rule = f"`{penalty.name}` must have a cost to work on, but there is no search.cost"
            yield Problem(place, "search.penalty", rule, "", "set search.cost, such as flops or latency")
        return
    settings = registries[penalty.registry].signature(penalty.name).settings
    for name in (name for name, setting in settings.items() if setting.annotation == Amount):
        try:
            read_amount(penalty.settings[name], _attribute(cost, "units") or {})
        except FormatError as error:
            given = f"`{penalty.settings[name]}`"
            path = ("search", "penalty", name)
            yield Problem(_place(tree, *path), ".".join(path), f"{error} (of `{cost.name}`)", given)
    limits = _attribute(penalty, "max_cost") not in (None, Penalty.max_cost)
    if limits and _attribute(deriver, "derive_within") is Deriver.derive_within:
        rule = f"`{deriver.name}` must keep the budget of `{penalty.name}`, but knows none"
        yield Problem(place, "search.penalty", rule, "", "choose another search.deriver, or search.penalty")


def _attribute(component: Component[Any], name: str) -> Any:
    """An attribute of the component's class; None where a function is registered."""
    return getattr(registries[component.registry][component.name], name, None)


_CHECKS: Final[tuple[Callable[[Recipe, Node], Iterable[Problem]], ...]] = (
    _name,
    _kinds,
    _mixes,
    _cost,
    _penalty,
)
