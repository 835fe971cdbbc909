"""The stages of a run: search and derive, retrain, report and export; plain data in between."""

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, final

import torch

from nasframe.core import (
    Algorithm,
    Alphas,
    Benchmark,
    Conclusion,
    Curves,
    Dataset,
    Deriver,
    Executor,
    Explorer,
    Exported,
    Genotype,
    Graph,
    Guard,
    HeatMap,
    Idle,
    Interrupts,
    Job,
    Model,
    Objective,
    Penalty,
    Predictor,
    Progress,
    Record,
    Score,
    Space,
    Standing,
    Task,
    Testbed,
    Trainer,
    algorithms,
    choices_of,
    cost_scale,
    costs,
    derived,
    exporters,
    generator_for,
    hold_out,
    inherit,
    price,
    reaches_output,
    read_genotype,
    sample,
    seed_for,
    supernet,
)
from nasframe.core.curves import Series
from nasframe.core.dataset import checked
from nasframe.core.json_text import read_json_file
from nasframe.core.ranks import is_first, num_ranks, shared
from nasframe.core.storage import write_whole
from nasframe.core.tensor_file import save_weights
from nasframe.errors import (
    FormatError,
    HealthWarning,
    TrainingError,
    UnsupportedError,
)
from nasframe.recipe.additions import Additions, figures_of
from nasframe.recipe.ahead import Ahead
from nasframe.recipe.confusion import Counted, drawn_confusion
from nasframe.recipe.consumption import EnergyMeter
from nasframe.recipe.devices import default_threads, kernels_for, lost_by, peak_memory, threads_for
from nasframe.recipe.discovery import import_modules, imported_modules
from nasframe.recipe.evaluation import Evaluation, evaluate
from nasframe.recipe.exploring import (
    Answer,
    CostLimit,
    Exploration,
    Outcome,
    Scored,
    ScoreLog,
    ScoreTraining,
    outcome_of,
    trains_supernet,
)
from nasframe.recipe.exporting import export, finished_run, report_of
from nasframe.recipe.health import CUT, SearchHealth, Subject
from nasframe.recipe.joining import check_ranks, device_of_rank, held_directory, joined, run_directory_for
from nasframe.recipe.loading import load_recipe
from nasframe.recipe.model_folder import describe, read_model_folder, set_weights
from nasframe.recipe.notebook import shown_run
from nasframe.recipe.pricing import Pricing
from nasframe.recipe.progression import Progression, Stretch
from nasframe.recipe.provenance import provenance_of
from nasframe.recipe.recipe import Recipe, Retrain, Search
from nasframe.recipe.repetition import Repetition, spread
from nasframe.recipe.reporting import health_of, reported_graphs, write_report
from nasframe.recipe.run_directory import RunDirectory
from nasframe.recipe.sample_inputs import sample_inputs
from nasframe.recipe.schema import dump_recipe, recipe_to_mapping
from nasframe.recipe.tracking import Tracking
from nasframe.registry import Component
from nasframe.types import Metrics

_ECHO_SECONDS: Final = 2.0  # in which torchrun has passed a signal on

Prefer: TypeAlias = Callable[[str], None]
"""Hears which architecture a search prefers, in one line, when that changes."""

Fit: TypeAlias = Callable[[Trainer, Job], None]
"""Trains the model of a job by a trainer."""


