"""Devices by the names that a recipe gives them."""

import torch

from nasframe.errors import UnsupportedError


def device_named(name: str) -> torch.device:
    """The device that a recipe asks for; `auto` is the accelerator if there is one.

    Raises:
        UnsupportedError: This machine does not have it.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(each for each in ("cuda", "mps", "cpu") if available[each])
    if not available[name]:
        raise UnsupportedError(f"device: must be one that this machine has, got {name}; use auto or cpu")
    return torch.device(name)
