"""Numbers that mean nothing: where they arose."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from nasframe.core.batch import tensors_of
from nasframe.core.compiled import uncompiled
from nasframe.core.random_state import kept_random_state
from nasframe.types import Metrics

_MOST_NAMED = 5


def non_finite(metrics: Metrics, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of figures and tensors that are not finite; the device is asked once for all of them."""
    values: dict[str, Any] = {**metrics, **{name: tensor.detach().sum() for name, tensor in tensors.items()}}
    if not values:
        return []
    device = next((value.device for value in values.values() if isinstance(value, torch.Tensor)), None)
    together = torch.stack([torch.as_tensor(value, device=device).float() for value in values.values()])
    finite = together.isfinite().tolist()
    return [name for name, each in zip(values, finite, strict=True) if not each]


def source_of_non_finite(model: nn.Module, inputs: Any) -> str:
    """Where the first number that is not finite comes from, in words.

    Looked for among inputs, parameters, outputs of modules in the order in which they are had, and the
    gradients that the parameters hold. A pass is made, in the mode that the model is in.
    """
    if not all(map(_is_finite, tensors_of(inputs))):
        return "the inputs"
    named = dict(model.named_parameters())
    if wrong := [name for name, parameter in named.items() if not _is_finite(parameter)]:
        return f"parameters {_listed(wrong)}"
    if layer := _first_layer(model, inputs):
        return f"the output of {layer}"
    graded = {name: parameter.grad for name, parameter in named.items() if parameter.grad is not None}
    if wrong := [name for name, gradient in graded.items() if not _is_finite(gradient)]:
        return f"the gradients of {_listed(wrong)}"
    return "the loss"


def _first_layer(model: nn.Module, inputs: Any) -> str:
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if not all(map(_is_finite, tensors_of(output))):
                found.append(f"{name} ({type(module).__name__})")

        return hook

    device = next(model.parameters()).device
    with torch.no_grad(), kept_random_state(device), uncompiled(model), ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(look(name)).remove)
        model(inputs)
    return found[0] if found else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _is_finite(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())
