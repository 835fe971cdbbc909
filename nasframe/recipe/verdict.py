"""What a search has learned when it ends, in a sentence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from nasframe.core.chance import is_by_chance

Figures: TypeAlias = Mapping[str, float]

VALIDATED: Final = ("valid_loss", "valid_accuracy")
EVEN: Final = 0.95
"""The entropy of alphas, of 1, above which they say little: the strongest of seven has 0.32 then."""


@final
@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on besides the edges of the architecture.

    Attributes:
        epoch: The last one.
        validated: What its validation told, of `VALIDATED`.
        health: What was measured on the search then, by tag.
        first: What that of the first epoch told; empty if nobody knows.
        constant: Loss and metrics of the best answer that is the same for all held-out examples; empty if
            nobody knows.
        num_valid: Held-out examples.
        num_gap: How many of them the gap was measured on.
        reads_alphas: Whether the architecture is read off alphas alone.
        has_moved: Whether alphas are not those that the search began with.
    """

    epoch: int
    validated: Figures
    health: Figures
    first: Figures = field(default_factory=dict)
    constant: Figures = field(default_factory=dict)
    num_valid: int = 0
    num_gap: int = 0
    reads_alphas: bool = True
    has_moved: bool = True

    def nothing_learned(self) -> str:
        """Why the supernet has learned nothing; empty if it has, or nobody knows."""
        return self._chance() or self._no_better()

    def _chance(self) -> str:
        accuracy, constant = self.validated.get("valid_accuracy"), self.constant.get("accuracy")
        if accuracy is not None and constant is not None:
            by_chance = is_by_chance(accuracy, self.num_valid, constant)
            among = self.health.get("health/supernet_accuracy")  # not by running statistics, if it is there
            if not by_chance or (among is not None and not is_by_chance(among, self.num_gap, constant)):
                return ""
            return (
                f"at chance: {accuracy:.3f} of {self.num_valid} held-out examples are right at epoch "
                f"{self.epoch}, and {constant:.3f} if all are answered alike"
            )
        loss, constant = self.validated.get("valid_loss"), self.constant.get("loss")
        if loss is None or constant is None or loss < constant:
            return ""
        return (
            f"at chance: the validation loss is {loss:.3g} at epoch {self.epoch}, and {constant:.3g} if all "
            "are answered alike"
        )

    def _no_better(self) -> str:
        """Whether validation is no better than after the first epoch, by loss and by accuracy."""
        loss, first = self.validated.get("valid_loss"), self.first.get("valid_loss")
        if self.epoch == 1 or loss is None or first is None or loss < first:
            return ""
        if self.validated.get("valid_accuracy", -math.inf) > self.first.get("valid_accuracy", -math.inf):
            return ""
        return (
            f"diverging: the validation loss is {loss:.3g} at epoch {self.epoch}, and was {first:.3g} at "
            "epoch 1"
        )

    def doubts(self) -> dict[str, str]:
        """Why the architecture may be no better than a random one, each reason by a word for it."""
        found = {}
        entropy = self.health.get("health/entropy")
        if self.reads_alphas and not self.has_moved:
            found["undecided"] = "no alpha has moved, so the architecture is a random one"
        elif self.reads_alphas and entropy is not None and entropy > EVEN:
            found["undecided"] = (
                f"alphas are nearly even (entropy {entropy:.2f}), so the architecture says little "
                "more than a random one"
            )
        accuracy, constant = self.health.get("health/path_accuracy"), self.constant.get("accuracy")
        if accuracy is not None and constant is not None and is_by_chance(accuracy, self.num_gap, constant):
            found["unproven"] = (
                f"its path alone is at chance in the supernet ({accuracy:.3f} of {self.num_gap} examples "
                "right)"
            )
        return found


def in_words(now: str, before: str, evidence: Evidence) -> str:
    """The verdict on a search that is not collapsing.

    Args:
        now: What its edges are, and when.
        before: What was said when it collapsed; empty if it never did.
        evidence: What it has learned.
    """
    earlier = [f"before, {before}"] if before else []
    if nothing := evidence.nothing_learned():
        return "; ".join([nothing, *earlier])
    well, doubts = "recovered" if before else "healthy", evidence.doubts()
    if doubts:
        well += f", but {' and '.join(doubts)}"
    return "; ".join([f"{well}: {now}", *doubts.values(), *earlier])


def of_scores(best: float, count: int, figure: str | None, constant: Figures, num_valid: int) -> str:
    """The verdict on a search by scores: whether the best is more than luck; empty if so, or nobody knows.

    Args:
        best: The best score.
        count: How many there are.
        figure: Which figure of held-out examples it is (see `Score.figure`).
        constant: See `Evidence`.
        num_valid: Held-out examples.
    """
    alike = constant.get(figure or "")
    if figure == "accuracy" and alike is not None and is_by_chance(best, num_valid, alike, count):
        return (
            f"at chance: by the best of {count} scores {best:.3f} of {num_valid} held-out examples are "
            f"right, and {alike:.3f} if all are answered alike"
        )
    if figure == "loss" and alike is not None and -best >= alike:
        return (
            f"at chance: by the best of {count} scores the validation loss is {-best:.3g}, and {alike:.3g} "
            "if all are answered alike"
        )
    return ""
