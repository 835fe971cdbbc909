"""What all checks have in common."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import nn

from nasframe.core import Batch, Genotype, Model, Space, derived, generator_for, map_tensors
from nasframe.errors import ComponentError, NasframeError
from nasframe.types import Metrics


def fail(message: str) -> NoReturn:
    """Tell the author of a component what to change."""
    raise ComponentError(message)


def require(holds: object, message: str) -> None:
    """Fail with the message where `holds` is false or empty."""
    if not holds:
        fail(message)


def check_gradients(where: str, output: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> None:
    """Each tensor must have a finite gradient from a random direction of `output`."""
    named = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    if not named:
        return
    direction = torch.randn(output.shape, generator=generator_for(0, "direction")).to(output)
    require(output.requires_grad, f"{where}: its output must have a gradient; do not detach it")
    gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
        output, list(named.values()), direction, allow_unused=True
    )
    for name, gradient in zip(named, gradients, strict=True):
        require(
            gradient is not None and bool(gradient.isfinite().all()),
            f"{where}: {name} must get a finite gradient from the output, got "
            f"{'none' if gradient is None else 'one that is not finite'}; "
            "use it in the output, and do not detach",
        )


def accepted(where: str, space: Space, genotype: Genotype) -> Model:
    """The derived network of a genotype that the space must accept."""
    try:
        return derived(space, genotype)
    except NasframeError as error:
        raise ComponentError(
            f"{where}: the genotype {dict(genotype.choices)} must fit its space: {error}; "
            "keep what the choices may keep"
        ) from error


def seeded(seed: int, make: Callable[..., Any], *args: Any) -> Any:
    """What `make` returns from a random state that is the same each time."""
    torch.manual_seed(seed)
    return make(*args)


def state_of(module: nn.Module) -> dict[str, Any]:
    """A copy of all parameters and buffers by name."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def name_of(module: nn.Module, parameter: nn.Parameter) -> str:
    """The first qualified name of a parameter."""
    return next(name for name, each in module.named_parameters() if each is parameter)


def through_a_checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    """Save and load as a checkpoint does: tensors and plain data only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    try:
        loaded: dict[str, Any] = torch.load(file, weights_only=True)
    except Exception as error:
        raise ComponentError(
            "state_dict() must hold tensors and plain data alone, so that a checkpoint can be read: "
            f"{str(error).partition(chr(10))[0]}; save numbers, texts and tensors instead of objects"
        ) from error
    return loaded


def plain(batch: Batch, rows: slice = slice(None)) -> tuple[Any, Any]:
    """(inputs, targets) of some rows of a batch."""
    return map_tensors(lambda tensor: tensor[rows], (batch.inputs, batch.targets))  # type: ignore[no-any-return]


def flat(value: Any) -> list[Any]:
    """The leaves of a nest."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [part for item in value for part in flat(item)]
    return [value]


def shapes(value: Any) -> list[tuple[int, ...]]:
    """The shapes of the tensors of a nest."""
    return [tuple(part.shape) for part in flat(value) if isinstance(part, torch.Tensor)]


def same(one: Any, other: Any) -> bool:
    """Whether two nests are equal, tensors bit by bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def check_metrics(where: str, metrics: Metrics) -> None:
    """Each metric must be a finite number without a gradient."""
    for name, value in metrics.items():
        number = torch.as_tensor(value)
        require(
            number.dim() == 0 and not number.requires_grad and bool(number.isfinite()),
            f"{where}: metric `{name}` must be a finite number without a gradient, got {value!r}; "
            "return means, detached",
        )
