"""Whether passes are compiled."""

from typing import Literal, TypeAlias

import torch

from nasframe.core import ActiveSetting, Model
from nasframe.core.compiled import check_compiles
from nasframe.errors import UnsupportedError

Compile: TypeAlias = bool | Literal["auto", "graphs"]


def compiles(wanted: Compile, model: Model, device: torch.device) -> ActiveSetting:
    """Whether the passes of a training are compiled, and why.

    Raises:
        UnsupportedError: They shall be, but cannot.
    """
    if wanted in (True, "graphs"):
        check_compiles(model, "standard")
    if wanted == "graphs":
        if device.type != "cuda":
            raise UnsupportedError(
                f"standard: compile must be true, false or auto on {device.type}, because only CUDA has "
                "graphs of kernels, got graphs; change it, or the device"
            )
        return ActiveSetting("compile", "graphs", "as the recipe says")
    if wanted != "auto":
        return ActiveSetting("compile", "on" if wanted else "off", "as the recipe says")
    if device.type == "cpu":
        reason = "a CPU compiles for minutes, and gains a few percent"
    else:
        reason = f"what it brings on {device.type} was never measured; compile=true tries it"
    return ActiveSetting("compile", "off", reason)
