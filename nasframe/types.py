"""Ranges for settings and the legend of shape letters.

Shape letters on tensor names: B batch, C channels, H height, W width, K candidates of a choice,
N examples of a split, P parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias, final

from annotated_types import Ge, Gt, Interval, Lt

from nasframe.problem_kinds import ABSENT_FILE, OUTER_OUTPUT, ProblemKind
from nasframe.suggestion import meant_path

if TYPE_CHECKING:
    import torch

PositiveInt: TypeAlias = Annotated[int, Gt(0)]
NonNegativeInt: TypeAlias = Annotated[int, Ge(0)]
PositiveFloat: TypeAlias = Annotated[float, Gt(0)]
NonNegativeFloat: TypeAlias = Annotated[float, Ge(0)]
Probability: TypeAlias = Annotated[float, Interval(ge=0, le=1)]
ProperFraction: TypeAlias = Annotated[float, Ge(0), Lt(1)]
"""At least 0 and below 1: a share that leaves something over."""
Amount: TypeAlias = PositiveFloat | str
"""An amount of a cost: a number in its unit, or text with a unit, such as ``12 ms`` or ``60 M``."""


@final
@dataclass(frozen=True)
class MustExist:
    """Marks a path that must be there on the machine that a recipe is run on."""

    what: Literal["file", "folder"]
    kind: ClassVar[ProblemKind] = ABSENT_FILE

    @property
    def spelling(self) -> str:
        return f"{self.what} that exists"

    def wrong(self, path: Path) -> tuple[str, str] | None:
        """What must hold and advice, if it does not."""
        if path.is_file() if self.what == "file" else path.is_dir():
            return None
        there = "there is something else" if path.exists() else "there is nothing"
        meant = meant_path(path, Path.is_file if self.what == "file" else Path.is_dir)
        return f"must be a {self.spelling}", "; ".join(filter(None, [f"{there} at {path}", meant]))


@final
@dataclass(frozen=True)
class Written:
    """Marks a path that a run may write to, and so must lie where a recipe may write."""

    spelling: ClassVar[str] = "file below the recipe's folder or the working folder"
    kind: ClassVar[ProblemKind] = OUTER_OUTPUT

    def wrong(self, path: Path, folders: Sequence[Path]) -> tuple[str, str] | None:
        """What must hold and advice, if it lies in none of the folders, links followed."""
        try:
            if any(path.resolve().is_relative_to(folder.resolve()) for folder in folders):
                return None
        except (OSError, RuntimeError, ValueError):  # too long, or a circle of links
            pass
        return f"must be a {self.spelling}", "give it on the command line, or allow it by --outside"


WrittenFile: TypeAlias = Annotated[Path, Written()]
ExistingFile: TypeAlias = Annotated[Path, MustExist("file")]
ExistingFolder: TypeAlias = Annotated[Path, MustExist("folder")]

Metrics: TypeAlias = "Mapping[str, float | torch.Tensor]"
"""Named scalars of one step or one evaluation; tensors are detached and have no dimension."""