@final
@dataclass(frozen=True)
class Run:
    """What a run left behind.

    Attributes:
        folder: The run directory.
        genotype: The architecture that was found.
        metrics: Figures of the retrained network, such as ``test_accuracy`` and ``parameters``.
        report: The report for people.
        architecture: The key of the architecture (see `Space.key`), where its space has keys.
        health: How the search went, in a sentence; empty where nothing was looked at.
    """

    folder: Path
    genotype: Genotype
    metrics: dict[str, float]
    report: Path
    architecture: str | None = None
    health: str = ""

    @property
    def alphas(self) -> Alphas:
        """The weights of the candidates over the epochs of the search; empty where there was none."""
        return Alphas(_reported(self.folder, "alphas"))

    @property
    def curves(self) -> dict[str, Curves]:
        """The figures over the epochs of ``search`` and ``retrain``, and of the search's ``health``."""
        stages: dict[str, dict[str, Series]] = {}
        for tag, values in _reported(self.folder, "curves").items():
            stage, _, name = tag.partition("/")
            stages.setdefault(stage, {})[name] = values
        return {stage: Curves(curves) for stage, curves in stages.items()}

    def _repr_html_(self) -> str:
        return shown_run(self.folder, self.metrics, self.health, self.genotype)

    def network(self) -> Model:
        """The retrained network, in evaluation mode on the CPU; takes normalized inputs."""
        recipe = self._recipe()
        described = _reported(self.folder, "task")
        task = Task(tuple(described["input_shape"]), described["num_outputs"], described.get("vocabulary"))
        model = derived(recipe.retrain.space(task), self.genotype)
        set_weights(model, self.folder / "retrain" / "model.safetensors")
        return model.eval()

    def predictor(self) -> Predictor:
        """The retrained network with all that it takes to ask it about files."""
        if RunDirectory(self.folder).description.is_file():
            return read_model_folder(self.folder / "retrain")
        recipe = self._recipe()
        data, objective = recipe.data(), recipe.retrain.objective()
        return Predictor(self.network(), data.task, data.preprocess, objective, data.class_names, data.reader)

    def evaluate(self, split: Literal["train", "valid", "test"] = "test") -> Evaluation:
        """What the retrained network gets right and wrong, on the recipe's device.

        Args:
            split: `test`; or of the examples that are not for testing, those that the retraining held out
                (`valid`), or learned from (`train`).

        Raises:
            DataError: There are no such examples.
        """
        recipe = self._recipe()
        device = device_of_rank(recipe.device)
        kernels = kernels_for(device, deterministic=recipe.deterministic)
        with threads_for(recipe.threads), kernels:
            return evaluate(recipe, self.network().to(device), checked(recipe.data()), split)

    def export(self, exporter: str, folder: Path | None = None) -> Exported:
        """Write the retrained network in another format, compared with it on test examples.

        How far they were off is noted in ``checks.json`` beside the file; what else was measured, in
        ``report.json`` under ``exports``.

        Args:
            exporter: Its registered name, with its defaults.
            folder: By default ``export`` in the run directory.

        Raises:
            LookupError: There is no such exporter.
            UnsupportedError: The format cannot hold the network, or what reads it is not installed.
        """
        write, recipe = exporters.component(exporter), self._recipe()
        directory = RunDirectory(self.folder)
        with threads_for(recipe.threads):
            finished = finished_run(directory, recipe, self.genotype, self.network(), recipe.data())
            return export(write, finished, folder or directory.export, directory, recipe.report)

    @property
    def exported(self) -> list[Path]:
        """The files in ``export`` of the run directory that were compared with the network."""
        noted = RunDirectory(self.folder).export / "checks.json"
        return [noted.with_name(name) for name in sorted(read_json_file(noted))] if noted.exists() else []

    def write_report(self) -> Path:
        """Write the report for people again, from ``report.json``: such as with a newer nasframe."""
        return self._recipe().report().write(self.folder)

    def _recipe(self) -> Recipe:
        return load_recipe(self.folder / "recipe.yaml", check=False, outside=True)


def run(
    recipe: Recipe,
    out: str | Path | None = None,
    progress: Progress | None = None,
    *,
    prefer: Prefer | None = None,
    executor: Callable[[], Executor] | None = None,
) -> Run:
    """Take a recipe through the whole search.

    Processes that a launcher such as torchrun started together share each batch.

    Args:
        recipe: From `load_recipe`.
        out: The run directory; by default a new one below ``runs/<name>/``.
        progress: Hears each step.
        prefer: Hears which architecture the search prefers, in one line, when that changes.
        executor: Where the scores of an explorer are worked out, side by side.

    Raises:
        UnsupportedError: There is an executor, but nothing that it could do.
    """
    return _run(recipe, out, progress or _silent, prefer=prefer, executor=executor)


def run_fitted_by(recipe: Recipe, out: Path, fit: Fit, progress: Progress | None = None) -> Run:
    """Take a recipe through the whole search, where `fit` is what trains: such as to watch, or to stop.

    Args:
        recipe: From `load_recipe`.
        out: A new run directory.
        fit: Called in place of ``trainer.fit(job)``.
        progress: Hears each score of an explorer.
    """
    return _run(recipe, out, progress or _silent, fit)


def _run(
    recipe: Recipe,
    out: str | Path | None,
    progress: Progress,
    fit: Fit | None = None,
    prefer: Prefer | None = None,
    executor: Callable[[], Executor] | None = None,
) -> Run:
    folder = None if out is None else Path(out)
    _check_executor(recipe, executor)
    with joined():
        check_ranks(recipe)
        device, text = str(device_of_rank(recipe.device)), dump_recipe(recipe)

        def create() -> RunDirectory:
            threads = recipe.threads or default_threads()
            directory = RunDirectory.create(folder, recipe.name, text, device, threads)
            if recipe.places:
                text_of_origins = json.dumps(provenance_of(recipe), indent=1)
                write_whole(directory.provenance, f"{text_of_origins}\n")
            return directory

        with held_directory(lambda: run_directory_for(text, folder, create)) as directory:
            return _Stages(recipe, directory, progress, fit, prefer, executor).run()


