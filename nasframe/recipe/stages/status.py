"""Which stages of a run are finished, and what each took."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch

from nasframe.recipe.consumption import EnergyMeter
from nasframe.recipe.devices import peak_memory
from nasframe.recipe.run_directory import RunDirectory


@final
class StageStatus:
    """What ``status.json`` says of the stages, added up over all attempts.

    Args:
        directory: Of the run.
        device: Whose memory is watched.

    Attributes:
        steps: The last step of each, by what people are told of it.
    """

    def __init__(self, directory: RunDirectory, device: torch.device) -> None:
        self._directory, self._device = directory, device
        self._energy = EnergyMeter()
        self.steps: dict[str, int] = dict(directory.status()["steps"])

    def is_finished(self, stage: str) -> bool:
        """Whether it need not be run again."""
        return stage in self._directory.status()["finished"]

    @contextmanager
    def attempt(self, stage: str) -> Iterator[None]:
        """Add up a stage's time, and note it when it is finished."""
        started = time.perf_counter()
        self._energy = EnergyMeter()
        finished: list[str] = []
        self._directory.update_status(stage=stage)
        try:
            yield
            finished = [stage]
        finally:
            status = self._directory.status()
            seconds = status["seconds"].get(stage, 0.0) + time.perf_counter() - started
            self._directory.update_status(
                **self._consumed(stage, status),
                seconds={**status["seconds"], stage: round(seconds, 3)},
                steps=self.steps,
                finished=[*status["finished"], *finished],
            )

    def hear(self, label: str, step: int) -> None:
        """Remember a step, until the next record or the end of the attempt."""
        self.steps[label] = step
        self._energy.read()

    def _consumed(self, stage: str, status: Mapping[str, Any]) -> dict[str, Any]:
        """Energy of a stage, and the most memory so far; each where it can be told."""
        found: dict[str, Any] = {}
        before = status.get("joules", {})
        if (joules := self._energy.joules) is not None:
            found["joules"] = {**before, stage: round(before.get(stage, 0.0) + joules, 3)}
        if (peak := peak_memory(self._device)) is not None:
            found["peak_bytes"] = max(peak, status.get("peak_bytes", 0))
        return found
