"""DARTS: bilevel optimization of alphas and weights."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, final

import torch

from nasframe.core import (
    Algorithm,
    Batch,
    Model,
    Objective,
    Schedule,
    VirtualStep,
    WeightUpdate,
    algorithms,
    averaged,
    check_modelled,
    kept_random_state,
    named_parameters_at,
    optimizers,
    schedules,
    set_learning_rate,
    swapped,
    uncompiled,
    with_penalty,
)
from nasframe.errors import UnsupportedError
from nasframe.registry import Component
from nasframe.types import Metrics, NonNegativeInt, PositiveFloat, PositiveInt

_CONSTANT = schedules.component("constant")
_ALPHA_OPTIMIZER = optimizers.component("adam", lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

Tensors = dict[str, torch.Tensor]


@algorithms.register("darts_bilevel")
@final
class DartsBilevel(Algorithm):
    """Alternates steps of alphas and weights (Liu et al. 2019, arXiv 1806.09055, Algorithm 1).

    First order: ∇a L_v(w, a). Second order: ∇a L_v(w', a) − ∇²a,w L_t(w, a)·v with w' = w − U(∇w L_t),
    v = Jᵀ ∇w' L_v(w', a) and J = ∂U/∂g (eq. 6 and 7, where U is plain and J the learning rate ξ).

    Departures from the authors' code: U is the whole step of the real weight optimizer (gradient
    clipping, Nesterov, dampening, parameter groups) instead of plain momentum, and J its derivative
    instead of ξ; no pass of an alpha step moves batch-norm statistics or the random state, and all
    of its passes see the same noise; held-out batches are not augmented.

    Args:
        order: 1 takes the weights as they are, 2 differentiates through their next step.
        hessian: How ∇²a,w L_t·v is computed with order 2: `finite_difference` is the paper's central
            difference (eq. 8), `exact` is double backward, which is never compiled.
        epsilon: Length of the finite difference in weight space, ε = epsilon / ‖v‖. With ReLUs and max pools
            a shorter one is noisier (docs/second_order.md); the default is the paper's.
        second_order_from: Epoch (from 0) that order 2 begins at; first order before it.
        warmup_epochs: Epochs at the beginning that train the weights alone.
        chunks: Pieces that each batch is split into to save memory. The gradient is that of the batch
            but for batch norm, whose statistics are then those of each piece.
        alpha_optimizer: Optimizer of the upper level.
        alpha_schedule: Learning rate of the upper level over the epochs.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"upper"})
    follows_penalty: ClassVar[bool] = True
    knows_ranks: ClassVar[bool] = True
    chunks: int

    def __init__(
        self,
        model: Model,
        objective: Objective,
        *,
        order: Literal[1, 2] = 1,
        hessian: Literal["finite_difference", "exact"] = "finite_difference",
        epsilon: PositiveFloat = 0.01,
        second_order_from: NonNegativeInt = 0,
        warmup_epochs: NonNegativeInt = 0,
        chunks: PositiveInt = 1,
        alpha_optimizer: Component[torch.optim.Optimizer] = _ALPHA_OPTIMIZER,
        alpha_schedule: Component[Schedule] = _CONSTANT,
    ) -> None:
        self._model, self._objective = model, objective
        self._order, self._hessian, self._epsilon = order, hessian, epsilon
        self.takes_differences = order == 2 and hessian == "finite_difference"
        self._second_order_from, self._warmup_epochs, self.chunks = second_order_from, warmup_epochs, chunks
        self._alphas = [alpha for _, alpha in named_parameters_at(model, "upper") if alpha.requires_grad]
        if not self._alphas:
            raise UnsupportedError(
                "darts_bilevel: the model must have upper-level parameters (alphas) that require gradients"
            )
        self._alpha_optimizer = alpha_optimizer(self._alphas)
        self._alpha_schedule = alpha_schedule()
        self._epoch = 0

    def phases(self) -> frozenset[int]:
        second_order = {max(self._warmup_epochs, self._second_order_from)} if self._order == 2 else set()
        return frozenset({self._warmup_epochs} | second_order)

    def begin_epoch(self, epoch: int, num_epochs: int) -> None:
        self._epoch = epoch
        set_learning_rate(self._alpha_optimizer, self._alpha_schedule, epoch, num_epochs)

    def check_update(self, update_weights: WeightUpdate) -> None:
        if self._order == 2:
            check_modelled(update_weights.optimizer)
            if not update_weights.sees_model_as_it_is:
                raise UnsupportedError(
                    "darts_bilevel: order must be 1 where weights are trained at perturbed mixtures, got 2, "
                    "which differentiates through a step at the mixtures themselves; set order=1, or leave "
                    "search.perturbation out"
                )

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        metrics = {}
        if self._epoch >= self._warmup_epochs:
            metrics["alpha_loss"] = self._update_alphas(train, valid, update_weights)
        return {**metrics, **update_weights(train)}

    def _update_alphas(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> torch.Tensor:
        loss, gradients = self._upper(train, valid, update_weights)
        for alpha, gradient in zip(self._alphas, gradients, strict=True):
            alpha.grad = gradient
        self._alpha_optimizer.step()
        self._alpha_optimizer.zero_grad(set_to_none=True)
        return loss

    def upper_gradients(
        self, train: Batch, valid: Batch, update_weights: WeightUpdate
    ) -> list[torch.Tensor | None]:
        """The gradient that an alpha step would use, that of a penalty included; changes nothing.

        Returns:
            One for each upper-level parameter that requires a gradient, in the model's order; None
            where the loss does not depend on it.
        """
        return self._upper(train, valid, update_weights)[1]

    def _upper(
        self, train: Batch, valid: Batch, update_weights: WeightUpdate
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        loss, gradients = self._upper_of_loss(train, valid, update_weights)
        return loss, with_penalty(self._objective, self._alphas, gradients, loss)

    def _upper_of_loss(
        self, train: Batch, valid: Batch, update_weights: WeightUpdate
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        weights = {name: p for name, p in named_parameters_at(self._model, "lower") if p.requires_grad}
        if self._order == 1 or self._epoch < self._second_order_from:
            return self._gradients(valid, self._alphas, _detached(weights))
        step = self._virtual_step(train, weights, update_weights)
        moved = {name: weight.requires_grad_() for name, weight in step.weights.items()}
        loss, gradients = self._gradients(valid, [*self._alphas, *moved.values()], moved)
        first_term = gradients[: len(self._alphas)]
        v = step.transpose(dict(zip(moved, gradients[len(self._alphas) :], strict=True)))
        del step, moved, gradients
        product = self._hessian_vector_product(train, weights, v)
        return loss, [_minus(first, second) for first, second in zip(first_term, product, strict=True)]

    def _virtual_step(
        self, train: Batch, weights: Mapping[str, torch.Tensor], update_weights: WeightUpdate
    ) -> VirtualStep:
        _, gradients = self._gradients(train, list(weights.values()), {})
        by_name = dict(zip(weights, gradients, strict=True))
        return VirtualStep(update_weights.optimizer, weights, by_name, update_weights.max_grad_norm)

    def _hessian_vector_product(
        self, train: Batch, weights: Mapping[str, torch.Tensor], v: Tensors
    ) -> Sequence[torch.Tensor | None]:
        norm = torch.stack([vector.norm() for vector in v.values()]).norm().item() if v else 0.0
        if norm == 0:
            return [None] * len(self._alphas)
        if self._hessian == "exact":
            return self._exact_product(train, weights, v)
        epsilon = self._epsilon / norm
        sides = []
        for sign in (1, -1):
            moved = _detached(weights)
            moved.update({name: torch.add(moved[name], v[name], alpha=sign * epsilon) for name in v})
            sides.append(self._gradients(train, self._alphas, moved)[1])
        return [_scaled(_minus(plus, minus), 1 / (2 * epsilon)) for plus, minus in zip(*sides, strict=True)]

    def _exact_product(
        self, train: Batch, weights: Mapping[str, torch.Tensor], v: Tensors
    ) -> Sequence[torch.Tensor | None]:
        total: list[torch.Tensor | None] = [None] * len(self._alphas)
        inputs = [weights[name] for name in v]
        with kept_random_state(inputs[0].device), uncompiled(self._model), swapped(self._model, {}):
            for loss in self._losses(train):
                gradients = _grad([loss], inputs, create_graph=True)
                pairs = [
                    (gradient, vector)
                    for gradient, vector in zip(gradients, v.values(), strict=True)
                    if gradient is not None and gradient.requires_grad
                ]
                if pairs:
                    outputs, vectors = zip(*pairs, strict=True)
                    parts = _grad(outputs, self._alphas, vectors)
                    total = [_plus(one, other) for one, other in zip(total, parts, strict=True)]
        return averaged(total)

    def _gradients(
        self, batch: Batch, inputs: Sequence[torch.Tensor], replaced: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Loss on a batch (of all ranks), and its gradients, with some parameters of the model replaced."""
        total: list[torch.Tensor | None] = [None] * len(inputs)
        total_loss = torch.zeros((), device=self._alphas[0].device)
        with kept_random_state(total_loss.device), swapped(self._model, replaced):
            for loss in self._losses(batch):
                total_loss = total_loss + loss.detach()
                if loss.requires_grad:
                    parts = _grad([loss], inputs)
                    total = [_plus(one, other) for one, other in zip(total, parts, strict=True)]
        (total_loss,) = averaged([total_loss])
        return total_loss, averaged(total)

    def _losses(self, batch: Batch) -> Iterator[torch.Tensor]:
        """The share of each chunk in the batch's loss."""
        for piece in batch.chunk(self.chunks):
            loss = self._objective.loss(self._model(piece.inputs), piece.targets)
            yield loss if len(piece) == len(batch) else loss * (len(piece) / len(batch))


def _grad(
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    vectors: Sequence[torch.Tensor] | None = None,
    *,
    create_graph: bool = False,
) -> Sequence[torch.Tensor | None]:
    """Gradients of scalars, or of products with vectors; None where nothing depends on an input."""
    return torch.autograd.grad(outputs, inputs, vectors, create_graph=create_graph, allow_unused=True)


def _detached(weights: Mapping[str, torch.Tensor]) -> Tensors:
    """Weights without gradients: nothing is computed or kept for them."""
    return {name: weight.detach() for name, weight in weights.items()}


def _plus(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _minus(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    return _plus(one, _scaled(other, -1))


def _scaled(tensor: torch.Tensor | None, factor: float) -> torch.Tensor | None:
    return None if tensor is None else tensor * factor
