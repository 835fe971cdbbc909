"""Scores that are worked out side by side, before the explorer asks for them."""

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias, final

from nasframe.core import Ended, Explorer, Genotype, Space, Work, Workers
from nasframe.errors import StorageError, UnsupportedError
from nasframe.recipe.exploring import Ask, Key, Outcome, Scored, ScoreLog

ScoreCall: TypeAlias = Callable[[Genotype, float], Outcome]
"""Scores an architecture with a budget; it can be sent to another process."""


@final
class Ahead:
    """Keeps all places busy, whatever the explorer waits for.

    What it will ask for is guessed by a copy of it, which is told that what has no score yet is the worst. A
    guess that was right saves time, one that was wrong costs some; the search finds what it finds without.

    Args:
        workers: Where scores are worked out.
        log: ``ahead.jsonl``: one line for each score in the order in which they were worked out.
        score: Works one out.
        space: Where the explorer looks; its copies share it.
    """

    def __init__(self, workers: Workers, log: ScoreLog, score: ScoreCall, space: Space) -> None:
        self._workers, self._log, self._score, self._space = workers, log, score, space
        self._known = {(each.genotype, each.budget): each for each in log.before}
        self._begun: dict[str, Key] = {}
        self._coming: Callable[[], Iterator[Key]] = lambda: iter(())
        self._ended: Iterator[Ended] = iter(())

    def outcome(self, explorer: Explorer, asked: Genotype, ask: Ask, left: int) -> Outcome:
        """The score of what the explorer asked for last.

        Args:
            explorer: It was not told yet.
            asked: What it asked for.
            ask: Asks a copy of it.
            left: How many scores the search still needs, this one among them.

        Raises:
            StorageError: Processes that should work it out were killed too often.
            UnsupportedError: The explorer cannot be copied.
        """
        key = asked, explorer.budget
        self._coming = partial(self._guesses, explorer, asked, ask, left)
        while key not in self._known:
            ended = next(self._ended, None)
            if ended is None:
                self._ended = self._workers.run(self._wanted())
            else:
                self._take(ended)
        return Outcome(self._known[key].score)

    def _take(self, ended: Ended) -> None:
        if ended.lost:
            raise StorageError(f"search.score: {ended.lost}; go on with fewer --jobs")
        key, outcome = self._begun.pop(ended.work.name), ended.value
        outcome.tell()
        self._known[key] = Scored(*key, outcome.score)
        self._log.append(self._known[key])

    def _wanted(self) -> Iterator[Work | None]:
        """What is asked for next, as far as it can be told now."""
        while True:
            begun = set(self._begun.values())
            is_full = len(begun) >= self._workers.jobs
            known = self._known.keys() | begun
            key = None if is_full else next((each for each in self._coming() if each not in known), None)
            yield None if key is None else self._work(key)

    def _work(self, key: Key) -> Work:
        genotype, budget = key
        name = hashlib.sha256(f"{genotype.to_json()} {budget!r}".encode()).hexdigest()[:16]
        self._begun[name] = key
        return Work(name, partial(self._score, genotype, budget))

    def _guesses(self, explorer: Explorer, asked: Genotype, ask: Ask, left: int) -> Iterator[Key]:
        key = asked, explorer.budget
        yield key
        twin = self._copied(explorer)
        for _ in range(left - 1):
            known = self._known.get(key)
            twin.tell(key[0], -math.inf if known is None else known.value)
            try:
                key = ask(twin), twin.budget
            except UnsupportedError:  # told when the explorer itself comes to it
                return
            yield key

    def _copied(self, explorer: Explorer) -> Explorer:
        try:
            return copy.deepcopy(explorer, {id(self._space): self._space})
        except Exception as error:  # whatever a third party's explorer holds
            raise UnsupportedError(
                f"search.explorer: {type(explorer).__name__} must be one that can be copied where scores are "
                f"worked out side by side, but: {error}; search without --jobs and --on"
            ) from error
