"""When a training ends, and with which weights."""

from dataclasses import dataclass
from typing import Literal, final

from nasframe.core import Job
from nasframe.errors import StorageError
from nasframe.trainers._state import State


@final
@dataclass(frozen=True)
class Ending:
    """When a training ends, and with which weights.

    Attributes:
        epochs: After so many at the latest.
        patience: After so many without a lower validation loss; None to go on.
        ends_with: The weights of the last epoch, or of the one with the lowest validation loss.
    """

    epochs: int
    patience: int | None
    ends_with: Literal["last", "best"]

    @property
    def uses_valid(self) -> bool:
        """Whether held-out examples decide."""
        return self.patience is not None or self.ends_with == "best"

    def is_out_of_patience(self, state: State) -> bool:
        """Whether the validation loss was not lower for too long."""
        return self.patience is not None and state.epoch - state.best_epoch >= self.patience

    def is_last(self, state: State, valid_loss: float | None) -> bool:
        """Whether the epoch whose steps are made is to be the last, unless the guard ends the stage before.

        Args:
            state: It is not counted there yet.
            valid_loss: Its own; None without held-out examples.
        """
        epoch = state.epoch + 1
        best = epoch if state.is_lowest(valid_loss) else state.best_epoch
        out_of_patience = self.patience is not None and epoch - best >= self.patience
        return epoch >= self.epochs or state.step >= state.num_steps or out_of_patience

    def is_reached(self, state: State) -> bool:
        """Whether no step is left to make."""
        if state.guard is not None and state.guard.has_ended:
            return True
        if self.is_out_of_patience(state):
            return True
        return state.epoch >= self.epochs or (state.step >= state.num_steps and not state.so_far.steps)

    def settle(self, job: Job, state: State) -> None:
        """Give the model the weights that the training ends with; they follow from the checkpoints.

        Raises:
            StorageError: Those of the best epoch could not be saved.
        """
        label = job.label or job.stage
        if self.is_out_of_patience(state) and state.step < state.num_steps:
            job.note(
                f"{label}: ended after {state.epoch} of {self.epochs} epochs, because the validation "
                f"loss was lowest after epoch {state.best_epoch}"
            )
        if self.ends_with == "best" and state.best_epoch < state.epoch:
            saved = job.checkpoints.best()
            if saved is None:
                raise StorageError(
                    f"{label}: there must be a checkpoint of epoch {state.best_epoch}, which was best, "
                    "but none could be written; make room, and resume with ends_with=last"
                )
            state.load_weights(saved)
            job.note(
                f"{label}: the network is that of epoch {saved['epoch']} of {state.epoch}, with the "
                "lowest validation loss"
            )
        if state.average is not None:
            state.average.take()
