"""Which class is answered for which."""

from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
import torch

from nasframe.core import HeatMap, Model, Objective
from nasframe.core.ranks import gathered
from nasframe.types import Metrics

MOST_CLASSES: Final = 256  # more than that nobody reads in a picture


@final
class Counted(Objective):
    """An objective that counts answers of a model in evaluation mode: a confusion matrix.

    Args:
        objective: Loss and metrics.
        model: Whose answers are counted.
        class_names: Names of the classes.
    """

    def __init__(self, objective: Objective, model: Model, class_names: Sequence[str]) -> None:
        self._objective, self._model, self._names = objective, model, tuple(class_names)
        self._counts: torch.Tensor | None = None

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return self._objective.loss(outputs, targets)

    def penalty(self, loss: torch.Tensor) -> torch.Tensor | None:
        return self._objective.penalty(loss)

    def probabilities(self, outputs: Any) -> torch.Tensor | None:
        return self._objective.probabilities(outputs)

    def metrics(self, outputs: Any, targets: Any) -> Metrics:
        if not self._model.training:
            self._count(outputs, targets)
        return self._objective.metrics(outputs, targets)

    @torch.no_grad()
    def _count(self, outputs: Any, targets: Any) -> None:
        found, size = self._objective.probabilities(outputs), len(self._names)
        if found is None or found.shape[1] != size or not isinstance(targets, torch.Tensor):
            return
        right = targets.argmax(1) if targets.is_floating_point() else targets
        counts = torch.bincount(right * size + found.argmax(1), minlength=size**2).view(size, size)
        self._counts = counts if self._counts is None else self._counts + counts

    def confusion(self, of: str) -> HeatMap | None:
        """How the examples since the last call were answered; None if there was none to count.

        Of several ranks all must call it.

        Args:
            of: What the examples are.
        """
        parts = [
            each
            for each in gathered(None if self._counts is None else self._counts.cpu())
            if each is not None
        ]
        self._counts = None
        if not parts:
            return None
        counts = torch.stack(parts).sum(0).numpy()
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        right = int(counts.trace())
        title = f"{of}: {right:,} of {int(counts.sum()):,} right; a row is a class, a column an answer"
        return HeatMap(title, self._names, self._names, shares, tuple(tuple(map(str, row)) for row in counts))


def counted(objective: Objective, model: Model, class_names: Sequence[str]) -> Objective:
    """An objective that counts answers, where there are classes, and not too many."""
    return Counted(objective, model, class_names) if 0 < len(class_names) <= MOST_CLASSES else objective


def confusion_of(objective: Objective, of: str) -> dict[str, HeatMap]:
    """The confusion matrix of what a `Counted` objective has seen, by its tag."""
    found = objective.confusion(of) if isinstance(objective, Counted) else None
    return {} if found is None else {f"confusion/{of}": found}
