"""What examples of each class are taken for."""

from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
import torch

from nasframe.core import AroundObjective, HeatMap, Model, Objective
from nasframe.core.ranks import gathered
from nasframe.types import Metrics

MOST_CLASSES: Final = 256  # more than that nobody reads in a picture


@final
class Counted(AroundObjective):
    """An objective that counts what a model in evaluation mode takes examples of each class for.

    Args:
        objective: Loss and metrics.
        model: Whose answers are counted.
    """

    def __init__(self, objective: Objective, model: Model) -> None:
        super().__init__(objective)
        self._model = model
        self._counts_KK: torch.Tensor | None = None

    def metrics(self, outputs: Any, targets: Any) -> Metrics:
        if not self._model.training:
            self._count(outputs, targets)
        return super().metrics(outputs, targets)

    @torch.no_grad()
    def _count(self, outputs: Any, targets: Any) -> None:
        shares_BK = self.probabilities(outputs)
        if shares_BK is None or not isinstance(targets, torch.Tensor):
            return
        classes_B = targets.argmax(1) if targets.is_floating_point() else targets
        size = shares_BK.shape[1]
        pairs_B = (classes_B * size + shares_BK.argmax(1)).cpu()
        counts_KK = torch.bincount(pairs_B, minlength=size**2).view(size, size)
        self._counts_KK = counts_KK if self._counts_KK is None else self._counts_KK + counts_KK

    def take(self) -> torch.Tensor | None:
        """Counts since the last call, by class and what it was taken for, K K; None where are no classes.

        Of several ranks all must call it; they get the same.
        """
        parts = [each for each in gathered(self._counts_KK) if each is not None]
        self._counts_KK = None
        return torch.stack(parts).sum(0) if parts else None


def plain_confusion(counts_KK: torch.Tensor | None, names: Sequence[str]) -> dict[str, Any]:
    """What the classes were taken for as plain data; empty where there are no classes, or very many.

    Args:
        counts_KK: By class and what it was taken for.
        names: Of the classes; empty where targets are none.
    """
    if counts_KK is None or len(names) != len(counts_KK) or len(names) > MOST_CLASSES:
        return {}
    return {"classes": list(names), "counts": counts_KK.tolist()}


def drawn_confusion(counts_KK: torch.Tensor | None, names: Sequence[str], split: str) -> dict[str, HeatMap]:
    """What the classes of a split were taken for as a picture by its tag; none where there are no classes.

    Args:
        counts_KK: By class and what it was taken for.
        names: Of the classes; empty where targets are none.
        split: Whose examples were counted.
    """
    if counts_KK is None or not plain_confusion(counts_KK, names):
        return {}
    counts = counts_KK.numpy()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    title = f"{split}: {counts.trace():,} of {counts.sum():,} right; a row is a class, a column an answer"
    texts = tuple(tuple(map(str, row)) for row in counts.tolist())
    return {f"confusion/{split}": HeatMap(title, names, names, shares, texts)}
