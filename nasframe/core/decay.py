"""Which weights decay."""

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import nn

_NORMS: Final = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def decay_groups(model: nn.Module, weights: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: matrices and kernels, which decay, and all others, which do not.

    The others are parameters of norms, and those with one dimension or none: biases, scales (He et al. 2019,
    arXiv 1812.01187, section 3.1). Each weight is in one group, in the order given; a group that would be
    empty is left out.

    Args:
        model: Its modules tell which parameters are those of norms.
        weights: What is to be optimized.
    """
    of_norms = {
        parameter
        for module in model.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters(recurse=False)
    }
    decayed: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for weight in weights:
        (others if weight.dim() <= 1 or weight in of_norms else decayed).append(weight)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
