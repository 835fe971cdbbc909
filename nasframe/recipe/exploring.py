"""A search by an explorer: what it asks for is scored, told and written down."""

import copy
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import torch

from nasframe.core import (
    Explorer,
    Genotype,
    Interrupts,
    Prices,
    Score,
    seed_for,
)
from nasframe.core.json_text import read_json
from nasframe.core.storage import append_whole, reason_of, write_whole
from nasframe.errors import FaultWarning, FormatError, TrainingError, UnsupportedError
from nasframe.registry import Component, registries

_MOST_REFUSED: Final = 10_000

Key: TypeAlias = tuple[Genotype, float]
"""An architecture and the share of the whole budget that it is scored with."""
Ask: TypeAlias = Callable[[Explorer], Genotype]
"""What an explorer asks for next, of what is allowed."""


def trains_supernet(score: Component[Score] | None) -> bool:
    """Whether a supernet is trained: to be derived from, or because the score needs it."""
    return score is None or bool(declared(score, "trains_supernet"))


def declared(component: Component[Any], name: str) -> Any:
    """What the class of a component declares; that of a function is what its interface says."""
    registry = registries[component.registry]
    return getattr(registry[component.name], name, getattr(registry.interface, name))


def budgets_of(explorer: Explorer, count: int) -> list[float]:
    """The budgets of an explorer's next scores, as far as what they are told does not change them."""
    budgets, explorer = [], copy.deepcopy(explorer)
    for _ in range(count):
        genotype = explorer.ask()
        budgets.append(explorer.budget)
        explorer.tell(genotype, 0.0)
    return budgets


@final
@dataclass(frozen=True)
class Scored:
    """An architecture that was scored.

    Attributes:
        genotype: The architecture.
        budget: Share of the whole budget that it was scored with.
        score: None where it has none, because its numbers were not finite.
    """

    genotype: Genotype
    budget: float
    score: float | None

    @property
    def value(self) -> float:
        """What the explorer is told."""
        return -math.inf if self.score is None else self.score

    def beats(self, other: "Scored | None") -> bool:
        """Whether it is the better result: by a larger budget, or by the score with an equal one."""
        if self.score is None or other is None:
            return self.score is not None
        return (self.budget, self.value) > (other.budget, other.value)

    def to_line(self) -> str:
        """What `of_line` reads; numbers come back bit by bit."""
        choices = {name: list(kept) for name, kept in self.genotype.choices.items()}
        return json.dumps({"genotype": choices, "score": self.score, "budget": self.budget}) + "\n"

    @classmethod
    def of_line(cls, line: bytes, where: str) -> "Scored":
        """Read what `to_line` wrote.

        Raises:
            FormatError: It is anything else.
        """
        data: Any = read_json(line, where)
        entries: dict[str, Any] = data if isinstance(data, dict) else {}
        budget, score = _number(entries.get("budget")), _number(entries.get("score"))
        if budget is None or not 0 < budget <= 1 or (score is None and entries.get("score", 0) is not None):
            raise FormatError(
                f"{where}: must be an object with `genotype`, `score` (a number or null) and `budget` (above "
                f"0 to 1), got {line!r:.80}"
            )
        return cls(Genotype(entries.get("genotype", {})), budget, score)


def _number(value: Any) -> float | None:
    is_number = type(value) in (int, float) and abs(value) <= sys.float_info.max
    return float(value) if is_number else None


@final
@dataclass(frozen=True)
class Outcome:
    """What a score said of an architecture.

    Attributes:
        score: None where it has none.
        reason: Why it has none.
    """

    score: float | None
    reason: str = ""

    def tell(self) -> None:
        """Warn where there is no score, with the reason."""
        if self.reason:
            message = f"search.score: an architecture has no score and counts as the worst: {self.reason}"
            warnings.warn(message, FaultWarning, stacklevel=2)


def outcome_of(score: Score, genotype: Genotype, budget: float, seed: int) -> Outcome:
    """Score an architecture, whatever was scored before."""
    torch.manual_seed(seed_for(seed, "score"))
    try:
        value = float(score.of(genotype, budget))
    except TrainingError as error:
        return Outcome(None, str(error))
    return Outcome(value if math.isfinite(value) else None)


