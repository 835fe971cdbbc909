"""ProxylessNAS of NNI 3.0: its own layer and function, imported; the loop around them is its trainer's order.

NNI is installed without its dependencies, of which only those that this import touches are there. Nothing of
it is replaced, but its pin of filelock (below 3.12), of which PyTorch needs a newer one, is not kept.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports, which are older than this Python
    from nni.mutable import frozen_context
    from nni.nas.oneshot.pytorch.supermodule.proxyless import ProxylessMixedLayer


class Site(nn.Module):
    """NNI's layer of a site, whose draw is set from outside."""

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(len(candidates)))
        paths = {str(index): candidate for index, candidate in enumerate(candidates)}
        with frozen_context(
            {(label := f"site_{id(self)}"): "0"}
        ):  # what NNI wants outside a space of its own
            self.layer = ProxylessMixedLayer(paths, self.alpha, nn.Softmax(-1), label)

    def draw(self, paths: Sequence[int], active: int) -> None:
        """Draw as NNI does, then take this path."""
        self.layer.resample({})
        self.layer.resample({self.layer.label: str(active)})

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x_BCHW)
        return out
