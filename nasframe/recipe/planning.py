"""What a recipe will take, before it is paid for."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from nasframe.core import (
    Choice,
    Cost,
    FusedSum,
    Genotype,
    Interrupts,
    MixedInput,
    Model,
    Prices,
    Pruned,
    Space,
    SumOfInputs,
    Task,
    architectures_of,
    cheapest,
    choices_of,
    costs,
    dearest,
    derived,
    generator_for,
    kept_random_state,
    num_architectures,
    preview_of,
    price,
    read_genotype,
    sample,
    strongest,
    supernet,
)
from nasframe.errors import UnsupportedError
from nasframe.recipe.devices import device_named, threads_for
from nasframe.recipe.exploring import budgets_of, declared, trains_supernet
from nasframe.recipe.pricing import CostRange
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.rehearsal import OutOfMemory, Rehearsal, rehearse
from nasframe.registry import Component, registries

_KEPT_CHECKPOINTS: Final = 4  # of a stage: two, the best, and one that is being written

Say: TypeAlias = Callable[[str], None]
"""Hears what is being done, for people."""


@final
@dataclass(frozen=True)
class Network:
    """A network of the space, as `retrain.space` builds it.

    Attributes:
        genotype: Its architecture.
        multiply_adds: Of one input in evaluation mode.
        parameters: Without an auxiliary head.
        cost: By `search.cost`; None where there is none, or it was not measured.
    """

    genotype: Genotype
    multiply_adds: int
    parameters: int
    cost: float | None = None


@final
@dataclass(frozen=True)
class Fusion:
    """Which nodes of a supernet are computed together on the CPU (see `FusedSum`).

    Attributes:
        nodes: Nodes that add up mixtures of several inputs.
        fused: How many of them are computed together.
        apart: By name, how many candidates of these are computed on their own nevertheless.
    """

    nodes: int
    fused: int
    apart: Mapping[str, int]

    @classmethod
    def of(cls, model: Model) -> "Fusion":
        """That of a supernet in training."""
        nodes = [each for each in model.modules() if isinstance(each, (FusedSum, SumOfInputs, MixedInput))]
        fused = [node for node in nodes if isinstance(node, FusedSum)]
        candidates = {id(op): model.choices[name].candidates for name, op in model.mixed_ops.items()}
        apart = Counter(candidates[id(op)][position] for node in fused for op, position in node.apart())
        return cls(len(nodes), len(fused), dict(apart))


@final
@dataclass(frozen=True)
class StageCount:
    """What a stage of the search learns.

    Attributes:
        candidates: How many a choice has at most.
        alphas: Numbers that the upper level of its supernet learns.
    """

    candidates: int
    alphas: int


@final
@dataclass(frozen=True)
class Survey:
    """What can be counted without a step.

    Attributes:
        alphas: Numbers that the upper level of the supernet learns; None where none is trained.
        weights: Numbers that its lower level learns, likewise.
        choices: Choices of the space; None where nothing is searched.
        architectures: Genotypes that the space lets a search keep, likewise.
        networks: ``smallest`` and ``largest`` by multiply-adds and a ``random`` one, or the ``known``
            one of a recipe without a search.
        fusion: What of the supernet is computed together; None where none is trained.
        unknown: Why there is no smallest and largest; empty where there are.
        stages: Those of the search, if it has several.
        cost: What the architectures cost by `search.cost`; None as in `Network`.
    """

    alphas: int | None
    weights: int | None
    choices: int | None
    architectures: int | None
    networks: Mapping[str, Network]
    fusion: "Fusion | None" = None
    unknown: str = ""
    stages: tuple[StageCount, ...] = ()
    cost: CostRange | None = None

    @property
    def retrained(self) -> str:
        """The network that a retraining is measured with: the largest, as far as it is known."""
        return next(name for name in ("known", "largest", "random") if name in self.networks)


@final
@dataclass(frozen=True)
class StagePlan:
    """How a stage fits.

    Attributes:
        name: ``search`` (``search 2/3`` of one in stages), ``scoring`` or ``retrain``.
        rehearsal: What some steps took; None where memory was not enough.
        shortage: What was short; empty where nothing was.
        advice: What to do about it.
    """

    name: str
    rehearsal: Rehearsal | None
    shortage: str = ""
    advice: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Plan:
    """What the stages take on the device in hand.

    Attributes:
        device: Where they were measured.
        stages: In order.
        disk_folder: Where checkpoints would lie.
        disk_bytes: What they take there at most; None where a stage did not run.
        disk_free_bytes: What is free there.
    """

    device: str
    stages: tuple[StagePlan, ...]
    disk_folder: Path
    disk_bytes: int | None
    disk_free_bytes: int

    @property
    def fits_disk(self) -> bool:
        return self.disk_bytes is None or self.disk_bytes <= self.disk_free_bytes

    @property
    def fits(self) -> bool:
        return self.fits_disk and not any(stage.shortage for stage in self.stages)

    @property
    def seconds(self) -> float | None:
        """The whole run: what prepares it, steps, validations; None where a stage did not run."""
        found = [stage.rehearsal for stage in self.stages]
        ran = [each for each in found if each is not None]
        if len(ran) < len(found):
            return None
        return ran[0].prepare_seconds + sum(each.seconds for each in ran)


def _silent(text: str) -> None:
    """What is being done interests nobody."""


def survey(recipe: Recipe, say: Say = _silent, *, measure: bool = True) -> Survey:
    """Count what a recipe searches in, and its networks; no step is run.

    Args:
        recipe: From `load_recipe`.
        say: Hears what is being counted.
        measure: Whether a cost that is measured, such as a latency, is.

    Raises:
        NasframeError: What a run would be refused for.
    """
    task = task_of(recipe)
    retrained: Space = recipe.retrain.space(task)
    if recipe.genotype is not None:
        known = read_genotype(recipe.genotype, retrained)
        return Survey(None, None, None, None, {"known": _network(retrained, task, known)})
    space: Space = recipe.space(task)
    model, choices = None, choices_of(space)
    if trains_supernet(recipe.search.score):
        with kept_random_state(device_named("cpu")):
            model = supernet(space, recipe.search.mixed_op, fused=recipe.search.fused)
    genotypes, unknown = {"random": sample(space, generator_for(recipe.seed, "plan"))}, ""
    paid, cost_range = _searched_prices(recipe, retrained, choices, task, say, measure=measure)
    say("pricing the candidates of the space")
    try:
        prices = price(retrained, task, _cost("flops"))
        extremes = {
            "smallest": cheapest(choices, prices),
            "largest": dearest(choices, prices),
        }
        architectures = architectures_of(space)
        found = {name: architectures.of(each.choices) for name, each in extremes.items()}
        genotypes = {**found, **genotypes}
    except UnsupportedError as error:
        unknown = str(error)
    return Survey(
        alphas=None if model is None else _count(model, "upper"),
        weights=None if model is None else _count(model, "lower"),
        choices=len(choices),
        architectures=num_architectures(space),
        networks={name: _network(retrained, task, genotype, paid) for name, genotype in genotypes.items()},
        unknown=unknown,
        fusion=None if model is None else Fusion.of(model),
        stages=tuple(_stage_counts(recipe, task)),
        cost=cost_range,
    )


def _searched_prices(
    recipe: Recipe, retrained: Space, choices: Mapping[str, Choice], task: Task, say: Say, *, measure: bool
) -> tuple[Prices | None, CostRange | None]:
    """What the search pays for, as it would price it; None where it pays for nothing."""
    section = recipe.search
    if section.cost is None or ((made := section.cost()).is_measured and not measure):
        return None, None
    say(f"{'measuring' if made.is_measured else 'pricing'} the {section.cost.name} of the candidates")
    with threads_for(recipe.threads):
        prices = price(retrained, task, made)
    return prices, CostRange.of(choices, prices, section.cost, section.penalty)


def _stage_counts(recipe: Recipe, task: Task) -> Iterator[StageCount]:
    search, choices = recipe.search, choices_of(recipe.space(task))
    alike = {name: [0.0] * len(each.candidates) for name, each in choices.items()}
    left = max(map(len, alike.values()), default=0)
    for stage in search.stages:
        left = min(left, stage.keep or left)
        space = Pruned(stage.space(task), strongest(choices, alike, left))
        with kept_random_state(device_named("cpu")):
            model = supernet(space, search.mixed_op, fused=search.fused)
        yield StageCount(left, _count(model, "upper"))


def _count(model: Model, level: str) -> int:
    return sum(parameter.numel() for parameter in model.parameters_at(level))


def task_of(recipe: Recipe) -> Task:
    """The task of the data that a recipe names; the data are read where that does not tell it."""
    preview = preview_of(registries["datasets"][recipe.data.name], **recipe.data.settings)
    return recipe.data().task if preview is None else preview.task


def _cost(name: str) -> Cost:
    made: Cost = costs.component(name)()
    return made


def _network(space: Space, task: Task, genotype: Genotype, prices: Prices | None = None) -> Network:
    with kept_random_state(device_named("cpu")):
        model = derived(space, genotype)
    multiply_adds, parameters = (_cost(name).of(model, task) for name in ("flops", "parameters"))
    cost = None if prices is None else prices.of(genotype)
    return Network(genotype, round(multiply_adds), round(parameters), cost)


def plan(
    recipe: Recipe,
    found: Survey,
    plugins: Sequence[Path] = (),
    say: Say = _silent,
) -> Plan:
    """Run some steps of each stage, and say what a whole run takes.

    Args:
        recipe: From `load_recipe`.
        found: From `survey`.
        plugins: Modules of the user's that the recipe needs.
        say: Hears what is being measured.

    Raises:
        NasframeError: What a run would end with, but for a lack of memory.
    """
    with Interrupts():  # so that a SIGTERM leaves nothing behind either
        genotype = found.networks[found.retrained].genotype
        names = ["retrain"]
        if recipe.genotype is None and recipe.search.explorer is not None:
            names = ["scoring", "retrain"]
        if recipe.genotype is None and trains_supernet(recipe.search.score):
            names = ["search", *names] if recipe.search.explorer is not None else ["search", "retrain"]
        if names[0] == "search" and (count := len(recipe.search.stages)):
            names = [*(f"search {number}/{count}" for number in range(1, count + 1)), *names[1:]]
        measure = _Measure(recipe, genotype, tuple(plugins), say)
        stages = tuple(measure.stage(name) for name in names)
    sizes = [stage.rehearsal.checkpoint_bytes for stage in stages if stage.rehearsal is not None]
    runs = Path("runs").absolute()
    folder = next(each for each in (runs, *runs.parents) if each.exists())
    return Plan(
        device=str(device_named(recipe.device)),
        stages=stages,
        disk_folder=folder,
        disk_bytes=_KEPT_CHECKPOINTS * sum(sizes) if len(sizes) == len(stages) else None,
        disk_free_bytes=shutil.disk_usage(folder).free,
    )


@final
@dataclass(frozen=True)
class _Measure:
    recipe: Recipe
    genotype: Genotype
    plugins: tuple[Path, ...]
    say: Say

    def stage(self, name: str) -> StagePlan:
        """Rehearse a stage; where it does not fit, with smaller batches until one does."""
        found, shortage = self._rehearse(self.recipe, name)
        if name == "scoring":
            return StagePlan(name, None if found is None else _of_all_scores(found, self.recipe), shortage)
        section = self.recipe.retrain
        if name == "retrain" and found is not None:
            found = _times(found, self.recipe.retrain.seeds * (1 if section.baseline is None else 2))
        if not shortage:
            return StagePlan(name, found)
        return StagePlan(name, found, shortage, tuple(self._advice(name)))

    def _rehearse(self, recipe: Recipe, name: str) -> tuple[Rehearsal | None, str]:
        """What a stage takes, and what it is short of."""
        if name == "scoring":
            self.say(f"measuring scores, on {device_named(recipe.device)}")
        else:
            batch_size = _trainer(recipe, name).settings.get("batch_size")
            batches = "" if batch_size is None else f", batches of {batch_size}"
            batches += ", recomputed" if _section(recipe, name).recomputed else ""
            self.say(f"measuring steps of the {name}{batches}, on {device_named(recipe.device)}")
        try:
            skipped = _index(name) or 0
            found = rehearse(recipe, _stage(name), self.genotype, self.plugins, skipped=skipped)
        except OutOfMemory as error:
            return None, f"a step needs more memory than there is: {error}"
        peak, free = found.peak_bytes, found.free_bytes
        if peak is not None and free is not None and peak > free:
            return found, "a step takes more memory than was free"
        return found, ""

    def _advice(self, name: str) -> Iterator[str]:
        """What makes a stage fit: computing activations again, or batch sizes, halved each time."""
        stage = _stage(name)
        section = _section(self.recipe, name)
        if not section.recomputed:
            again = replace(self.recipe, **{stage: replace(section, recomputed=True)})
            with suppress(UnsupportedError):  # no part of the network can be
                if not self._rehearse(again, name)[1]:
                    yield f"{stage}.recomputed=true (measured: it fits), which changes nothing but the time"
                    return
        trainer = _trainer(self.recipe, name)
        whole = size = trainer.settings.get("batch_size", 1)
        shortage = "yes"
        while size > 1 and shortage:
            size //= 2
            smaller = replace(trainer, settings={**trainer.settings, "batch_size": size})
            shortage = self._rehearse(_with_trainer(self.recipe, name, smaller), name)[1]
        if shortage:
            yield (
                "fewer channels, cells or layers in the space: no smaller batch fits"
                if whole > 1
                else ("fewer channels, cells or layers in the space, or smaller batches")
            )
            return
        index = _index(name)
        path = f"{stage}.trainer" if index is None else f"{stage}.stages.{index}.trainer"
        yield f"{path}.batch_size={size} (measured: it fits)"
        parts = {path: trainer}
        if stage == "search":
            parts[f"{stage}.algorithm"] = self.recipe.search.algorithm
        chunked = [path for path, part in parts.items() if part.settings.get("chunks") == 1]
        if path in chunked:
            words = " ".join(f"{path}.chunks={-(-whole // size)}" for path in chunked)
            yield f"or {words}, which keeps the batch size (not measured)"


def _of_all_scores(found: Rehearsal, recipe: Recipe) -> Rehearsal:
    """What was measured of one architecture, for all of them where they are trained to be scored."""
    search = recipe.search
    if search.explorer is None or search.score is None or not declared(search.score, "takes_budgets"):
        return found
    explorer = search.explorer(recipe.space(task_of(recipe)), recipe.seed)
    budgets = budgets_of(explorer, search.evaluations)
    count = sum(budgets) / budgets[0]  # of trainings such as that which was measured
    return _with_steps(found, count)


def _times(found: Rehearsal, count: int) -> Rehearsal:
    """What was measured of one training, for several whose checkpoints are kept."""
    size = count * found.checkpoint_bytes
    return replace(_with_steps(found, count), num_epochs=count * found.num_epochs, checkpoint_bytes=size)


def _with_steps(found: Rehearsal, factor: float) -> Rehearsal:
    phases = [replace(phase, num_steps=round(factor * phase.num_steps)) for phase in found.phases]
    return replace(found, phases=tuple(phases))


def _stage(name: str) -> str:
    """The stage of the run, such as ``search`` of ``search 2/3``."""
    return name.partition(" ")[0]


def _index(name: str) -> int | None:
    """Which stage of the search it is, from 0 on; None for others."""
    number = name.partition(" ")[2].partition("/")[0]
    return int(number) - 1 if number else None


def _section(recipe: Recipe, name: str) -> Any:
    """`Search` or `Retrain`."""
    return getattr(recipe, _stage(name))


def _trainer(recipe: Recipe, name: str) -> Component[Any]:
    index = _index(name)
    section = _section(recipe, name) if index is None else recipe.search.stages[index]
    trainer: Component[Any] = section.trainer
    return trainer


def _with_trainer(recipe: Recipe, name: str, trainer: Component[Any]) -> Recipe:
    index = _index(name)
    if index is None:
        return replace(recipe, **{name: replace(_section(recipe, name), trainer=trainer)})
    stages = list(recipe.search.stages)
    stages[index] = replace(stages[index], trainer=trainer)
    return replace(recipe, search=replace(recipe.search, stages=tuple(stages)))
