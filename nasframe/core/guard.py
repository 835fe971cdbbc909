"""Guards: who looks at a search after each epoch, and may end it or lead its alphas back."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any


class Guard(ABC):
    """Looks at a model that is trained, once an epoch; its state is saved with that of the training."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether it ended the training."""

    @abstractmethod
    def measure(self, epoch: int, metrics: Mapping[str, float], *, is_last: bool) -> Mapping[str, float]:
        """Figures by tag after an epoch.

        Nothing changes by it: no parameter, buffer or random state, nor what `state_dict` returns. It may be
        interrupted, and is called again then.

        Args:
            epoch: Counted from 1.
            metrics: What the training and the validation of the epoch told, such as ``valid_loss``.
            is_last: Whether the training ends with it.
        """

    def costly(self, epoch: int, *, is_last: bool) -> frozenset[str]:
        """Which figures of an epoch take time of their own; epochs of the same take about the same time."""
        return frozenset()

    @abstractmethod
    def judge(self, epoch: int, copy_upper: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Take an epoch into account that was measured right before.

        Args:
            epoch: As `measure` was told.
            copy_upper: Copies the upper-level parameters and the algorithm's state.

        Returns:
            Such a copy, of an earlier epoch, that is put back; None leaves what is there.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What it knows of the epochs so far: tensors and plain data."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
