"""SPOS: a supernet whose paths are trained one at a time, all alike."""

from typing import Any, ClassVar, final

import torch

from nasframe.core import Algorithm, Batch, MixedOp, Model, Objective, SampledOp, WeightUpdate, algorithms
from nasframe.types import Metrics


@algorithms.register("single_path")
@final
class SinglePath(Algorithm):
    """Trains one architecture a step, drawn uniformly (SPOS, Guo et al. 2020, arXiv 1904.00420).

    There is nothing to learn about the architecture: an explorer then looks for the best one by the score
    ``supernet``. Alphas of the mixed op, where it has any, are neither read nor trained.

    The architecture is drawn as the space defines it, so that what is trained is what is scored: of a node
    that keeps two of its inputs two run, the others are left out by their ``none``.
    """

    mixes: ClassVar[type[MixedOp]] = SampledOp
    uses_valid: ClassVar[bool] = False
    knows_ranks: ClassVar[bool] = True
    learns_alphas: ClassVar[bool] = False

    def __init__(self, model: Model, objective: Objective) -> None:
        model.check_takes("single_path")
        self._model, self._architectures = model, model.architectures()
        # the seed comes from the global random state, and so from the run's seed
        self._generator = torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        self._model.take(self._architectures.sample(self._generator))
        return update_weights(train)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._generator.set_state(state["generator"].cpu())
