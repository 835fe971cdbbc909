"""Batches that are computed in pieces where memory is short."""

import warnings
from dataclasses import dataclass
from typing import Literal, final

from nasframe.core import Job
from nasframe.core.memory import give_back_memory
from nasframe.core.ranks import num_ranks
from nasframe.errors import FaultWarning, OutOfMemoryError
from nasframe.trainers._state import State


@final
@dataclass(frozen=True)
class Pieces:
    """What to do where the memory of a device is short.

    Attributes:
        batch_size: As the recipe has it.
        on_out_of_memory: Whether steps are made in more pieces, or end the run.
    """

    batch_size: int
    on_out_of_memory: Literal["split", "stop"]

    def check(self, job: Job, state: State, batch_size: int, error: Exception) -> None:
        """Refuse to make a step in smaller pieces where that cannot be, or shall not.

        Raises:
            OutOfMemoryError: Says which setting to change, and to what.
        """
        pieces, ranks = state.chunks, num_ranks()
        what = (
            f"{job.stage}: step {state.step + 1}: a batch of {batch_size} must fit the memory of "
            f"{job.device}, but does not ({first_line(error)})"
        )
        if pieces is None:
            name = type(state.algorithm).__name__
            advice = f"{name} takes batches whole: set {self.smaller(job.stage)}"
        elif ranks > 1:
            advice = (
                f"the other ranks wait in the middle of the step, which cannot be split: set "
                f"{job.stage}.trainer.chunks, or {self.smaller(job.stage)}"
            )
        elif self.on_out_of_memory == "stop":
            advice = f"set {job.stage}.trainer.on_out_of_memory=split, or {self.smaller(job.stage)}"
        elif min(pieces) >= _most(batch_size):
            advice = (
                f"nor do {min(pieces)} pieces of it; choose fewer channels, cells or layers in the space, or "
                f"set {job.stage}.recomputed=true"
            )
        else:
            return
        raise OutOfMemoryError(f"{what}; {advice}") from error

    def split(self, job: Job, state: State, batch_size: int, reason: str) -> None:
        """Undo a step, and make it and all later ones in twice as many pieces."""
        state.undo.undo()
        give_back_memory(job.device)
        state.chunks = [min(2 * count, _most(batch_size)) for count in state.chunks or ()]
        sentence = (
            f"{job.stage}: from step {state.step + 1} on, batches were computed in {state.update.chunks} "
            f"pieces, because the memory of {job.device} was short; batch norms saw a piece at a time"
        )
        warnings.warn(f"{sentence} ({reason})", FaultWarning, stacklevel=2)
        job.note(sentence)

    def smaller(self, stage: str) -> str:
        """Settings that take less memory."""
        half = f"{stage}.trainer.batch_size={self.batch_size // 2 or 1} (now {self.batch_size})"
        return f"{half}, or {stage}.recomputed=true"


def _most(batch_size: int) -> int:
    """How many pieces a batch has at most: of two examples, for batch norms need more than one value."""
    return max(1, batch_size // 2)


def first_line(error: BaseException) -> str:
    """What an error says before its details."""
    return str(error).partition("\n")[0] or type(error).__name__
