"""The reporting stage: tests the retrained network, tells of the run, and exports."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from nasframe.core import Conclusion, Genotype, Model, Objective, Space, costs, derived, unit_of
from nasframe.core.ranks import is_first
from nasframe.recipe.baseline import Comparison, Contender
from nasframe.recipe.confusion import Counted, drawn_confusion, plain_confusion
from nasframe.recipe.exporting import export, finished_run
from nasframe.recipe.model_folder import set_weights
from nasframe.recipe.repetition import Repetition, spread
from nasframe.recipe.reporting import health_of, write_report
from nasframe.recipe.schema import recipe_to_mapping
from nasframe.recipe.stages.records import truth
from nasframe.recipe.stages.trackers import Trackers
from nasframe.recipe.stages.workshop import Workshop

_FEW: Final = 100  # test examples: below, the standard error of an accuracy may be above 5 points


@final
@dataclass(frozen=True)
class _Trained:
    """A network with its figures in the test, of each training."""

    name: str
    genotype: Genotype
    model: Model
    figures: Sequence[Mapping[str, float]]


@final
@dataclass(frozen=True)
class Reporting:
    """Works out what a run came to, and leaves it in the run directory.

    Attributes:
        workshop: Of the run.
        trackers: Are told.
    """

    workshop: Workshop
    trackers: Trackers

    def run(self) -> None:
        """Write ``report.json``, the report for people, and what the recipe wants exported."""
        recipe, directory, data = self.workshop.recipe, self.workshop.directory, self.workshop.data
        section, task = recipe.retrain, data.task
        if 0 < (count := len(data.test)) < _FEW:
            points = 50 / math.sqrt(count)
            directory.note(
                f"the figures of the test are of {count} examples alone: the standard error of an accuracy "
                f"of 50 % is then {points:.0f} points"
            )
        space: Space = section.space(task)
        genotype = Genotype.load(directory.genotype)
        model = derived(space, genotype)
        set_weights(model, directory.weights)
        model.to(self.workshop.device)
        objective = Counted(section.objective(), model)
        metrics = self._tested(model, objective)
        counts_KK = objective.take()
        rows = self._tested_by_seed(model, "retrain")
        trained = [_Trained("found", genotype, model, rows or [dict(metrics)]), *self._baseline(space)]
        if not is_first():
            return
        metrics |= spread(rows, "test_")
        found, *others = self._priced(trained)
        metrics["parameters"] = found.parameters
        metrics |= found.costs
        standing = self.workshop.standing(genotype)
        metrics |= truth(standing)
        confusion = plain_confusion(counts_KK, data.class_names)
        comparison = self._compared(found, *others) if others else None
        write_report(directory, recipe, genotype, space, metrics, task, standing, rows, confusion, comparison)
        verdict = str(health_of(directory).get("verdict", ""))
        drawn = drawn_confusion(counts_KK, data.class_names, "test")
        conclusion = Conclusion(_leaves(recipe_to_mapping(recipe)), metrics, drawn, verdict)
        self.trackers.conclude(self._kept, conclusion)
        report = recipe.report().write(directory.root)
        directory.update_status(report=os.path.relpath(report, directory.root))
        if recipe.export:
            self._export(model.cpu().eval(), genotype)

    def _repetition(self, stage: str = "retrain") -> Repetition:
        return Repetition(self.workshop.recipe, self.workshop.directory.stage(stage))

    @property
    def _kept(self) -> str:
        """Folder of the retraining that is kept."""
        if self.workshop.recipe.retrain.seeds == 1:
            return "retrain"
        repetition = self._repetition()
        return repetition.stretch_of(repetition.kept).folder

    def _tested(self, model: Model, objective: Objective) -> dict[str, float]:
        """Figures on all test examples."""
        section, data = self.workshop.recipe.retrain, self.workshop.data
        tested = section.trainer().evaluate(model, objective, data.test, data.preprocess)
        return {f"test_{name}": float(value) for name, value in tested.items()}

    def _baseline(self, space: Space) -> list["_Trained"]:
        """The network that the found one is compared with, tested; none without."""
        recipe, directory = self.workshop.recipe, self.workshop.directory
        if (name := recipe.retrain.baseline) is None:
            return []
        genotype = Genotype.load(directory.baseline)
        model = derived(space, genotype)
        set_weights(model, directory.weights_in("baseline"))
        model.to(self.workshop.device)
        rows = self._tested_by_seed(model, "baseline")
        return [_Trained(name, genotype, model, rows or [self._tested(model, recipe.retrain.objective())])]

    def _priced(self, trained: Sequence["_Trained"]) -> list[Contender]:
        """What networks cost; those whose cost is measured take turns."""
        task, count = self.workshop.data.task, costs.component("parameters")()
        by_parts: Sequence[float | None] = [None] * len(trained)
        measured = by_parts
        if (component := self.workshop.recipe.search.cost) is not None:
            cost = component()
            prices = self.workshop.retrained_prices(component)
            by_parts = [prices.of(each.genotype) for each in trained]
            if cost.is_measured:
                measured = cost.of_each([each.model for each in trained], task)
        return [
            Contender(each.name, each.genotype, each.figures, count.of(each.model, task), price, whole)
            for each, price, whole in zip(trained, by_parts, measured, strict=True)
        ]

    def _compared(self, found: Contender, baseline: Contender) -> Comparison:
        component = self.workshop.recipe.search.cost
        assert component is not None  # as the recipe's check says
        cost = component()
        return Comparison(
            found, baseline, component.name, unit_of(cost.units), self.workshop.retrained_prices(component)
        )

    def _tested_by_seed(self, model: Model, stage: str) -> list[dict[str, float]]:
        """Figures of each training, where there are several; it ends with the weights that are kept."""
        section = self.workshop.recipe.retrain
        if section.seeds == 1:
            return []
        repetition, rows = self._repetition(stage), []
        for seed in repetition.seeds:
            set_weights(model, repetition.weights(seed))
            rows.append({**repetition.outcome(seed), **self._tested(model, section.objective())})
        set_weights(model, self.workshop.directory.weights_in(stage))
        return rows

    def _export(self, model: Model, genotype: Genotype) -> None:
        recipe, directory = self.workshop.recipe, self.workshop.directory
        finished = finished_run(directory, recipe, genotype, model, self.workshop.data)
        directory.export.mkdir(exist_ok=True)
        for component in recipe.export:
            export(component, finished, directory.export, directory, recipe.report)


def _leaves(value: Any, path: str = "") -> dict[str, bool | float | str]:
    """The values in nested mappings and lists by their path; lists of values alone are one text."""
    if isinstance(value, Mapping):
        parts = [(f"{path}.{key}" if path else str(key), part) for key, part in value.items()]
        return {name: leaf for at, part in parts for name, leaf in _leaves(part, at).items()}
    if isinstance(value, (list, tuple)):
        if any(isinstance(part, (Mapping, list, tuple)) for part in value):
            return _leaves(dict(enumerate(value)), path)
        return {path: ", ".join(map(str, value))}
    return {path: value if isinstance(value, (bool, int, float, str)) else str(value)}
