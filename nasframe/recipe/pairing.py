"""What must fit together although each part is valid alone."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from nasframe import problem_kinds
from nasframe.core import (
    WEIGHT,
    Cost,
    Deriver,
    Kind,
    Level,
    MixedOp,
    Penalty,
    SampledOp,
    WeightedSum,
    described,
    mixed_ops,
    preview_of,
    read_amount,
)
from nasframe.errors import FormatError, NasframeError, Problem
from nasframe.problem_kinds import ProblemKind
from nasframe.recipe.recipe import Search, SearchStage
from nasframe.recipe.tree import Node
from nasframe.registry import BUILT_IN, Component, registries
from nasframe.types import Amount

_LONGEST_NAME: Final = 200  # a folder's may have 255 bytes on most systems


@final
@dataclass(frozen=True)
class Parts:
    """The parts of a recipe that are valid alone.

    Attributes:
        tree: What the recipe was read from.
        values: Components and other values by path, such as ``search.algorithm``.
    """

    tree: Node
    values: Mapping[str, Any]

    def get(self, path: str) -> Any:
        """The part at a path; None where there is none, or one with a problem."""
        return self.values.get(path)

    def place(self, path: str) -> str:
        """Where a path, or the nearest thing above it, is written."""
        node, place = self.tree, self.tree.key_at
        for key in path.split("."):
            child = node.child(key)
            if child is None:
                break
            node, place = child, child.key_at
        return str(place)

    def problem(self, kind: ProblemKind, path: str, rule: str, given: str = "", advice: str = "") -> Problem:
        """A problem of the part at a path."""
        return Problem(kind, self.place(path), path, rule, given, advice)


def pairing_problems(parts: Parts) -> Iterator[Problem]:
    """Check what must fit together, as far as the parts are valid alone."""
    for check in _CHECKS:
        yield from check(parts)


def _name(parts: Parts) -> Iterator[Problem]:
    name = parts.get("name")
    if name is not None and (found := unusable_as_folder(name)):
        yield parts.problem(problem_kinds.BAD_RUN_NAME, "name", *found)


def unusable_as_folder(name: str) -> tuple[str, str] | None:
    """What must hold of a name and what does not, if no folder can be called so."""
    if not re.fullmatch(r"[\w][\w. +-]*", name):
        rule = "must be usable as the name of a folder: letters, digits and _ . + -, not a dot first"
        return rule, f"`{name}`"
    if len(name.encode()) > _LONGEST_NAME:
        rule = f"must be usable as the name of a folder: at most {_LONGEST_NAME} bytes"
        return rule, f"{len(name.encode())}"
    return None


def _kinds(parts: Parts) -> Iterator[Problem]:
    """The algorithm needs kinds of parameter that the mixed op makes; weights there are always."""
    algorithm, mixed_op = parts.get("search.algorithm"), parts.get("search.mixed_op")
    made = _attribute(mixed_op, "makes")
    if algorithm is None or made is None:
        return
    for need in sorted(_attribute(algorithm, "needs") or ()):
        if need not in _served(made):
            what = (
                f"parameters of the {need} level" if need in list(Level) else f"parameters of kind `{need}`"
            )
            names = ", ".join(kind.name for kind in made) or "none"
            rule = f"`{algorithm.name}` needs {what}, but `{mixed_op.name}` makes only: {names}"
            yield parts.problem(
                problem_kinds.NEEDS_KIND, "search.algorithm", rule, "", _other_partner(algorithm)
            )


def _mixes(parts: Parts) -> Iterator[Problem]:
    """The algorithm takes the sort of mixed op that there is; one that draws needs a draw."""
    algorithm, mixed_op = parts.get("search.algorithm"), parts.get("search.mixed_op")
    made, mixes = _factory(mixed_op), _attribute(algorithm, "mixes")
    if mixes is None or not isinstance(made, type):
        return
    draws = issubclass(made, SampledOp)
    if not issubclass(made, mixes):
        rule = f"`{algorithm.name}` needs {described(mixes)}, but `{mixed_op.name}` is none"
    elif draws and not issubclass(mixes, SampledOp):
        rule = f"`{mixed_op.name}` needs an algorithm that draws its paths, but `{algorithm.name}` does not"
    else:
        return
    advice = _other_partner(algorithm)
    yield parts.problem(problem_kinds.MIXES_OTHERWISE, "search.algorithm", rule, "", advice)


def _served(made: Iterable[Kind]) -> set[str]:
    """What an algorithm may need where a mixed op makes these kinds."""
    return {name for kind in (WEIGHT, *made) for name in (kind.name, str(kind.level))}


def _other_partner(algorithm: Component[Any]) -> str:
    mixes, needs = _attribute(algorithm, "mixes") or MixedOp, set(_attribute(algorithm, "needs") or ())
    fitting = []
    for name in mixed_ops.names():
        made: Any = mixed_ops[name] if _is_built_in(name, mixes) else None
        is_drawn_for = made is not None and issubclass(mixes, SampledOp) >= issubclass(made, SampledOp)
        if is_drawn_for and needs <= _served(made.makes):
            fitting.append(name)
    listed = f"`nasframe show {algorithm.registry} {algorithm.name}` lists all that fit"
    return f"set search.mixed_op ({' or '.join(fitting)}), or choose another search.algorithm; {listed}"


def _reads(parts: Parts) -> Iterator[Problem]:
    """What works on mixed ops finds in them what it works on."""
    mixed_op = parts.get("search.mixed_op")
    made = _factory(mixed_op)
    if not isinstance(made, type):
        return
    wanted = [(path, each, _attribute(each, "reads")) for path, each in _regularizers(parts)]
    if (deriver := parts.get("search.deriver")) is not None:
        wanted.append(("search.deriver", deriver, _attribute(deriver, "reads")))
    if (perturbation := parts.get("search.perturbation")) is not None:
        wanted.append(("search.perturbation", perturbation, WeightedSum))
    for path, part, reads in wanted:
        if reads is not None and not issubclass(made, reads):
            fitting = [name for name in mixed_ops.names() if _is_built_in(name, reads)]
            rule = f"`{part.name}` needs {described(reads)}, but `{mixed_op.name}` is none"
            advice = f"choose another search.mixed_op ({', '.join(fitting) or 'none that is built in'})"
            advice += ", or leave it out" if path != "search.deriver" else f", or another {path}"
            yield parts.problem(problem_kinds.READS_OTHERWISE, path, rule, "", advice)


def _is_built_in(name: str, reads: type) -> bool:
    if mixed_ops.origin(name) != BUILT_IN:
        return False
    made: Any = mixed_ops[name]
    return isinstance(made, type) and issubclass(made, reads)


def _regularizers(parts: Parts) -> list[tuple[str, Component[Any]]]:
    """Each of them with its path."""
    listed = parts.get("search.regularizers") or ()
    return [(f"search.regularizers.{index}", each) for index, each in enumerate(listed)]


def _regularized(parts: Parts) -> Iterator[Problem]:
    """Alphas minimize regularizers in an algorithm that lets them."""
    algorithm = parts.get("search.algorithm")
    if algorithm is None or _attribute(algorithm, "follows_penalty"):
        return
    for path, each in _regularizers(parts):
        rule = (
            f"`{each.name}` needs an algorithm whose alphas follow a penalty, but `{algorithm.name}` does not"
        )
        advice = "choose another search.algorithm, or leave it out"
        yield parts.problem(problem_kinds.REGULARIZER_UNUSED, path, rule, "", advice)


def _cost(parts: Parts) -> Iterator[Problem]:
    """Alphas pay for a cost that is a sum over candidates, in an algorithm that lets them."""
    algorithm, cost = parts.get("search.algorithm"), parts.get("search.cost")
    if cost is None:
        return
    penalty = parts.get("search.penalty")
    if parts.get("search.explorer") is not None:
        if penalty is not None and _attribute(penalty, "max_cost") in (None, Penalty.max_cost):
            rule = f"an explorer keeps a budget, and has no alphas to pay by `{penalty.name}`"
            advice = "choose another search.penalty, such as budget, or no search.cost"
            yield parts.problem(problem_kinds.COST_UNUSED, "search.cost", rule, "", advice)
    elif (
        algorithm is not None
        and _attribute(algorithm, "learns_alphas") is not False  # it needs an explorer, which keeps a budget
        and not _attribute(algorithm, "follows_penalty")
    ):
        rule = f"`{algorithm.name}` must follow a penalty of the alphas, but does not declare that it does"
        yield parts.problem(
            problem_kinds.COST_UNUSED,
            "search.cost",
            rule,
            "",
            "choose another search.algorithm, or no search.cost",
        )
    if _attribute(cost, "of_call") is Cost.of_call:
        rule = f"`{cost.name}` must be a sum over the parts of a network, but prices whole networks alone"
        yield parts.problem(problem_kinds.COST_UNUSED, "search.cost", rule, "", "choose another search.cost")


def _held_out(parts: Parts) -> Iterator[Problem]:
    """An algorithm that learns from held-out examples needs some, and the rest must be some too."""
    algorithm, data = parts.get("search.algorithm"), parts.get("data")
    if parts.get("search.valid_fraction") == 0:
        rule = ""
        if _attribute(parts.get("search.score"), "uses_valid"):
            rule = f"must be above 0, because `{parts.get('search.score').name}` measures held-out examples"
        elif _trains_supernet(parts) and _attribute(algorithm, "uses_valid"):
            rule = f"must be above 0, because `{algorithm.name}` learns from held-out examples"
        if rule:
            yield parts.problem(problem_kinds.NEEDS_HELD_OUT, "search.valid_fraction", rule, "0")
    deriver = parts.get("search.deriver")
    if (
        parts.get("search.valid_fraction") == 0
        and parts.get("search.explorer") is None
        and _attribute(deriver, "validates")
    ):
        rule = f"must be above 0, because `{deriver.name}` validates on held-out examples"
        yield parts.problem(problem_kinds.NEEDS_HELD_OUT, "search.valid_fraction", rule, "0")
    if parts.get("retrain.valid_fraction") == 0 and (parts.get("retrain.seeds") or 1) > 1:
        rule = "must be above 0, because of several seeds the best by validation is kept"
        yield parts.problem(problem_kinds.NEEDS_HELD_OUT, "retrain.valid_fraction", rule, "0")
    try:
        preview = None if data is None else preview_of(_factory(data), **data.settings)
    except NasframeError as error:
        yield parts.problem(problem_kinds.IMPOSSIBLE_DATA, "data", str(error))
        return
    for path in ("search.valid_fraction", "retrain.valid_fraction"):
        fraction = parts.get(path)
        if preview is not None and preview.num_train is not None and fraction:
            held_out = round(preview.num_train * fraction)
            if not 0 < held_out < preview.num_train:
                rule = f"must leave examples on both sides of a split of {preview.num_train}"
                yield parts.problem(
                    problem_kinds.EMPTY_SPLIT, path, rule, f"{fraction}, which holds out {held_out}"
                )


def _health(parts: Parts) -> Iterator[Problem]:
    """What is asked of the health of a search can be seen and done in it."""
    for name, nothing in (("action", "tell"), ("eigenvalue_every", None)):
        path = f"search.health.{name}"
        if (given := parts.get(path)) not in (nothing, None):
            for reason, advice in _health_reasons(parts, name):
                rule = f"must be {'null' if nothing is None else nothing}, because {reason}"
                yield parts.problem(problem_kinds.HEALTH_UNUSED, path, rule, f"{given}", advice)
    if parts.get("search.health.eigenvalue_every") and parts.get("search.valid_fraction") == 0:
        rule = "must be above 0, because the eigenvalue is measured on held-out examples"
        yield parts.problem(problem_kinds.NEEDS_HELD_OUT, "search.valid_fraction", rule, "0")


def _health_reasons(parts: Parts, name: str) -> Iterator[tuple[str, str]]:
    """What forbids to ask for something of the health, and what to do."""
    explorer, trainer = parts.get("search.explorer"), parts.get("search.trainer")
    mixed_op = parts.get("search.mixed_op")
    made = _factory(mixed_op)
    if explorer is not None:
        yield f"the architecture is found by `{explorer.name}`, not read off alphas", "leave it out"
    if trainer is not None and not _attribute(trainer, "heeds_guard"):
        yield f"`{trainer.name}` lets nobody look at a search", "leave it out, or choose another trainer"
    if name == "eigenvalue_every" and isinstance(made, type) and not issubclass(made, WeightedSum):
        advice = "leave it out, or choose another search.mixed_op, such as softmax"
        yield f"`{mixed_op.name}` is no weighted sum of its candidates, which has second derivatives", advice


def _trains_supernet(parts: Parts) -> bool:
    score = parts.get("search.score")
    return score is None or bool(_attribute(score, "trains_supernet"))


def _explorer(parts: Parts) -> Iterator[Problem]:
    """An explorer has a score to ask for, which knows its budgets; without one, alphas are learned."""
    if not {"search.explorer", "search.score"} <= parts.values.keys():
        return
    explorer, score = parts.get("search.explorer"), parts.get("search.score")
    if explorer is None and score is not None:
        rule = f"must be given, because `{score.name}` tells scores to an explorer alone"
        advice = "set search.explorer, such as regularized_evolution, or leave search.score out"
        yield parts.problem(problem_kinds.EXPLORER_OR_SCORE_ALONE, "search.explorer", rule, "", advice)
    if explorer is not None and score is None:
        rule = f"must be given, because `{explorer.name}` asks for scores"
        advice = "set search.score, such as synflow, supernet or retraining"
        yield parts.problem(problem_kinds.EXPLORER_OR_SCORE_ALONE, "search.score", rule, "", advice)
    uses, takes = _attribute(explorer, "uses_budgets"), _attribute(score, "takes_budgets")
    if uses and score is not None and not takes:
        rule = f"`{explorer.name}` asks for scores that cost a share of the whole budget, but `{score.name}` "
        rule += "costs the same for any"
        advice = "choose another search.explorer, or the score retraining"
        yield parts.problem(problem_kinds.NO_SMALLER_BUDGETS, "search.explorer", rule, "", advice)


def _learned(parts: Parts) -> Iterator[Problem]:
    """What trains weights alone serves an explorer that scores by its supernet."""
    algorithm, explorer = parts.get("search.algorithm"), parts.get("search.explorer")
    known = {"search.explorer", "search.score"} <= parts.values.keys()
    if not known or _attribute(algorithm, "learns_alphas") is not False:
        return
    if explorer is None:
        rule = f"must be given, because `{algorithm.name}` trains weights alone and learns no architecture"
        advice = "set search.explorer and search.score, such as evolution and supernet"
        yield parts.problem(problem_kinds.LEARNS_NO_ARCHITECTURE, "search.explorer", rule, "", advice)
    elif not _trains_supernet(parts):
        rule = f"must be of a supernet, because `{algorithm.name}` trains the weights of one"
        advice = "choose the score supernet, or leave search.algorithm out"
        given = f"`{parts.get('search.score').name}`"
        yield parts.problem(problem_kinds.LEARNS_NO_ARCHITECTURE, "search.score", rule, given, advice)


def _stages(parts: Parts) -> Iterator[Problem]:
    """Each stage of a search follows from the one before, by alphas that are learned."""
    stages: Sequence[SearchStage] = parts.get("search.stages") or ()
    if not stages:
        return
    explorer, cost = parts.get("search.explorer"), parts.get("search.cost")
    if explorer is not None:
        rule = f"must be left out, because `{explorer.name}` finds an architecture without alphas to prune by"
        yield parts.problem(problem_kinds.IMPOSSIBLE_STAGES, "search.stages", rule)
    if cost is not None:
        rule = "must be left out, because stages prune by alphas alone, and might leave nothing cheap enough"
        yield parts.problem(problem_kinds.IMPOSSIBLE_STAGES, "search.cost", rule, f"`{cost.name}`")
    if stages[0].inherits:
        rule = "must be empty in the first stage, which has none before it"
        yield parts.problem(problem_kinds.IMPOSSIBLE_STAGES, "search.stages.0.inherits", rule)
    if stages[0].keep is not None:
        rule = "must be null in the first stage, before anything is learned; prune the space itself"
        yield parts.problem(
            problem_kinds.IMPOSSIBLE_STAGES, "search.stages.0.keep", rule, f"{stages[0].keep}"
        )
    yield from _kept(parts, stages)


def _kept(parts: Parts, stages: Sequence[SearchStage]) -> Iterator[Problem]:
    """No stage keeps more candidates than there are, or prunes by what nobody learned."""
    mixed_op, left = parts.get("search.mixed_op"), math.inf
    for index, stage in enumerate(stages):
        rule = ""
        if index == 0 or stage.keep is None:
            continue
        if stage.keep > left:
            rule = f"must be at most {left}, which the stage before keeps"
        elif mixed_op is not None and _attribute(mixed_op, "makes") == ():
            rule = f"must be null, because `{mixed_op.name}` has no alphas to prune by"
        if rule:
            path = f"search.stages.{index}.keep"
            yield parts.problem(problem_kinds.IMPOSSIBLE_STAGES, path, rule, f"{stage.keep}")
        left = stage.keep


def _inherited(parts: Parts) -> Iterator[Problem]:
    """Who inherits weights has a supernet to inherit them from."""
    known = parts.get("genotype") is not None
    if parts.get("retrain.inherit") and (known or not _trains_supernet(parts)):
        which = "genotype" if known else "search.score"
        rule = "must have a supernet that the search trains, but there is none"
        advice = f"leave it out, or {which}"
        yield parts.problem(problem_kinds.NOTHING_TO_INHERIT, "retrain.inherit", rule, "", advice)


def _benchmark(parts: Parts) -> Iterator[Problem]:
    """A table knows the architectures of one space."""
    score = parts.get("search.score")
    tables = {"search.benchmark": parts.get("search.benchmark")}
    if score is not None:
        held = {f"search.score.{name}": value for name, value in score.settings.items()}
        tables |= {path: each for path, each in held.items() if _is_benchmark(each)}
    for path, benchmark in tables.items():
        yield from _other_space(parts, path, benchmark)


def _is_benchmark(value: Any) -> bool:
    return isinstance(value, Component) and value.registry == "benchmarks"


def _other_space(parts: Parts, path: str, benchmark: Component[Any] | None) -> Iterator[Problem]:
    space, known = parts.get("space"), _attribute(benchmark, "space")
    if benchmark is None or space is None or known is None:
        return
    given = {name: space.settings[name] for name in known.settings if name in space.settings}
    if space.name != known.name or given != known.settings:
        rule = f"`{benchmark.name}` knows the architectures of {_spelled(known.name, known.settings)} alone"
        advice = f"search there, or without {path}"
        yield parts.problem(problem_kinds.OTHER_SPACE, path, rule, _spelled(space.name, given), advice)


def _spelled(name: str, settings: Mapping[str, Any]) -> str:
    words = [f"{key} {list(value) if isinstance(value, tuple) else value}" for key, value in settings.items()]
    return " with ".join([f"the space `{name}`", *([", ".join(words)] if words else [])])


def _penalty(parts: Parts) -> Iterator[Problem]:
    """A penalty has a cost to work on, amounts in that cost's units, and a deriver that keeps a budget."""
    cost, penalty = parts.get("search.cost"), parts.get("search.penalty")
    if penalty is None or "search.cost" not in parts.values:
        return
    if cost is None:
        if penalty != Search().penalty:
            rule = f"`{penalty.name}` must have a cost to work on, but there is no search.cost"
            advice = "set search.cost, such as flops or latency"
            yield parts.problem(problem_kinds.PENALTY_WITHOUT_COST, "search.penalty", rule, "", advice)
        return
    settings = registries[penalty.registry].signature(penalty.name).settings
    amounts = {name for name, setting in settings.items() if setting.annotation == Amount}
    for name in sorted(amounts & penalty.settings.keys()):
        try:
            read_amount(penalty.settings[name], _attribute(cost, "units") or {})
        except FormatError as error:
            given = f"`{penalty.settings[name]}`"
            path, rule = f"search.penalty.{name}", f"{error} (of `{cost.name}`)"
            yield parts.problem(problem_kinds.NOT_AN_AMOUNT, path, rule, given)
    deriver = parts.get("search.deriver")
    limits = _attribute(penalty, "max_cost") not in (None, Penalty.max_cost)
    if (
        limits
        and parts.get("search.explorer") is None
        and _attribute(deriver, "derive_within") is Deriver.derive_within
    ):
        rule = f"`{deriver.name}` must keep the budget of `{penalty.name}`, but knows none"
        advice = "choose another search.deriver, or search.penalty"
        yield parts.problem(problem_kinds.KEEPS_NO_BUDGET, "search.penalty", rule, "", advice)


