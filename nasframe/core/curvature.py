"""How sharply a loss is curved in the upper-level parameters."""

from collections.abc import Callable, Sequence
from typing import Final

import torch

from nasframe.core.batch import Batch
from nasframe.core.compiled import uncompiled
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.random_state import kept_random_state
from nasframe.core.swapped import swapped

_SMALLEST: Final = 1e-10  # relative to the first product: what is left of a vector is rounding


def largest_eigenvalue(
    product: Callable[[torch.Tensor], torch.Tensor], start_P: torch.Tensor, num_products: int
) -> float:
    """The largest eigenvalue of a symmetric matrix, from products with it (Lanczos 1950).

    The vectors are those of a power iteration from `start_P`. That would take the last of them, and find the
    eigenvalue of the largest magnitude; the largest on the space that they all span is found after far fewer,
    and is exact after as many as the matrix has distinct eigenvalues. Never above the true one but for
    rounding.

    Args:
        product: The matrix times a vector of shape P.
        start_P: Not zero, float64.
        num_products: At most.
    """
    basis = [start_P / start_P.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    scale = 0.0
    for _ in range(min(num_products, len(start_P))):
        image_P = product(basis[-1]).to(start_P)
        scale = max(scale, float(image_P.norm()))
        diagonal.append(float(basis[-1] @ image_P))
        known = torch.stack(basis)
        for _ in range(2):  # once more, for what rounding left
            image_P = image_P - known.T @ (known @ image_P)
        left = float(image_P.norm())
        if left <= _SMALLEST * scale:
            break
        beside.append(left)
        basis.append(image_P / left)
    size = len(diagonal)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    for index, value in enumerate(beside[: size - 1]):
        matrix[index, index + 1] = matrix[index + 1, index] = value
    return float(torch.linalg.eigvalsh(matrix)[-1])


def rise(values: Sequence[float], window: int, ratio: float) -> tuple[float, float] | None:
    """Whether values have risen so far that a search should end (Zela et al. 2020, section 4).

    Args:
        values: The newest last.
        window: Values that are averaged, k.
        ratio: Below 1.

    Returns:
        The averages of the k before and of the newest k, where the former is below `ratio` times the latter;
        otherwise None.
    """
    if len(values) < 2 * window:
        return None
    before, now = sum(values[-2 * window : -window]) / window, sum(values[-window:]) / window
    return (before, now) if 0 < before < ratio * now else None


def upper_curvature(
    model: Model, objective: Objective, batch: Batch, *, num_products: int, seed: int
) -> float:
    """The largest eigenvalue of ∇²_a L on a batch, a all upper-level parameters (Zela et al. 2020).

    Passes are those of an alpha step: batch norms take the statistics of the batch, paths may be dropped. A
    product with the Hessian is a backward pass through a backward pass. Nothing of the model changes, nor
    does the random state.

    Args:
        model: Its mixtures are differentiable in the parameters, twice.
        objective: Whose loss it is of.
        batch: On the model's device.
        num_products: See `largest_eigenvalue`.
        seed: Of the first vector, and of what the passes draw.
    """
    alphas = [alpha for alpha in model.parameters_at("upper") if alpha.requires_grad]
    was_training = model.training
    model.train()
    try:
        with kept_random_state(alphas[0].device), uncompiled(model), swapped(model, {}):
            torch.manual_seed(seed)
            loss = objective.loss(model(batch.inputs), batch.targets)
            gradients = torch.autograd.grad(loss, alphas, create_graph=True, materialize_grads=True)

            def product(vector_P: torch.Tensor) -> torch.Tensor:
                return _flat(_product(gradients, alphas, vector_P))

            generator = torch.Generator().manual_seed(seed)
            num = sum(alpha.numel() for alpha in alphas)
            start_P = torch.randn(num, generator=generator, dtype=torch.float64)
            return largest_eigenvalue(product, start_P, num_products)
    finally:
        model.train(was_training)


def _product(
    gradients: Sequence[torch.Tensor], alphas: Sequence[torch.Tensor], vector_P: torch.Tensor
) -> Sequence[torch.Tensor]:
    """The derivative of the gradients' product with a vector."""
    pieces = torch.split(vector_P, [alpha.numel() for alpha in alphas])
    pairs = [
        (gradient, piece.to(gradient).view_as(gradient))
        for gradient, piece in zip(gradients, pieces, strict=True)
        if gradient.requires_grad
    ]
    if not pairs:
        return [torch.zeros_like(alpha) for alpha in alphas]
    outputs, vectors = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, alphas, vectors, retain_graph=True, materialize_grads=True)


def _flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """On the CPU, of shape P."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).to("cpu", torch.float64)
