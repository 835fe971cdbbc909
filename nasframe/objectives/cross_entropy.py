"""Classification."""

from typing import Any, final

import torch
from torch.nn import functional

from nasframe.core import Objective, objectives
from nasframe.objectives._output import main_and_auxiliary
from nasframe.types import Metrics, NonNegativeFloat, ProperFraction


@objectives.register("cross_entropy")
@final
class CrossEntropy(Objective):
    """Cross-entropy of the logits, plus that of auxiliary logits where a network returns them.

    Outputs are logits B K, a tuple or list of (logits, auxiliary logits …), or a dict with
    ``logits`` and perhaps ``auxiliary``; targets are class indices B, or class probabilities B K.
    Metrics, from 0 to 1: ``accuracy``, and ``top5_accuracy`` where there are more than 5 classes.

    Args:
        label_smoothing: Share of each target that is spread evenly over all classes.
        auxiliary_weight: Factor of each auxiliary loss.
    """

    def __init__(
        self, *, label_smoothing: ProperFraction = 0.0, auxiliary_weight: NonNegativeFloat = 0.4
    ) -> None:
        self._label_smoothing, self._auxiliary_weight = label_smoothing, auxiliary_weight

    def loss(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
        logits, auxiliary = main_and_auxiliary(outputs, targets, "logits")
        loss = self._cross_entropy(logits, targets)
        for each in auxiliary:
            loss = loss + self._auxiliary_weight * self._cross_entropy(each, targets)
        return loss

    def _cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        shares = targets.to(logits.dtype) if targets.is_floating_point() else targets
        return functional.cross_entropy(logits, shares, label_smoothing=self._label_smoothing)

    @torch.no_grad()
    def probabilities(self, outputs: Any) -> torch.Tensor:
        logits, _ = main_and_auxiliary(outputs, None, "logits")
        return logits.softmax(1)

    def constant_outputs(self, targets: Any) -> torch.Tensor | None:
        """The logits of how frequent the classes are."""
        if not isinstance(targets, torch.Tensor) or not len(targets):
            return None
        if targets.is_floating_point():
            shares_K = targets.mean(0)
        elif targets.dim() == 1 and targets.min() >= 0:
            shares_K = targets.bincount() / len(targets)
        else:
            return None
        return shares_K.clamp(min=torch.finfo(shares_K.dtype).tiny).log().expand(len(targets), -1)

    @torch.no_grad()
    def metrics(self, outputs: Any, targets: torch.Tensor) -> Metrics:
        logits, _ = main_and_auxiliary(outputs, targets, "logits")
        classes = targets.argmax(1) if targets.is_floating_point() else targets
        metrics = {"accuracy": (logits.argmax(1) == classes).float().mean()}
        if logits.shape[1] > 5:
            among = logits.topk(5, dim=1).indices == classes.unsqueeze(1)
            metrics["top5_accuracy"] = among.any(1).float().mean()
        return metrics