def _baseline(parts: Parts) -> Iterator[Problem]:
    """What a baseline is equal in is known, and it is trained as the found network is."""
    name = parts.get("retrain.baseline")
    if name is None:
        return
    if "search.cost" in parts.values and parts.get("search.cost") is None:
        rule = f"`{name}` must cost what the found network costs, but there is no search.cost"
        advice = "set search.cost, such as flops or latency"
        yield parts.problem(problem_kinds.IMPOSSIBLE_BASELINE, "retrain.baseline", rule, "", advice)
    if parts.get("retrain.inherit"):
        rule = "must be left out with retrain.inherit, for the supernet was not trained to hand weights to it"
        yield parts.problem(problem_kinds.IMPOSSIBLE_BASELINE, "retrain.baseline", rule, f"`{name}`")


def _factory(component: Component[Any] | None) -> Any:
    """The class or function of a component."""
    return None if component is None else registries[component.registry][component.name]


def _attribute(component: Component[Any] | None, name: str) -> Any:
    """An attribute of the component's class; None where a function is registered."""
    return getattr(_factory(component), name, None)


_CHECKS: Final[tuple[Callable[[Parts], Iterable[Problem]], ...]] = (
    _name,
    _kinds,
    _mixes,
    _reads,
    _regularized,
    _cost,
    _explorer,
    _learned,
    _stages,
    _inherited,
    _benchmark,
    _penalty,
    _held_out,
    _health,
    _baseline,
)
