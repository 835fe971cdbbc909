"""Steps that are made as a whole, or not at all, whatever goes wrong in them."""

import warnings
from collections.abc import Callable
from typing import Literal, final

import torch

from nasframe.core import Batch, Job
from nasframe.core.memory import is_out_of_memory
from nasframe.errors import FaultWarning, NonFiniteError, RankError
from nasframe.trainers._pieces import Pieces, first_line
from nasframe.trainers._state import State
from nasframe.types import Metrics


@final
class WholeSteps:
    """Makes the steps of a stage; one that goes wrong is undone before anything else happens.

    Args:
        job: What is trained.
        state: Is changed by each step.
        save: Writes the state into a checkpoint, and says whether it could.
        pieces: What to do where memory is short.
        on_non_finite: What to do where a loss, a gradient or an alpha is not finite.
        is_graphed: Whether passes are CUDA graphs, which may overwrite what the step before left.
    """

    def __init__(
        self,
        job: Job,
        state: State,
        save: Callable[[], bool],
        pieces: Pieces,
        on_non_finite: Literal["stop", "skip", "rollback"],
        *,
        is_graphed: bool,
    ) -> None:
        self._job, self._state, self._save = job, state, save
        self._pieces, self._on_non_finite = pieces, on_non_finite
        self._is_graphed = is_graphed

    def __call__(self, train: Batch, valid: Batch) -> Metrics:
        """One step; without figures where it was left out."""
        state = self._state
        if self._is_graphed:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        state.undo.keep()
        while True:
            try:
                return state.finite_step(train, valid)
            except NonFiniteError as error:
                self._leave_out(error)
                return {}
            except RankError:
                state.undo.undo()
                self._save()  # so that a rank that is gone costs this step alone
                raise
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._pieces.check(self._job, state, len(train), error)
                reason = first_line(error)
            self._pieces.split(self._job, state, len(train), reason)
            self._save()  # so that a resumed run splits from this step on, whatever memory it has

    def _leave_out(self, error: NonFiniteError) -> None:
        """Go on after a step with a state from before it; the step's place is kept."""
        job, state = self._job, self._state
        examples = state.train.examples(state.epoch, state.so_far.steps)
        what = (
            f"{job.stage}: step {state.step + 1}: loss, gradients and alphas must be finite, but not: "
            f"{error}; training examples {', '.join(map(str, examples))}"
        )
        state.undo.undo()
        saved = job.checkpoints.latest() if self._on_non_finite == "rollback" else None
        if self._on_non_finite == "stop":
            kept = "the checkpoint of the step before" if self._save() else "the newest checkpoint"
            raise NonFiniteError(
                f"{what}; {kept} has the state without it; lower the learning rate, clip gradients "
                "(max_grad_norm), or set on_non_finite"
            ) from error
        gone = "its step is left out" if saved is None else f"back to step {saved['step']}"
        warnings.warn(f"{what}; {gone}", FaultWarning, stacklevel=2)
        if saved is not None:
            place = state.step, state.epoch, state.so_far
            state.load_dict(saved)
            state.step, state.epoch, state.so_far = place
        state.so_far.skipped += 1