def resume(
    run_dir: Path,
    progress: Progress | None = None,
    *,
    prefer: Prefer | None = None,
    outside: bool = False,
    executor: Callable[[], Executor] | None = None,
) -> Run:
    """Go on with a run from its last checkpoint, or its first unfinished stage.

    Args:
        run_dir: What `run` left behind.
        progress: Hears each step.
        prefer: Hears which architecture the search prefers, in one line, when that changes.
        outside: Let it write files outside of the run directory, and of the folder that this runs in, that
            its recipe names.
        executor: As `run`; it need not be that of before.

    Raises:
        FormatError: `run_dir` is not a run directory.
        StorageError: Another process works on it.
    """

    def opened() -> RunDirectory:
        directory = RunDirectory.open(run_dir)
        load_recipe(directory.recipe, check=False, outside=outside)
        return directory

    with joined(), held_directory(opened) as directory:
        # the other ranks' copy lies elsewhere, so that nothing is inside of it; the first has looked
        recipe = load_recipe(directory.recipe, check=False, outside=outside or not is_first())
        check_ranks(recipe)
        _check_executor(recipe, executor)
        return _Stages(recipe, directory, progress or _silent, prefer=prefer, executor=executor).run()


def _check_executor(recipe: Recipe, executor: Callable[[], Executor] | None) -> None:
    search = recipe.search
    if executor is not None and (recipe.genotype or not search.score or trains_supernet(search.score)):
        what = "one supernet is trained" if recipe.genotype is None else "the architecture is known"
        raise UnsupportedError(
            "search.explorer: must ask for scores that need no trained supernet, to be worked out "
            f"side by side, but {what}; leave out --jobs and --on"
        )


def score_elsewhere(folder: Path, modules: tuple[Path, ...], genotype: Genotype, budget: float) -> Outcome:
    """Score an architecture for a run of another process.

    Args:
        folder: The run directory.
        modules: The user's own, imported first.
        genotype: The architecture.
        budget: Share of the whole budget.
    """
    import_modules(modules)
    return _scoring(folder).score(genotype, budget)


@lru_cache(maxsize=1)
def _scoring(folder: Path) -> "_Stages":
    """What scores for a run; data are read once by each process."""
    recipe = load_recipe(folder / "recipe.yaml", check=False, outside=True)
    return _Stages(recipe, RunDirectory(folder), _silent)


