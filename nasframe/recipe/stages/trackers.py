"""The trackers of a run: opened for a stage, and told in the end what the run came to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final, final

from nasframe.core import Conclusion, Record
from nasframe.core.ranks import is_first
from nasframe.recipe.sample_inputs import Draw
from nasframe.recipe.stages.status import StageStatus
from nasframe.recipe.stages.workshop import Workshop
from nasframe.recipe.tracking import Tracking

_CONCLUDED: Final = "retrain"


@final
class Trackers:
    """Opens the trackers of a recipe for a folder of records.

    Args:
        workshop: Of the run.
        status: Is written with each record.
        until_told: Closes those of the retraining, which are open until they are told what the run came to.
    """

    def __init__(self, workshop: Workshop, status: StageStatus, until_told: ExitStack) -> None:
        self._recipe, self._directory = workshop.recipe, workshop.directory
        self._status, self._until_told = status, until_told
        self._open: dict[str, list[Tracking]] = {}

    @contextmanager
    def opening(self, name: str, seen: Draw = dict) -> Iterator[Callable[[int], Callable[[Record], None]]]:
        """What opens the trackers of a folder at a step, and returns where records go.

        Args:
            name: Of the folder.
            seen: Draws training inputs, for the first record.
        """
        with ExitStack() as until_trained:
            until = self._until_told if name == _CONCLUDED else until_trained
            tracking: list[Tracking] = []
            until.callback(_close, tracking)

            def start_tracking(start: int) -> Callable[[Record], None]:
                tracking.extend(self._made(name, start))
                self._open[name] = tracking

                def track(record: Record) -> None:
                    if record.step == 1 and tracking:
                        record = replace(record, texts={"recipe": self._recipe_text()}, images=seen())
                    for each in tracking:
                        each.log(record)
                    self._directory.update_status(
                        steps=self._status.steps,
                        records={**self._directory.status().get("records", {}), name: record.step},
                    )

                return track

            yield start_tracking

    def conclude(self, name: str, conclusion: Conclusion) -> None:
        """Tell the trackers of a folder what the run came to.

        They are open if the folder is that of the stage, and its network was trained just now.
        """
        with ExitStack() as closing:
            if name != _CONCLUDED or not self._open.get(name):
                last = self._directory.status().get("records", {}).get(name, 0)
                self._open[name] = self._made(name, last + 1)
                for each in self._open[name]:
                    closing.callback(each.close)
            for each in self._open[name]:
                each.conclude(conclusion)

    def _made(self, name: str, start: int) -> list[Tracking]:
        folder = self._directory.stage(name)
        components = self._recipe.trackers if is_first() else ()
        return [Tracking(component, folder, start) for component in components]

    def _recipe_text(self) -> str:
        """The recipe as Markdown that shows it as it is."""
        text = self._directory.recipe.read_text(encoding="utf-8")
        return "".join(f"    {line}\n" for line in text.splitlines())


def _close(tracking: list[Tracking]) -> None:
    for each in tracking:
        each.close()
