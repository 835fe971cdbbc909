"""Search algorithms: each owns one step."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import nn

from nasframe.core.batch import Batch
from nasframe.core.mixed_op import MixedOp
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.weight_update import WeightUpdate
from nasframe.registry import Registry
from nasframe.types import Metrics


@runtime_checkable
class Stateful(Protocol):
    """What can be saved and restored, such as an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Algorithm(ABC):
    """One step of a search; returns metrics, and never logs, picks a device or reads a file.

    Attributes:
        needs: The kinds of parameter that the model must have, by name, or levels of them
            (``upper``), which any kind of that level serves.
        mixes: What the mixed op of each choice must be, such as a `SampledOp`.
        follows_penalty: Whether its steps also descend the objective's penalty (see `with_penalty`); a
            recipe with a cost is refused otherwise.
        uses_valid: Whether it learns from the held-out examples; otherwise it gets no batches of
            them, and `valid` in a step is the training batch.
        learns_alphas: Whether it learns what the architecture is read off; otherwise a recipe must have an
            explorer.
        knows_ranks: Whether it may run on several ranks: gradients that it takes itself, and what it learns
            from losses, pass through `averaged`, as those of `update_weights` do; refused there otherwise.
        takes_differences: Whether its steps subtract gradients at nearby weights, which in bfloat16 round
            to the same: forward passes are then in full precision.
        chunks: Pieces that its own passes split a batch into. A trainer sets more of them when memory runs
            out; None where its passes take batches whole.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    mixes: ClassVar[type[MixedOp]] = MixedOp
    follows_penalty: ClassVar[bool] = False
    uses_valid: ClassVar[bool] = True
    learns_alphas: ClassVar[bool] = True
    knows_ranks: ClassVar[bool] = False
    takes_differences: bool = False
    chunks: int | None = None

    @abstractmethod
    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        """Search on one batch of each split; weights change through `update_weights` alone."""

    def check_update(self, update_weights: WeightUpdate) -> None:
        """Refuse an update of the weights that no step could work with; called before the first step.

        Raises:
            UnsupportedError: Says what to choose instead.
        """

    def phases(self) -> frozenset[int]:
        """The epochs from which a step does other work than before, such as that after a warm-up.

        Whoever measures steps measures those of each phase; the first epoch begins one in any case.
        """
        return frozenset()

    def begin_epoch(self, epoch: int, num_epochs: int) -> None:
        """Called before the first step of each epoch, and after a resume; epochs count from 0."""

    def state_dict(self) -> dict[str, Any]:
        """The state of every stateful attribute (an optimizer, say) that is not a module."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Stateful]:
        return {
            name: part
            for name, part in vars(self).items()
            if isinstance(part, Stateful) and not isinstance(part, (nn.Module, Model, Objective))
        }


algorithms: Registry[Algorithm] = Registry("algorithms", Algorithm, given=("model", "objective"))
