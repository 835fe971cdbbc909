"""What a model may return."""

from typing import Any

import torch

from nasframe.errors import UnsupportedError


def main_and_auxiliary(
    outputs: Any, targets: torch.Tensor | None, key: str
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Take a model's outputs apart, in float32 or better.

    Args:
        outputs: A tensor; a tuple or list of tensors, the main one first; or a dict with the main
            one under `key` and, where there are any, one or several under ``auxiliary``.
        targets: Say how many examples the batch has; None where nobody knows.
        key: Name of the main output in a dict.

    Raises:
        UnsupportedError: The outputs are anything else, or not for as many examples as `targets`.
    """
    if isinstance(outputs, dict) and key in outputs:
        auxiliary = outputs.get("auxiliary", ())
        parts = (outputs[key], *(auxiliary if isinstance(auxiliary, (tuple, list)) else (auxiliary,)))
    else:
        parts = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
    if not parts or not all(isinstance(part, torch.Tensor) for part in parts):
        raise UnsupportedError(
            f"model outputs must be a tensor, a tuple or list of tensors, or a dict with `{key}`, "
            f"got {_describe(outputs)}; return one of these from the network"
        )
    for part in parts:
        if targets is not None and part.shape[:1] != targets.shape[:1]:
            raise UnsupportedError(
                f"each model output must have one row for each of {len(targets)} targets, "
                f"got shape {tuple(part.shape)}"
            )
    main, *others = (part if part.dtype == torch.float64 else part.float() for part in parts)
    return main, tuple(others)


def _describe(outputs: Any) -> str:
    if isinstance(outputs, dict):
        return f"a dict with {sorted(map(str, outputs))}"
    if isinstance(outputs, (tuple, list)):
        return f"a {type(outputs).__name__} of {[type(part).__name__ for part in outputs]}"
    return type(outputs).__name__
