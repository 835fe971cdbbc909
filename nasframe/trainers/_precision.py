"""What forward passes compute in."""

from typing import Any, Literal, TypeAlias

import torch

from nasframe.core import ActiveSetting, Algorithm, Model, fast_precision
from nasframe.core.ranks import shared
from nasframe.errors import UnsupportedError

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


def check_precision(precision: Precision, algorithm: Algorithm) -> None:
    """Refuse a precision in which the algorithm would compute nonsense.

    Raises:
        UnsupportedError: It takes finite differences.
    """
    if precision == "bfloat16" and algorithm.takes_differences:
        raise UnsupportedError(
            "standard: precision must be float32 or auto where the algorithm takes finite differences, "
            "got bfloat16, which rounds nearby weights to the same; change it, or let the algorithm "
            "differentiate exactly"
        )


def set_precision(
    precision: Precision,
    model: Model,
    device: torch.device,
    algorithm: Algorithm,
    saved: dict[str, Any] | None,
) -> ActiveSetting:
    """Let forward passes of a training compute in what is asked for.

    Args:
        precision: What is asked for.
        model: Is changed in place.
        device: Where it is.
        algorithm: What it learns by.
        saved: A checkpoint of the stage that goes on; it keeps what it began with.
    """
    lower, reason = _lower_precision(precision, model, device, algorithm)
    if saved is not None and "precision" in saved:
        began = torch.bfloat16 if saved["precision"] == "bfloat16" else None
        lower, reason = began, reason if began == lower else "as the stage began"
    model.autocast(lower)
    return ActiveSetting("precision", model.precision, reason)


def _lower_precision(
    precision: Precision, model: Model, device: torch.device, algorithm: Algorithm
) -> tuple[torch.dtype | None, str]:
    """What forward passes are to run in, None for the type of the weights; and why."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else None, "as the recipe says"
    if algorithm.takes_differences:
        return None, "finite differences need its digits"
    if next(iter(model.parameters_at("upper")), None) is not None:
        return None, "gradients of the upper level lose digits in bfloat16"
    lower = shared(lambda: fast_precision(device))
    if lower is None and device.type == "cpu":
        return None, "a CPU repeats it to the bit, and few are faster in less"
    return lower, f"bfloat16 is {'' if lower else 'not '}at least 1.5 times as fast on {device}, as measured"
