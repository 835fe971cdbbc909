"""Single paths, each as likely as the others."""

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch

from nasframe.core import Candidate, Choice, Kind, SampledOp, mixed_ops
from nasframe.core.mixed_op import drawn
from nasframe.errors import UnsupportedError


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
        super().__init__()
        self._choice = choice
        self._drawn: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self.register_buffer("_logits", torch.zeros(len(choice.candidates)), persistent=False)

    def logits(self) -> torch.Tensor:
        return self.get_buffer("_logits")

    @property
    def paths(self) -> tuple[int, ...]:
        return self._sample()[0]

    @property
    def active(self) -> tuple[int, ...]:
        return self._sample()[1]

    def draw(self, logits_K: torch.Tensor, generator: torch.Generator, num_paths: int | None = None) -> None:
        self._drawn = drawn(logits_K, self._choice.num_chosen, num_paths, generator)

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

    def _sample(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self._drawn is None:
            raise UnsupportedError(
                f"uniform_path: choice `{self._choice.id}` must be drawn before it runs in training mode, "
                "but never was; call `model.sample(generator)`, or search with an algorithm that draws, such "
                "as single_path"
            )
        return self._drawn

    def _first(self) -> list[int]:
        """The first candidates that a genotype may keep."""
        names = self._choice.derivable[: self._choice.num_chosen]
        return [self._choice.candidates.index(name) for name in names]
