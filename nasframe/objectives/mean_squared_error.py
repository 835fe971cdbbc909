"""Regression."""

from typing import Any, final

import torch
from torch.nn import functional

from nasframe.core import Objective, objectives
from nasframe.errors import UnsupportedError
from nasframe.objectives._output import main_and_auxiliary
from nasframe.types import Metrics, NonNegativeFloat


@objectives.register("mean_squared_error")
@final
class MeanSquaredError(Objective):
    """Mean squared error, plus that of auxiliary outputs where a network returns them.

    Outputs are predictions of the shape of the targets (B, or B K), a tuple or list of these with
    the main one first, or a dict with ``prediction`` and perhaps ``auxiliary``. The metric is
    ``mean_absolute_error``, in the unit of the targets as they are trained with.

    Args:
        auxiliary_weight: Factor of each auxiliary loss.
    """

    def __init__(self, *, auxiliary_weight: NonNegativeFloat = 0.4) -> None:
        self._auxiliary_weight = auxiliary_weight

    def loss(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        prediction, auxiliary = self._parts(outputs, targets)
        loss = functional.mse_loss(prediction, targets.to(prediction.dtype))
        for each in auxiliary:
            loss = loss + self._auxiliary_weight * functional.mse_loss(each, targets.to(each.dtype))
        return loss

    @torch.no_grad()
    def numbers(self, outputs: Any) -> torch.Tensor:
        prediction, _ = main_and_auxiliary(outputs, None, "prediction")
        return prediction.reshape(len(prediction), -1)

    def constant_outputs(self, targets: Any) -> torch.Tensor | None:
        """The mean of the targets."""
        if not isinstance(targets, torch.Tensor) or not len(targets):
            return None
        return targets.to(torch.get_default_dtype()).mean(0).expand_as(targets)

    @torch.no_grad()
    def metrics(self, outputs: Any, targets: torch.Tensor) -> Metrics:
        prediction, _ = self._parts(outputs, targets)
        return {"mean_absolute_error": functional.l1_loss(prediction, targets.to(prediction.dtype))}

    @staticmethod
    def _parts(outputs: Any, targets: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        prediction, auxiliary = main_and_auxiliary(outputs, targets, "prediction")
        for each in (prediction, *auxiliary):
            if each.shape != targets.shape:
                raise UnsupportedError(
                    f"predictions must have the shape of the targets {tuple(targets.shape)}, "
                    f"got {tuple(each.shape)}; give the network as many outputs as there are targets"
                )
        return prediction, auxiliary