def _silent(stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
    """Progress that nobody watches."""


def _plainly(trainer: Trainer, job: Job) -> None:
    trainer.fit(job)


@final
class _Stages:
    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        progress: Progress,
        fit: Fit | None = None,
        prefer: Prefer | None = None,
        executor: Callable[[], Executor] | None = None,
    ) -> None:
        self._recipe, self._directory, self._progress = recipe, directory, progress
        self._executor = executor
        self._fit_by = fit or _plainly
        self._prefer = prefer
        self._preferred: Genotype | None = None
        self._device = device_of_rank(recipe.device)
        self._interrupts = Interrupts(_ECHO_SECONDS if num_ranks() > 1 else 0.0)
        self._steps: dict[str, int] = dict(directory.status()["steps"])
        self._until_told = ExitStack()
        self._open_trackers: dict[str, list[Tracking]] = {}

    @cached_property
    def _data(self) -> Dataset:
        data: Dataset = self._recipe.data()
        return checked(data)

    @cached_property
    def _benchmark(self) -> Benchmark | None:
        component = self._recipe.search.benchmark
        return None if component is None else component()

    def _standing(self, genotype: Genotype) -> Standing | None:
        return None if self._benchmark is None else self._benchmark.standing(genotype)

    def run(self) -> Run:
        self._directory.update_status(ended="running", reason=None)
        deterministic = self._recipe.deterministic
        if sentence := lost_by(self._device, deterministic=deterministic):
            self._directory.note(sentence)
        try:
            kernels = kernels_for(self._device, deterministic=deterministic)
            with threads_for(self._recipe.threads), self._interrupts, kernels:
                self._run_stages()
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            reason = None if stopped else f"{type(error).__name__}: {error}"
            self._directory.update_status(ended="interrupted" if stopped else "failed", reason=reason)
            raise
        self._directory.update_status(ended="done", reason=None)
        return shared(lambda: open_run(self._directory.root))

    def _run_stages(self) -> None:
        stages = {"search": self._search, "retrain": self._retrain, "report": self._report}
        with ExitStack() as self._until_told:
            for name, stage in stages.items():
                if name not in self._directory.status()["finished"]:
                    with self._timed(name):
                        stage()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Add up a stage's time over all its attempts, and note it when it is finished."""
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
                steps=self._steps,
                finished=[*status["finished"], *finished],
            )

    def _consumed(self, stage: str, status: Mapping[str, Any]) -> dict[str, Any]:
        """Energy of a stage over all its attempts, and the most memory so far; each where it can be told."""
        found: dict[str, Any] = {}
        before = status.get("joules", {})
        if (joules := self._energy.joules) is not None:
            found["joules"] = {**before, stage: round(before.get(stage, 0.0) + joules, 3)}
        if (peak := peak_memory(self._device)) is not None:
            found["peak_bytes"] = max(peak, status.get("peak_bytes", 0))
        return found

    def _hear(self, stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
        self._steps[stage] = step
        self._energy.read()
        self._progress(stage, step, num_steps, epoch, metrics)

    def _hear_preferred(self, genotype: Genotype) -> None:
        if self._prefer is not None and genotype != self._preferred:
            self._preferred = genotype
            self._prefer(genotype.summary)

    def _search(self) -> None:
        if self._recipe.genotype is not None:
            self._directory.stage("search")
            known = read_genotype(self._recipe.genotype, self._recipe.retrain.space(self._data.task))
            self._standing(known)  # refused now, not after the retraining
            known.save(self._directory.genotype)
            return
        section = self._recipe.search
        self._check_findings()
        space: Space = self._recipe.space(self._data.task)
        if section.explorer is not None:
            self._explore(section.explorer, space)
            return
        deriver = section.deriver()
        if section.stages:

            def train(space: Space, model: Model, section: Search, stretch: Stretch) -> int:
                return self._train_supernet(space, model, section, deriver, stretch)[0]

            model = Progression(self._recipe, self._data.task, self._directory.stage).run(train)
            derive: Callable[[], Genotype] = partial(deriver.derive, model)
        else:
            model, stretch = self._supernet(space), Stretch("search", self._recipe.seed, "search")
            _, derive = self._train_supernet(space, model, section, deriver, stretch)
        found = deriver.derive_validated(model, self._validate) if deriver.validates else derive()
        found = shared(lambda: found)
        self._bequeath(found, model)
        self._keep_found(found, space)

    def _train_supernet(
        self, space: Space, model: Model, section: Search, deriver: Deriver, stretch: Stretch
    ) -> tuple[int, Callable[[], Genotype]]:
        """Search in a supernet; returns the step of the last record, and what derives the architecture."""
        objective = self._recipe.objective()
        make_algorithm: Callable[[Model, Objective], Algorithm] = section.algorithm
        pricing = self._pricing(model)
        if pricing is not None:
            objective, make_algorithm = pricing.objective(objective), pricing.algorithm(make_algorithm)

        additions = Additions(section.regularizers, section.perturbation)
        objective, make_algorithm = additions.objective(objective, model), additions.algorithm(make_algorithm)

        def derive() -> Genotype:
            return deriver.derive(model) if pricing is None else pricing.derive(deriver)

        def describe(record: Record) -> Record:
            genotype = derive()
            self._hear_preferred(genotype)
            record = _with_alphas(record, model, _graphs(space, genotype))
            record = _with_truth(record, self._standing(genotype))
            record = _with_figures(record, {**stretch.figures, **figures_of(objective)})
            return record if pricing is None else _with_figures(record, pricing.figures(genotype))

        guard = self._guard(model, space, objective, derive, stretch)
        last = self._fit("search", section, model, objective, make_algorithm, describe, guard, stretch)
        return last, derive

    def _keep_found(self, found: Genotype, space: Space) -> None:
        found.save(self._directory.genotype)
        if reaches_output(space, found, self._data.task, Idle.in_space(space)) is False:
            self._directory.note(f"{CUT}: it answers all inputs alike")
            warnings.warn(f"derive: {CUT}: it answers all inputs alike", HealthWarning, stacklevel=2)

    def _guard(
        self,
        model: Model,
        space: Space,
        objective: Objective,
        derive: Callable[[], Genotype],
        stretch: Stretch,
    ) -> Guard | None:
        """What looks at the search after each epoch; at each of its stages by itself."""
        if not len(model.mixed_ops):
            return None

        def tell(summary: dict[str, Any]) -> None:
            if self._recipe.search.stages:
                if summary["first"]:
                    self._directory.note(f"{stretch.label}: {summary['first']}")
                summary = {**summary, "verdict": f"{stretch.label}: {summary['verdict']}"}
            self._directory.update_status(health=summary)

        _, valid = hold_out(self._data.train, self._recipe.search.valid_fraction, self._recipe.seed)
        subject = Subject(
            model=model,
            space=space,
            task=self._data.task,
            objective=objective,
            derive=derive,
            valid=valid,
            preprocess=self._data.preprocess,
            device=self._device,
            seed=self._recipe.seed,
        )
        return SearchHealth(
            self._recipe.search.health,
            subject,
            told=tell,
            keep=lambda genotype: genotype.save(self._directory.healthy_genotype),
        )

    def _validate(self, model: Model) -> float:
        """What the model is worth on the held-out examples (see `Validate`)."""
        section, objective = self._recipe.search, self._recipe.objective()
        _, valid = hold_out(self._data.train, section.valid_fraction, self._recipe.seed)
        trainer = (section.stages[-1] if section.stages else section).trainer()
        figures = trainer.evaluate(model, objective, valid, self._data.preprocess)
        return float(figures["accuracy"] if "accuracy" in figures else -figures["loss"])

    def _supernet(self, space: Space) -> Model:
        section = self._recipe.search
        torch.manual_seed(seed_for(self._recipe.seed, "search", "init"))
        model = supernet(space, section.mixed_op, fused=section.fused, recomputed=section.recomputed)
        if self._recipe.retrain.inherit:  # refused now, not after the search
            drawn = sample(space, generator_for(self._recipe.seed, "check"))
            inherit(derived(self._recipe.retrain.space(self._data.task), drawn), model, drawn)
        return model

    def _explore(self, component: Component[Explorer], space: Space) -> None:
        """Let an explorer find the architecture."""
        section = self._recipe.search
        left_out = {"all": "the architecture is found by an explorer, not read off alphas"}
        self._directory.update_status(health={"verdict": "", "left_out": left_out})
        if section.score is None:
            raise UnsupportedError("search.explorer: must have a search.score to ask for; set one")
        trained, num_records = None, 0
        if trains_supernet(section.score):
            trained = model = self._supernet(space)
            additions, has_alphas = (
                Additions(section.regularizers, section.perturbation),
                "alpha" in model.kinds(),
            )
            objective = additions.objective(self._recipe.objective(), model)
            make_algorithm = additions.algorithm(section.algorithm)

            def describe(record: Record) -> Record:
                record = _with_figures(record, figures_of(objective))
                return _with_alphas(record, model, {}) if has_alphas else record

            num_records = self._fit("search", section, model, objective, make_algorithm, describe)
        limit = self._cost_limit(space)
        self._directory.stage("search")
        with self._ahead(space) as ahead:
            exploration = Exploration(
                component(space, self._recipe.seed),
                lambda: self._score(space, trained),
                ScoreLog(self._directory.scores),
                section.evaluations,
                self._recipe.seed,
                self._interrupts,
                limit,
                ahead,
            )
            best = self._explored(exploration, space, num_records + 1)
        self._bequeath(best.genotype, trained)
        self._keep_found(best.genotype, space)

    @contextmanager
    def _ahead(self, space: Space) -> Iterator[Answer | None]:
        """What works scores out side by side, if that is wanted."""
        if self._executor is None:
            yield None
            return
        root = self._directory.root
        log = ScoreLog(self._directory.stage("search") / "ahead.jsonl")
        score = partial(score_elsewhere, root, imported_modules())
        with self._executor().opened(root, lasting=True) as workers:
            yield Ahead(workers, log, score, space).outcome

    def score(self, genotype: Genotype, budget: float) -> Outcome:
        """Score an architecture with new weights, in a process that does nothing else."""
        recipe = self._recipe
        kernels = kernels_for(self._device, deterministic=recipe.deterministic)
        with threads_for(recipe.threads or 1), self._interrupts, kernels:
            return outcome_of(self._own_score, genotype, budget, recipe.seed)

    @cached_property
    def _own_score(self) -> Score:
        return self._score(self._recipe.space(self._data.task), None)

    def _bequeath(self, found: Genotype, model: Model | None) -> None:
        """Write what an architecture inherits from the supernet, if the retraining begins with that."""
        section = self._recipe.retrain
        if section.inherit and model is not None:
            heir = derived(section.space(self._data.task), found)
            save_weights(inherit(heir, model, found).state_dict(), self._directory.inherited)

    def _explored(self, exploration: Exploration, space: Space, start: int) -> Scored:
        """The best of what an explorer had scored; each score is a record, from the step `start` on."""
        best: Scored | None = None
        with self._tracking("search") as start_tracking:
            track = start_tracking(start)
            for index, (scored, found) in enumerate(exploration.run()):
                record = Record(start + index, is_last=index + 1 == exploration.evaluations)
                if exploration.explorer.uses_budgets:
                    record = _with_figures(record, {"budget": scored.budget})
                if scored.score is not None:
                    record = _with_figures(record, {"score": scored.score})
                if found is not None:
                    told = self._told(exploration, found)
                    record = _with_figures(record, {"best_score": found.value, **told})
                    if found is not best:
                        self._hear_preferred(found.genotype)
                        record = replace(record, graphs=_graphs(space, found.genotype))
                best = found
                with self._interrupts.deferred():
                    track(record)
                figures = {"score": scored.value, "best_score": -math.inf if best is None else best.value}
                self._hear("search", index + 1, exploration.evaluations, 0, figures)
        if best is None:
            raise TrainingError(
                f"search: some of the {exploration.evaluations} architectures must have a score, but none "
                "has; look at what was told of them, and choose another search.score or its settings"
            )
        return best

    def _told(self, exploration: Exploration, best: Scored) -> dict[str, float]:
        """What else is known of the best architecture."""
        truth = _truth(self._standing(best.genotype))
        return truth if exploration.limit is None else truth | exploration.limit.figures(best.genotype)

    def _cost_limit(self, space: Space) -> CostLimit | None:
        """What the networks that will be retrained may cost."""
        section, task = self._recipe.search, self._data.task
        if section.cost is None:
            return None
        cost = section.cost()
        prices = self._directory.prices(lambda: price(self._recipe.retrain.space(task), task, cost))
        penalty: Penalty = section.penalty(cost_scale(choices_of(space), prices, cost.units))
        return None if penalty.max_cost is None else CostLimit(prices, penalty.max_cost)

    def _score(self, space: Space, model: Model | None) -> Score:
        section, data = self._recipe.search, self._data
        train, valid = hold_out(data.train, section.valid_fraction, self._recipe.seed)
        objective = self._recipe.objective()
        training = ScoreTraining(
            section.trainer,
            data,
            train,
            valid,
            objective,
            section.augment,
            self._recipe.seed,
            self._device,
            self._directory.stage("search") / "scoring",
            self._interrupts,
            self._fit_by,
        )
        testbed = Testbed(
            space,
            data.task,
            objective,
            train,
            data.preprocess,
            self._recipe.seed,
            self._device,
            training.evaluate,
            training,
            model,
        )
        assert section.score is not None  # as the recipe's check says
        return section.score(testbed)

    def _pricing(self, model: Model) -> Pricing | None:
        """Prices of the networks that will be retrained, for they are what the cost is of."""
        section, task = self._recipe.search, self._data.task
        if section.cost is None:
            return None
        cost = section.cost()
        prices = self._directory.prices(lambda: price(self._recipe.retrain.space(task), task, cost))
        return Pricing.of(model, prices, cost, section.penalty)

    def _check_findings(self) -> None:
        """Refuse what could not take what the search finds, before that is paid for."""
        task = self._data.task
        drawn = sample(self._recipe.space(task), generator_for(self._recipe.seed, "check"))
        self._standing(drawn)
        try:
            derived(self._recipe.retrain.space(task), drawn, recomputed=self._recipe.retrain.recomputed)
        except (FormatError, UnsupportedError) as error:
            raise UnsupportedError(
                f"retrain.space: must build what a search of `space` finds, but cannot: {error}"
            ) from error

    def _retrain(self) -> None:
        section = self._recipe.retrain
        space: Space = section.space(self._data.task)
        genotype = Genotype.load(self._directory.genotype)
        if (key := space.key(genotype)) is not None:
            self._directory.update_status(architecture=key)
        if section.seeds > 1:
            self._repetition.run(partial(self._retrained, space, genotype), self._directory.weights)
        else:
            stretch = Stretch("retrain", self._recipe.seed, "retrain")
            self._train_derived(space, genotype, stretch, self._directory.weights)
        self._describe(genotype)

    @property
    def _repetition(self) -> Repetition:
        return Repetition(self._recipe, self._directory.stage("retrain"))

    def _retrained(self, space: Space, genotype: Genotype, stretch: Stretch, weights: Path) -> Metrics:
        """What a network is worth on held-out examples after a training, see `Repetition`."""
        section, data = self._recipe.retrain, self._data
        model = self._train_derived(space, genotype, stretch, weights)
        _, valid = hold_out(data.train, section.valid_fraction, self._recipe.seed)
        return section.trainer().evaluate(model, section.objective(), valid, data.preprocess)

    def _train_derived(self, space: Space, genotype: Genotype, stretch: Stretch, weights: Path) -> Model:
        """Train the derived network by a seed, and write its weights."""
        section = self._recipe.retrain
        torch.manual_seed(seed_for(stretch.seed, "retrain", "init"))
        model = derived(space, genotype, recomputed=section.recomputed)
        if section.inherit:
            set_weights(model, self._directory.inherited)
        algorithm = algorithms.component("weights_only")
        objective = Counted(section.objective(), model)

        def with_confusion(record: Record) -> Record:
            return replace(record, heat_maps=self._confusion(objective, "valid"))

        self._fit("retrain", section, model, objective, algorithm, with_confusion, stretch=stretch)
        save_weights(model.state_dict(), weights)
        return model

    def _confusion(self, objective: Counted, split: str) -> dict[str, HeatMap]:
        """What the classes of a split were taken for, by tag; empty where there are none."""
        return drawn_confusion(objective.take(), self._data.class_names, split)

    def _describe(self, genotype: Genotype) -> None:
        """Make a folder of the network that it can be built from without the data, if that is plain."""
        section = self._recipe.retrain
        try:
            found = describe(self._recipe.name, self._data, section.space, section.objective, genotype)
        except UnsupportedError:
            return  # whoever wants such a folder is told why
        write_whole(self._directory.description, json.dumps(found, indent=2) + "\n")

    def _fit(
        self,
        stage: str,
        section: Search | Retrain,
        model: Model,
        objective: Objective,
        make_algorithm: Callable[[Model, Objective], Any],
        describe: Callable[[Record], Record],
        guard: Guard | None = None,
        stretch: Stretch | None = None,
    ) -> int:
        """Train a model; returns the step of the last record."""
        stretch = stretch or Stretch(stage, self._recipe.seed, stage)
        folder, seed, label, before = stretch.folder, stretch.seed, stretch.label, stretch.before
        train, valid = hold_out(self._data.train, section.valid_fraction, self._recipe.seed)
        augment = [component() for component in section.augment]
        last = before

        def seen() -> dict[str, torch.Tensor]:
            return sample_inputs(stage, self._data, train, augment, seed, self._device)

        name = stretch.records or stage
        with ExitStack() as until_trained:
            until = self._until_told if name == "retrain" else until_trained
            open_trackers = until.enter_context(self._tracking(name, seen))

            def start_tracking(start: int) -> Callable[[Record], None]:
                nonlocal last
                last = before + start - 1
                precision = self._directory.status().get("precision", {})
                self._directory.update_status(precision={**precision, stage: model.precision})
                log = open_trackers(before + start)

                def track(record: Record) -> None:
                    nonlocal last
                    last = before + record.step
                    log(replace(record, step=last))

                return track

            def hear(stage: str, step: int, num_steps: int, epoch: int, metrics: Metrics) -> None:
                self._hear(label, step, num_steps, epoch, metrics)

            self._fit_by(
                section.trainer(),
                Job(
                    stage=stage,
                    seed=seed,
                    device=self._device,
                    model=model,
                    objective=objective,
                    make_algorithm=make_algorithm,
                    train=train,
                    valid=valid,
                    preprocess=self._data.preprocess,
                    augment=augment,
                    describe=describe,
                    start_tracking=start_tracking,
                    checkpoints=self._directory.checkpoints(folder),
                    progress=hear,
                    note=self._directory.note,
                    interrupts=self._interrupts,
                    guard=guard,
                    label=label,
                    num_outputs=self._data.task.num_outputs,
                ),
            )
        return last

    @contextmanager
    def _tracking(
        self, name: str, seen: Callable[[], dict[str, torch.Tensor]] = dict
    ) -> Iterator[Callable[[int], Callable[[Record], None]]]:
        """What opens the trackers of a stage, by its folder, at a step, and returns where records go.

        Args:
            name: Of the folder.
            seen: Draws training inputs, for the first record.
        """
        tracking: list[Tracking] = []

        def start_tracking(start: int) -> Callable[[Record], None]:
            tracking.extend(self._trackers(name, start))
            self._open_trackers[name] = tracking

            def track(record: Record) -> None:
                if record.step == 1 and tracking:
                    recipe = _as_block(self._directory.recipe.read_text(encoding="utf-8"))
                    record = replace(record, texts={"recipe": recipe}, images=seen())
                for each in tracking:
                    each.log(record)
                self._directory.update_status(
                    steps=self._steps,
                    records={**self._directory.status().get("records", {}), name: record.step},
                )

            return track

        try:
            yield start_tracking
        finally:
            for each in tracking:
                each.close()

    def _trackers(self, name: str, start: int) -> list[Tracking]:
        folder = self._directory.stage(name)
        components = self._recipe.trackers if is_first() else ()
        return [Tracking(component, folder, start) for component in components]

    def _conclude(self, conclusion: Conclusion) -> None:
        """Tell the trackers of the retraining that is kept what the run came to.

        They are open if that was the only one and was made just now.
        """
        name = "retrain"
        if self._recipe.retrain.seeds > 1:
            name = self._repetition.stretch_of(self._repetition.kept).folder
        with ExitStack() as closing:
            if name != "retrain" or not self._open_trackers.get(name):
                last = self._directory.status().get("records", {}).get(name, 0)
                self._open_trackers[name] = self._trackers(name, last + 1)
                for each in self._open_trackers[name]:
                    closing.callback(each.close)
            for each in self._open_trackers[name]:
                each.conclude(conclusion)

    def _report(self) -> None:
        section = self._recipe.retrain
        space: Space = section.space(self._data.task)
        genotype = Genotype.load(self._directory.genotype)
        model = derived(space, genotype)
        set_weights(model, self._directory.weights)
        model.to(self._device)
        objective = Counted(section.objective(), model)
        metrics = self._tested(model, objective)
        confusion = self._confusion(objective, "test")
        rows = self._tested_by_seed(model)
        if not is_first():
            return
        metrics |= spread(rows, "test_")
        metrics["parameters"] = costs.component("parameters")().of(model, self._data.task)
        standing = self._standing(genotype)
        metrics |= _truth(standing)
        task = self._data.task
        write_report(self._directory, self._recipe, genotype, space, metrics, task, standing, rows)
        verdict = str(health_of(self._directory).get("verdict", ""))
        self._conclude(Conclusion(_leaves(recipe_to_mapping(self._recipe)), metrics, confusion, verdict))
        report = self._recipe.report().write(self._directory.root)
        self._directory.update_status(report=os.path.relpath(report, self._directory.root))
        if self._recipe.export:
            model.cpu().eval()
            finished = finished_run(self._directory, self._recipe, genotype, model, self._data)
            self._directory.export.mkdir(exist_ok=True)
            for component in self._recipe.export:
                export(component, finished, self._directory.export, self._directory, self._recipe.report)

    def _tested(self, model: Model, objective: Objective) -> dict[str, float]:
        """Figures on all test examples."""
        section, data = self._recipe.retrain, self._data
        tested = section.trainer().evaluate(model, objective, data.test, data.preprocess)
        return {f"test_{name}": float(value) for name, value in tested.items()}

    def _tested_by_seed(self, model: Model) -> list[dict[str, float]]:
        """Figures of each training, where there are several; it ends with the weights that are kept."""
        if self._recipe.retrain.seeds == 1:
            return []
        repetition, rows = self._repetition, []
        for seed in repetition.seeds:
            set_weights(model, repetition.weights(seed))
            rows.append({**repetition.outcome(seed), **self._tested(model, self._recipe.retrain.objective())})
        set_weights(model, self._directory.weights)
        return rows


def open_run(folder: Path) -> Run:
    """A finished run.

    Raises:
        FormatError: The folder is not a run directory, or the run is not finished.
    """
    directory = RunDirectory.open(folder)
    if "report" not in directory.status()["finished"]:
        raise FormatError(f"{folder}: must be a finished run; finish it with `nasframe resume {folder}`")
    metrics = _reported(directory.root, "metrics")
    report = directory.root / directory.status().get("report", "report.html")
    genotype, key = Genotype.load(directory.genotype), directory.status().get("architecture")
    genotype = replace(genotype, graphs=reported_graphs(directory.report))
    verdict = str(health_of(directory).get("verdict", ""))
    return Run(directory.root, genotype, metrics, report, key if isinstance(key, str) else None, verdict)


def _reported(folder: Path, part: str) -> dict[str, Any]:
    """An object that the report has."""
    found = report_of(folder / "report.json").get(part)
    if not isinstance(found, dict):
        raise FormatError(f"{folder / 'report.json'}: must be the report of a run, but has no `{part}`")
    return found


def _as_block(text: str) -> str:
    """A text as Markdown that shows it as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())


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


def _graphs(space: Space, genotype: Genotype) -> dict[str, Graph]:
    return {f"genotype/{cell}": graph for cell, graph in space.graphs(genotype).items()}


def _with_alphas(record: Record, model: Model, graphs: Mapping[str, Graph]) -> Record:
    """Add the weights of the candidates, their entropy, and the architecture that they prefer."""
    scalars, histograms, entropies = dict(record.scalars), {}, []
    for choice_id, weights in model.choice_weights().items():
        values = weights.cpu()
        histograms[f"alphas/{choice_id}"] = values
        shares = (values / values.sum()).tolist()  # of weights that need not add up to 1
        entropies.append(-sum(p * math.log(p) for p in shares if p > 0))
        for candidate, value in zip(model.choices[choice_id].candidates, values.tolist(), strict=True):
            scalars[f"alphas/{choice_id}/{candidate}"] = value
    if entropies:
        scalars["alphas/entropy"] = sum(entropies) / len(entropies)
    return replace(record, scalars=scalars, histograms=histograms, graphs=graphs)


def _with_figures(record: Record, figures: Mapping[str, float]) -> Record:
    scalars = {f"search/{name}": value for name, value in figures.items()}
    return replace(record, scalars={**record.scalars, **scalars})


def _truth(standing: Standing | None) -> dict[str, float]:
    """Where an architecture truly stands, as figures; none without a table."""
    if standing is None:
        return {}
    return {
        "true_accuracy": standing.accuracy,
        "true_rank": float(standing.rank),
        "true_percentile": standing.percentile,
    }


def _with_truth(record: Record, standing: Standing | None) -> Record:
    """Add where the architecture that the alphas prefer truly stands."""
    truth = {f"search/{name}": value for name, value in _truth(standing).items()}
    return replace(record, scalars={**record.scalars, **truth})
