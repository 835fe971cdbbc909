"""How the weights' optimizer steps."""

import torch

from nasframe.core import ActiveSetting


def optimizer_steps(optimizer: torch.optim.Optimizer) -> ActiveSetting:
    """Whether it steps all weights in one call, and why."""
    name, settings = type(optimizer).__name__, optimizer.defaults
    if settings.get("fused"):
        return ActiveSetting("optimizer", f"{name}, fused", "as the recipe says")
    if settings.get("foreach"):
        reason = "the bits of one weight after the other; fused kernels round otherwise"
        return ActiveSetting("optimizer", f"{name}, all weights in one call", reason)
    return ActiveSetting("optimizer", name, "as it is made")
