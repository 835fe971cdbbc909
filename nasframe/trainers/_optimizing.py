"""How the weights' optimizer steps."""

import torch

from nasframe.core import ActiveSetting


def optimizer_steps(optimizer: torch.optim.Optimizer) -> ActiveSetting:
    """Whether it steps all weights in one call, and why."""
    name, settings = type(optimizer).__name__, optimizer.defaults
    if settings.get("fused"):
        return ActiveSetting("optimizer", f"{name}, fused", "as the recipe says")
    if settings.get("foreach"):
        reason = "to the bit as weight by weight; fused kernels are not"
        return ActiveSetting("optimizer", f"{name} in one call", reason)
    return ActiveSetting("optimizer", name, "as it is made")
