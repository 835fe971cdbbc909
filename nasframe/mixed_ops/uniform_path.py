"""Single paths, each as likely as the others."""

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch

from nasframe.core import Candidate, Choice, Kind, SampledOp, mixed_ops


@mixed_ops.register("uniform_path")
@final
class UniformPath(SampledOp):
    """Runs the drawn candidate alone; without an alpha all are as likely (Guo et al. 2020, arXiv 1904.00420).

    A choice that keeps several candidates adds them up; they are drawn without replacement. In evaluation
    mode it runs what was drawn last, or the first that a genotype may keep.
    """

    makes: ClassVar[tuple[Kind, ...]] = ()
    temperature = 1.0

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice)
        self.register_buffer("_logits", torch.zeros(len(choice.candidates)), persistent=False)

    def logits(self) -> torch.Tensor:
        return self.get_buffer("_logits")

    def log_probability(self) -> torch.Tensor:
        left = len(self.logits()) - torch.arange(len(self.active), device=self.logits().device)
        return -left.to(self.logits().dtype).log().sum()

    def forward(self, candidates: Sequence[Candidate], *args: Any, **kwargs: Any) -> Any:
        first, *others = self.active if self.training or self._drawn else self._first()
        total = candidates[first](*args, **kwargs)
        for index in others:
            total = total + candidates[index](*args, **kwargs)
        return total

    def get_extra_state(self) -> torch.Tensor:
        """The last draw, so that a resumed search validates what it would have."""
        return torch.tensor([list(self.active)] if self._drawn else [], dtype=torch.int64, device="cpu")

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Restore what `get_extra_state` returned."""
        drawn = [tuple(map(int, row)) for row in state.tolist()]
        self._drawn = (tuple(range(len(self.logits()))), drawn[0]) if drawn else None

    def _first(self) -> list[int]:
        """The first candidates that a genotype may keep."""
        names = self._choice.derivable[: self._choice.num_chosen]
        return [self._choice.candidates.index(name) for name in names]
