"""NASWOT: how differently a network's ReLUs answer to different inputs."""

from typing import Any, Final, final

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nasframe.core import Fusable, Genotype, Score, Testbed, scores
from nasframe.errors import UnsupportedError
from nasframe.types import PositiveInt

_ATEN: Final = torch.ops.aten
_RELUS: Final = frozenset({_ATEN.relu.default, _ATEN.relu_.default})
_CLIPPED: Final = frozenset({_ATEN.hardtanh.default, _ATEN.hardtanh_.default})


@scores.register("naswot")
@final
class Naswot(Score):
    """log |K| at initialization, K_ij = N − d(c_i, c_j) (Mellor et al. 2021, arXiv 2006.04647, eq. 2).

    c_i is the binary code of the i-th input of a batch: for each of the N rectified units (ReLU and ReLU6)
    whether it is active; d is the Hamming distance.

    Args:
        batch_size: Training examples of the batch.
    """

    def __init__(self, testbed: Testbed, *, batch_size: PositiveInt = 128) -> None:
        self._testbed, self._batch_size = testbed, batch_size

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        model = self._testbed.network(genotype).train()
        for module in model.modules():
            if isinstance(module, Fusable):
                module.fused = False  # so that each ReLU is a step of its own
        batch = next(self._testbed.batches(self._batch_size).epoch(0))
        with torch.no_grad(), _Codes(len(batch)) as codes:
            model(batch.inputs)
        if codes.kernel_BB is None:
            raise UnsupportedError(
                "naswot: networks of the space must have a ReLU or ReLU6, but this one has none; "
                "choose another search.score"
            )
        return float(torch.linalg.slogdet(codes.kernel_BB.cpu()).logabsdet)


@final
class _Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches every ReLU that runs, in a module or not.

    Attributes:
        kernel_BB: Units that two inputs agree in; None before the first.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._batch_size = batch_size
        self.kernel_BB: torch.Tensor | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _RELUS or (func in _CLIPPED and len(args) > 1 and args[1] == 0):
            self._note(args[0])
        return func(*args, **(kwargs or {}))

    def _note(self, x: torch.Tensor) -> None:
        if len(x) == self._batch_size:
            code_BN = (x > 0).flatten(1).double()
            same_BB = code_BN @ code_BN.T + (1 - code_BN) @ (1 - code_BN).T
            self.kernel_BB = same_BB if self.kernel_BB is None else self.kernel_BB + same_BB
