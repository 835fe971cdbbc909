"""What a run left behind, to be looked at and used."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

from nasframe.core import Alphas, Curves, Exported, Genotype, Model, Predictor, Task, derived, exporters
from nasframe.core.curves import Series
from nasframe.core.dataset import checked
from nasframe.core.json_text import read_json_file
from nasframe.errors import FormatError
from nasframe.recipe.devices import kernels_for, threads_for
from nasframe.recipe.evaluation import Evaluation, evaluate
from nasframe.recipe.exporting import export, finished_run, report_of
from nasframe.recipe.joining import device_of_rank
from nasframe.recipe.loading import load_recipe
from nasframe.recipe.model_folder import read_model_folder, set_weights
from nasframe.recipe.notebook import shown_run
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.reporting import health_of, reported_graphs
from nasframe.recipe.run_directory import RunDirectory


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
        tradeoff = report_of(self.folder / "report.json").get("tradeoff", {})
        return shown_run(self.folder, self.metrics, tradeoff, self.health, self.genotype)

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
        return Predictor(
            self.network(),
            data.task,
            data.preprocess,
            objective,
            data.class_names,
            data.reader,
            data.target_scale,
        )

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
