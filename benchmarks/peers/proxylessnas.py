"""ProxylessNAS as its authors compute it (Cai et al. 2019, arXiv 1812.00332), written again in plain PyTorch.

Own code of what mit-han-lab/proxylessnas computes: ``full_v2``, in which a function of its own runs the
active path forward and all others in the backward pass, and ``two``, in which both sampled paths run forward,
one of them detached, and the alphas are rescaled after their step. Weight steps run the active path alone.
Not written again: that a sampled zero operation calls a site's step off.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional


class Site(nn.Module):
    """The candidates of a site with their alpha and their binary gates.

    Attributes:
        mode: `full_v2` or `two` in alpha steps, None in weight steps.
        active: The path that runs.
        paths: Those whose alphas learn.
    """

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)
        self.alpha = nn.Parameter(torch.zeros(len(candidates)))
        self.gates = nn.Parameter(torch.zeros(len(candidates)))
        self.mode: Literal["full_v2", "two"] | None = None
        self.active, self.paths = 0, tuple(range(len(candidates)))

    def draw(self, paths: Sequence[int], active: int) -> None:
        """Set the gates to a drawn path."""
        self.active, self.paths = active, tuple(paths)
        self.gates.data.zero_()
        self.gates.data[active] = 1.0

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor
        if self.mode is None:
            out = self.candidates[self.active](x_BCHW)
        elif self.mode == "two":
            (other,) = (path for path in self.paths if path != self.active)
            out = self.gates[self.active] * self.candidates[self.active](x_BCHW)
            out = out + self.gates[other] * self.candidates[other](x_BCHW).detach()
        else:
            out = _AllPaths.apply(x_BCHW, self.gates, self.candidates, self.active)
        return out

    def set_gradient(self) -> None:
        """∂L/∂α_i = Σ_j ∂L/∂g_j p_j (δ_ij − p_i) over the paths, element by element as the authors do."""
        p = functional.softmax(self.alpha.data[list(self.paths)], dim=0)
        self.alpha.grad = torch.zeros_like(self.alpha)
        for i, path in enumerate(self.paths):
            for j, other in enumerate(self.paths):
                self.alpha.grad[path] += self.gates.grad[other] * p[j] * (int(i == j) - p[i])

    def rescale(self, before: torch.Tensor) -> None:
        """Shift the sampled alphas so that the others keep their probabilities (section 3.2.1)."""
        paths = list(self.paths)
        sums = [
            sum(math.exp(value) for value in alpha[paths].tolist()) for alpha in (self.alpha.data, before)
        ]
        self.alpha.data[paths] -= math.log(sums[0] / sums[1])


class _AllPaths(torch.autograd.Function):
    """Runs the active path; the backward pass runs the others for the gradients of the gates."""

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: torch.Tensor, gates: torch.Tensor, candidates: nn.ModuleList, active: int
    ) -> torch.Tensor:
        ctx.candidates, ctx.active = candidates, active
        x_BCHW = x_BCHW.detach().requires_grad_()
        with torch.enable_grad():
            output = candidates[active](x_BCHW)
        ctx.save_for_backward(x_BCHW, output)
        return output.data

    @staticmethod
    def backward(ctx: Any, of_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_BCHW, output = ctx.saved_tensors
        (of_x,) = torch.autograd.grad(output, x_BCHW, of_output)
        of_gates = torch.zeros(len(ctx.candidates), dtype=output.dtype)
        with torch.no_grad():
            for path, candidate in enumerate(ctx.candidates):
                made = output if path == ctx.active else candidate(x_BCHW)
                of_gates[path] = torch.sum(made * of_output)
        return of_x, of_gates, None, None