@final
class ScoreLog:
    """``scores.jsonl``: one line for each architecture that was scored, in order.

    Lines that cannot be written are told by a `FaultWarning`, and written with a later one; after a kill
    before that they are scored again.

    Args:
        path: The file; a line that was torn off is dropped.

    Attributes:
        before: What was scored before the search was interrupted.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._waiting = path, ""
        *lines, torn = (path.read_bytes() if path.exists() else b"").split(b"\n")
        self.before = [Scored.of_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
        if torn:
            write_whole(path, "".join(scored.to_line() for scored in self.before))

    def append(self, scored: Scored) -> None:
        """Write a line, all or nothing."""
        self._waiting += scored.to_line()
        try:
            append_whole(self._path, self._waiting.encode())
        except OSError as error:
            message = f"{self._path}: must be writable, but {reason_of(error)}; lines wait until it is"
            warnings.warn(message, FaultWarning, stacklevel=2)
        else:
            self._waiting = ""


@final
@dataclass(frozen=True)
class CostLimit:
    """What an architecture may cost.

    Attributes:
        prices: Of each architecture.
        max_cost: In their unit.
    """

    prices: Prices
    max_cost: float

    def allows(self, genotype: Genotype) -> bool:
        """Whether an architecture costs no more."""
        return self.prices.of(genotype) <= self.max_cost

    def figures(self, genotype: Genotype) -> dict[str, float]:
        """The cost of an architecture, and the limit."""
        return {"derived_cost": self.prices.of(genotype), "max_cost": self.max_cost}


Answer: TypeAlias = Callable[[Explorer, Genotype, Ask, int], Outcome]
"""See `nasframe.recipe.ahead.Ahead.outcome`."""


@final
@dataclass
class Exploration:
    """The loop of an explorer.

    It goes on where it was interrupted: what was scored is asked for and told again.

    Attributes:
        explorer: Asks.
        score: Answers; made when there is something to score.
        log: Where answers are written down.
        evaluations: How many there are in all.
        seed: The run's seed.
        interrupts: A line is whole.
        limit: What an architecture may cost to be scored; None for any amount.
        ahead: Answers in place of `score`, where scores are worked out side by side (see `Ahead`).
    """

    explorer: Explorer
    score: Callable[[], Score]
    log: ScoreLog
    evaluations: int
    seed: int
    interrupts: Interrupts
    limit: "CostLimit | None" = None
    ahead: Answer | None = None
    _made: Score | None = None

    def run(self) -> Iterator[tuple[Scored, Scored | None]]:
        """Score one architecture after another.

        An architecture that was scored with a budget keeps that score.

        Yields:
            What was scored, and the best so far; None where none has a score.

        Raises:
            FormatError: What was scored before is not what the explorer asks for.
            UnsupportedError: No architecture is allowed.
        """
        known: dict[Key, Scored] = {}
        best: Scored | None = None
        for index in range(self.evaluations):
            genotype = self._asked(self.explorer)
            key = genotype, self.explorer.budget
            if index < len(self.log.before):
                scored = self._again(index, *key)
            else:
                scored = known[key] if key in known else self._scored(genotype, index)
                with self.interrupts.deferred():
                    self.log.append(scored)
            known[key] = scored
            self.explorer.tell(genotype, scored.value)
            best = scored if scored.beats(best) else best
            yield scored, best

    def _asked(self, explorer: Explorer) -> Genotype:
        for _ in range(_MOST_REFUSED):
            genotype = explorer.ask()
            if self.limit is None or self.limit.allows(genotype):
                return genotype
        raise UnsupportedError(
            f"search.explorer: must find an architecture within the budget, but none of {_MOST_REFUSED:,} "
            f"that {type(explorer).__name__} asked for is; allow more, or give the space cheaper ones"
        )

    def _again(self, index: int, genotype: Genotype, budget: float) -> Scored:
        scored = self.log.before[index]
        if (scored.genotype, scored.budget) != (genotype, budget):
            raise FormatError(
                f"scores.jsonl:{index + 1}: must be the score of what the explorer asks for here, but is of "
                "another architecture or budget; start a new run"
            )
        return scored

    def _scored(self, genotype: Genotype, index: int) -> Scored:
        budget = self.explorer.budget
        if self.ahead is not None:
            outcome = self.ahead(self.explorer, genotype, self._asked, self.evaluations - index)
        else:
            if self._made is None:
                self._made = self.score()
            outcome = outcome_of(self._made, genotype, budget, self.seed)
            outcome.tell()
        return Scored(genotype, budget, outcome.score)
