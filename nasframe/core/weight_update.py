"""The trainer's update of the weights, which an algorithm calls and may look through."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias, final

import torch
from torch import nn

from nasframe.core.batch import Batch
from nasframe.core.finite import non_finite, source_of_non_finite
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.ranks import averaged, gathered, num_ranks
from nasframe.core.synchronized import own_statistics, unsynchronized
from nasframe.errors import ComponentError, NonFiniteError
from nasframe.types import Metrics

Surroundings: TypeAlias = Callable[[Batch], AbstractContextManager[None]]
"""Makes a context for the passes of a batch, in which a model may be another one than it is."""


def _nothing(batch: Batch) -> AbstractContextManager[None]:
    return nullcontext()


def _as_it_is() -> None:
    """Nothing to prepare."""


@final
class WeightUpdate:
    """One step of the weight optimizer on a batch: zero_grad, backward, clip, step.

    Of several ranks each passes its share of the batch; gradients, metrics and what batch norms have seen are
    averaged before the step, which is then the same on all of them.

    Args:
        model: Its lower-level parameters are what `optimizer` holds.
        objective: Loss and metrics.
        optimizer: The real optimizer of the weights; never holds an upper-level parameter.
        max_grad_norm: Clip the norm of all weight gradients together to this; None for no clipping.
        chunks: Split the batch in so many pieces, one after the other, to save memory.

    Attributes:
        chunks: The pieces of the next steps; a trainer sets more of them when memory runs out.

    Raises:
        ComponentError: `optimizer` holds an upper-level parameter.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        *,
        max_grad_norm: float | None = None,
        chunks: int = 1,
    ) -> None:
        upper = {id(parameter): name for name, parameter in model.named_parameters_at("upper")}
        held = (id(parameter) for group in optimizer.param_groups for parameter in group["params"])
        if leaked := [upper[key] for key in held if key in upper]:
            raise ComponentError(
                f"weight optimizer: must hold lower-level parameters only, got {', '.join(leaked)}; "
                'make it from model.parameters_at("lower")'
            )
        self._model, self._objective = model, objective
        self._optimizer, self._max_grad_norm, self.chunks = optimizer, max_grad_norm, chunks
        self._surroundings: Surroundings = _nothing

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The real weight optimizer, to be read and never to be stepped."""
        return self._optimizer

    @property
    def max_grad_norm(self) -> float | None:
        """The norm that gradients are clipped to before the step."""
        return self._max_grad_norm

    @property
    def sees_model_as_it_is(self) -> bool:
        """Whether its passes are those of the model, so that one can look through its step."""
        return self._surroundings is _nothing

    def inside(self, surroundings: Surroundings) -> "WeightUpdate":
        """The same update, of the same optimizer, whose passes are made inside a context.

        Args:
            surroundings: Makes one for each piece of a batch that passes at once.
        """
        update = copy.copy(self)
        update._surroundings = surroundings
        return update

    def __call__(self, batch: Batch, passes: Sequence[Callable[[], object]] = (_as_it_is,)) -> Metrics:
        """Update the weights in place; only their gradients are computed, and dropped afterwards.

        Args:
            batch: What they learn from.
            passes: Each is called before a pass of the whole batch, such as to choose what runs; the
                gradients of all passes are added up.

        Returns:
            ``train_loss`` and each metric as ``train_<metric>``, from before the update; means over the
            passes.

        Raises:
            NonFiniteError: Loss or gradients are not finite; no weight was changed.
        """
        weights = [
            weight
            for group in self._optimizer.param_groups
            for weight in group["params"]
            if weight.requires_grad
        ]
        self._optimizer.zero_grad(set_to_none=True)
        totals: dict[str, float | torch.Tensor] = {}
        for prepare in passes:
            prepare()
            for piece in batch.chunk(self.chunks):
                share = len(piece) / len(batch)
                with self._surroundings(piece):
                    outputs = self._model(piece.inputs)
                    loss = self._objective.loss(outputs, piece.targets)
                    torch.autograd.backward(loss * share if share < 1 else loss, inputs=weights)
                metrics = {"loss": loss.detach(), **self._objective.metrics(outputs, piece.targets)}
                for name, value in metrics.items():
                    mean = share / len(passes) * value
                    totals[f"train_{name}"] = totals.get(f"train_{name}", 0.0) + mean
        own_loss, totals = totals["train_loss"], self._over_ranks(weights, totals)
        norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        if wrong := non_finite({"train_loss": totals["train_loss"]}, {"gradient": norm}):
            raise NonFiniteError(f"{' and '.join(wrong)}, which comes from {self._source(batch, own_loss)}")
        if self._max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(weights, self._max_grad_norm, norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return totals

    def _over_ranks(
        self, weights: Sequence[torch.Tensor], totals: Mapping[str, float | torch.Tensor]
    ) -> dict[str, float | torch.Tensor]:
        """Make gradients and running statistics their means over the ranks; returns those of the totals."""
        if num_ranks() == 1:
            return dict(totals)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        loss = torch.as_tensor(totals["train_loss"])
        figures = [torch.as_tensor(each, dtype=loss.dtype, device=loss.device) for each in totals.values()]
        live = [*gradients, *own_statistics(self._model)]
        means = averaged([*live, torch.stack(figures)])
        with torch.no_grad():
            for tensor, mean in zip(live, means, strict=False):
                tensor.copy_(mean)
        return dict(zip(totals, means[-1].unbind(), strict=True))

    def _source(self, batch: Batch, own_loss: float | torch.Tensor) -> str:
        """Where a number that is not finite comes from, by preference one of this rank's own loss."""
        with unsynchronized(self._model):
            source = source_of_non_finite(self._model, batch.inputs)
        if num_ranks() == 1:
            return source
        found = gathered((not math.isfinite(own_loss), source))
        rank = [is_own for is_own, _ in found].index(True) if any(is_own for is_own, _ in found) else 0
        return f"{found[rank][1]} on rank {rank}"
