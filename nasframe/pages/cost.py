"""What the stages of a run cost."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True)
class StageCost:
    """What a stage cost; None where it is not known.

    Attributes:
        stage: Its name.
        seconds: Its time over all attempts.
        steps: Of its training, or evaluations of an explorer; 0 where nothing was counted.
        images_per_second: Median of the epochs.
        joules: What the processors of the machine took meanwhile.
    """

    stage: str
    seconds: float
    steps: int
    images_per_second: float | None
    joules: float | None


def stages_of(content: Mapping[str, Any]) -> list[StageCost]:
    """The stages of a run, from what its ``report.json`` has."""
    return [_stage(content, stage, seconds) for stage, seconds in content.get("seconds", {}).items()]


def _stage(content: Mapping[str, Any], stage: str, seconds: float) -> StageCost:
    speeds = content.get("curves", {}).get(f"{stage}/images_per_second", [])
    known = [value for value in speeds if value is not None]
    steps = (count for name, count in content.get("steps", {}).items() if name.partition(" ")[0] == stage)
    return StageCost(
        stage,
        seconds,
        sum(steps),
        statistics.median(known) if known else None,
        content.get("joules", {}).get(stage),
    )
