"""Ranges for settings and the legend of shape letters.

Shape letters on tensor names: B batch, C channels, H height, W width, K candidates of a choice,
N examples of a split, P parameters.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

from annotated_types import Ge, Gt, Interval, Lt

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

Metrics: TypeAlias = "Mapping[str, float | torch.Tensor]"
"""Named scalars of one step or one evaluation; tensors are detached and have no dimension."""
