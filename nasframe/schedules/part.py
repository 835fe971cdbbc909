"""A part of another schedule."""

from typing import final

from nasframe.core import Schedule, schedules
from nasframe.errors import UnsupportedError
from nasframe.registry import Component
from nasframe.types import Probability, ProperFraction

_COSINE = schedules.component("cosine")


@schedules.register("part")
@final
class Part(Schedule):
    """Goes through a part of another schedule, such as the first half of a cosine.

    So stages of a search can go through one schedule together: one from 0 to 0.5, the next from 0.5 to 1.

    Args:
        of: The whole schedule.
        begin: Share of it that is over at the beginning.
        end: Share of it that is over at the end; above `begin`.
    """

    def __init__(
        self, *, of: Component[Schedule] = _COSINE, begin: ProperFraction = 0.0, end: Probability = 1.0
    ) -> None:
        self._of, self._begin, self._share = of(), begin, end - begin
        if self._share <= 0:
            raise UnsupportedError(
                f"schedule part: end must be above begin, got {begin} and {end}; change one of the two"
            )

    def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
        whole = round(num_epochs / self._share)
        return self._of(base_lr, round(self._begin * whole, 9) + epoch, whole)
