"""Algorithms around an algorithm, and objectives around an objective."""

from abc import ABC
from typing import Any

import torch

from nasframe.core.algorithm import Algorithm
from nasframe.core.mixed_op import MixedOp
from nasframe.core.objective import Objective
from nasframe.core.weight_update import WeightUpdate
from nasframe.types import Metrics


class Around(Algorithm, ABC):
    """Is what the algorithm inside is, but for the step; its state is the algorithm's.

    Args:
        algorithm: The one inside.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return self._algorithm.needs

    @property
    def mixes(self) -> type[MixedOp]:  # type: ignore[override]
        return self._algorithm.mixes

    @property
    def follows_penalty(self) -> bool:  # type: ignore[override]
        return self._algorithm.follows_penalty

    @property
    def uses_valid(self) -> bool:  # type: ignore[override]
        return self._algorithm.uses_valid

    @property
    def knows_ranks(self) -> bool:  # type: ignore[override]
        return self._algorithm.knows_ranks

    @property
    def takes_differences(self) -> bool:  # type: ignore[override]
        return self._algorithm.takes_differences

    @property
    def chunks(self) -> int | None:
        return self._algorithm.chunks

    @chunks.setter
    def chunks(self, pieces: int | None) -> None:
        self._algorithm.chunks = pieces

    def check_update(self, update_weights: WeightUpdate) -> None:
        self._algorithm.check_update(update_weights)

    def phases(self) -> frozenset[int]:
        return self._algorithm.phases()

    def begin_epoch(self, epoch: int, num_epochs: int) -> None:
        self._algorithm.begin_epoch(epoch, num_epochs)


class AroundObjective(Objective, ABC):
    """Is what the objective inside is, but for what it defines itself.

    Args:
        objective: The one inside.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return self._objective.loss(outputs, targets)

    def metrics(self, outputs: Any, targets: Any) -> Metrics:
        return self._objective.metrics(outputs, targets)

    def penalty(self, loss: torch.Tensor) -> torch.Tensor | None:
        return self._objective.penalty(loss)

    def probabilities(self, outputs: Any) -> torch.Tensor | None:
        return self._objective.probabilities(outputs)

    def numbers(self, outputs: Any) -> torch.Tensor | None:
        return self._objective.numbers(outputs)

    def constant_outputs(self, targets: Any) -> Any:
        return self._objective.constant_outputs(targets)
