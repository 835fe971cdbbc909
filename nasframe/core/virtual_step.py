"""What a step of the weight optimizer would do, and the transpose of its derivative."""

from collections.abc import Mapping, Sequence
from typing import final

import torch

from nasframe.core.optimizer import SGD
from nasframe.errors import UnsupportedError

_CLIP_EPS = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm


@final
class VirtualStep:
    """The step w' = w − U(g) that ``torch.optim.SGD`` would take, after clipping; changes nothing.

    Covers momentum, dampening, Nesterov, weight decay, `maximize`, parameter groups, and weights
    without a gradient, which the real step leaves alone. Let d be the clipped gradient with decay.
    Then ∂U/∂d is lr × (1 − dampening), or with Nesterov lr × (1 + momentum × (1 − dampening)); on
    the first step, before there is a momentum buffer, dampening does not apply.

    Args:
        optimizer: The real optimizer; only read.
        weights: Weights by name, as the model calls them.
        gradients: ∇w of the training loss by name; None where the loss does not depend on one.
        max_grad_norm: The norm that the trainer clips all gradients together to; None for none.

    Raises:
        UnsupportedError: The optimizer is not ``torch.optim.SGD`` itself.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        weights: Mapping[str, torch.Tensor],
        gradients: Mapping[str, torch.Tensor | None],
        max_grad_norm: float | None,
    ) -> None:
        check_modelled(optimizer)
        names = {weight: name for name, weight in weights.items()}
        self._scale, self._shrink = 1.0, 0.0
        self._gradients = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        self._clip(optimizer, names, max_grad_norm)
        self._factors: dict[str, float] = {}
        self.weights: dict[str, torch.Tensor] = {name: weight.detach() for name, weight in weights.items()}
        for group in optimizer.param_groups:
            for weight in group["params"]:
                name = names.get(weight)
                if name is not None and name in self._gradients:
                    buffer = optimizer.state.get(weight, {}).get("momentum_buffer")
                    self._move(name, group, buffer)

    def _clip(
        self, optimizer: torch.optim.Optimizer, names: Mapping[torch.Tensor, str], max_grad_norm: float | None
    ) -> None:
        held = {names.get(weight) for group in optimizer.param_groups for weight in group["params"]}
        self._clipped = [name for name in self._gradients if name in held]
        if max_grad_norm is None or not self._clipped:
            return
        norm = float(_norm([self._gradients[name] for name in self._clipped]))
        scale = max_grad_norm / (norm + _CLIP_EPS)
        if scale < 1:
            self._scale, self._shrink = scale, 1 / (norm * (norm + _CLIP_EPS))

    def _move(self, name: str, group: Mapping[str, object], buffer: torch.Tensor | None) -> None:
        lr, decay, momentum, dampening = (
            float(group[key])  # type: ignore[arg-type]
            for key in ("lr", "weight_decay", "momentum", "dampening")
        )
        sign = -1.0 if group["maximize"] else 1.0
        weight = self.weights[name]
        update = (sign * self._scale) * self._gradients[name]
        if decay:
            update = update.add_(weight, alpha=decay)
        factor = 1.0
        if momentum:
            kept = 1.0 if buffer is None else 1.0 - dampening
            moving = update * kept if buffer is None else buffer.mul(momentum).add_(update, alpha=kept)
            if group["nesterov"]:
                update, factor = update.add_(moving, alpha=momentum), 1.0 + momentum * kept
            else:
                update, factor = moving, kept
        self.weights[name] = torch.add(weight, update, alpha=-lr)
        self._factors[name] = sign * lr * factor

    def transpose(self, vectors: Mapping[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
        """Jᵀu, J = ∂U/∂g: for each weight that the step moves; u is 0 where it is None."""
        scaled = {
            name: factor * vector
            for name, factor in self._factors.items()
            if (vector := vectors.get(name)) is not None
        }
        if not self._shrink:
            return scaled
        # g ↦ s g, s = c / (‖g‖ + δ), has the symmetric derivative s (I − g gᵀ / (‖g‖ (‖g‖ + δ)))
        overlap = sum(float((self._gradients[name] * vector).sum()) for name, vector in scaled.items())
        within = {name: scaled.get(name, torch.zeros_like(self._gradients[name])) for name in self._factors}
        return {
            name: self._scale * torch.add(vector, self._gradients[name], alpha=-overlap * self._shrink)
            for name, vector in within.items()
        }


def check_modelled(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer whose step `VirtualStep` does not know.

    Raises:
        UnsupportedError: It is not ``torch.optim.SGD`` itself.
    """
    if type(optimizer) not in (torch.optim.SGD, SGD):
        raise UnsupportedError(
            "second order differentiates through the weight optimizer's step, so the optimizer must be "
            f"sgd (torch.optim.SGD itself), got {type(optimizer).__name__}; use sgd, or order 1"
        )


def _norm(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    norm: torch.Tensor = torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]).norm()
    return norm
