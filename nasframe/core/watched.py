"""Whether somebody wants to see a module called."""

from collections.abc import Mapping
from typing import Any

from torch import nn


def is_watched(module: nn.Module) -> bool:
    """Whether a module has hooks or a compiled call, which whoever computes it otherwise would pass by."""
    return any(watchers(module)) or module._compiled_call_impl is not None


def watchers(module: nn.Module) -> tuple[Mapping[int, Any], ...]:
    """Where those who hook into a module's calls are registered, now and later."""
    return (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
