"""Whether passes are compiled."""

from typing import Literal, TypeAlias

import torch

from nasframe.core import ActiveSetting, Model
from nasframe.core.compiled import check_compiles

Compile: TypeAlias = bool | Literal["auto"]


def compiles(wanted: Compile, model: Model, device: torch.device) -> ActiveSetting:
    """Whether the passes of a training are compiled, and why.

    Raises:
        UnsupportedError: They shall be, but cannot.
    """
    if wanted is True:
        check_compiles(model, "standard")
    if wanted != "auto":
        return ActiveSetting("compile", "on" if wanted else "off", "as the recipe says")
    if device.type == "cpu":
        reason = "a CPU compiles for minutes, and gains a few percent"
    else:
        reason = f"what it brings on {device.type} was never measured; compile=true tries it"
    return ActiveSetting("compile", "off", reason)
