"""Perturbations: other mixtures that weights are trained at, so that they suit the neighbours too."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch

from nasframe.core.algorithm import Algorithm
from nasframe.core.around import Around
from nasframe.core.batch import Batch
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.random_state import kept_random_state
from nasframe.core.ranks import mean_loss, with_mean_gradients
from nasframe.core.swapped import unmoved
from nasframe.core.weight_update import WeightUpdate
from nasframe.registry import Registry
from nasframe.types import Metrics

Mixtures = Mapping[str, torch.Tensor]
"""Shares of the candidates, of shape K by choice id."""


class Perturbation(ABC):
    """Moves the mixtures that a step of the weights is made at; steps of the alphas see them as they are."""

    @abstractmethod
    def __call__(
        self, mixtures: Mixtures, loss: Callable[[Mixtures], torch.Tensor], progress: float
    ) -> Mixtures:
        """Mixtures near those of the pass; random numbers come from the global random state.

        Args:
            mixtures: Those of the pass.
            loss: Of the step's batch at any mixtures, with the weights as they are; differentiable in the
                mixtures, and without a trace in buffers or random state. Of all ranks, gradients too.
            progress: The share of the search's epochs that are done, 0 to 1.
        """


perturbations: Registry[Perturbation] = Registry("perturbations", Perturbation)


def projected(moved_K: torch.Tensor, shares_K: torch.Tensor) -> torch.Tensor:
    """Moved shares, negative ones 0, scaled to the sum of `shares_K`; the largest alone if none is left."""
    kept_K = moved_K.clamp(min=0)
    largest_K = torch.zeros_like(moved_K).scatter(0, moved_K.argmax(0, keepdim=True), 1.0)
    kept_K = torch.where(kept_K.sum() > 0, kept_K, largest_K)
    return kept_K * (shares_K.sum() / kept_K.sum())


@final
class Perturbed(Around):
    """An algorithm whose steps of the weights are made at perturbed mixtures.

    Args:
        algorithm: Owns the step.
        model: Its mixed ops are weighted sums.
        objective: Whose loss a perturbation may look at.
        perturbation: Moves the mixtures.
    """

    def __init__(
        self, algorithm: Algorithm, model: Model, objective: Objective, perturbation: Perturbation
    ) -> None:
        super().__init__(algorithm)
        with model.mixed_by({}):  # refuses other mixed ops
            pass
        self._model, self._objective, self._perturbation = model, objective, perturbation

    def check_update(self, update_weights: WeightUpdate) -> None:
        self._algorithm.check_update(update_weights.inside(self._perturbed))

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        return self._algorithm.step(train, valid, update_weights.inside(self._perturbed))

    @contextmanager
    def _perturbed(self, batch: Batch) -> Iterator[None]:
        """The model at other mixtures, for one batch."""
        self._model.draw_noise()
        mixtures = self._model.mixtures()

        def loss(mixtures: Mixtures) -> torch.Tensor:
            device = next(self._model.parameters()).device
            shares = dict(zip(mixtures, with_mean_gradients(list(mixtures.values())), strict=True))
            with kept_random_state(device), unmoved(self._model), self._model.mixed_by(shares):
                return mean_loss(self._objective.loss(self._model(batch.inputs), batch.targets))

        moved = self._perturbation(mixtures, loss, self._model.progress)
        with self._model.mixed_by({name: shares_K.detach() for name, shares_K in moved.items()}):
            yield
