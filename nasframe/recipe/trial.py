"""What a run would refuse at its start, found by building its parts without their data."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, final

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nasframe import problem_kinds as kinds
from nasframe.core import (
    Algorithm,
    Cost,
    Genotype,
    Model,
    Pruned,
    Space,
    Task,
    Trainer,
    algorithms,
    choices_of,
    cost_scale,
    derived,
    generator_for,
    inherit,
    kept_random_state,
    preview_of,
    price,
    read_genotype,
    sample,
    strongest,
    supernet,
)
from nasframe.errors import NasframeError, Problem, UnsupportedError
from nasframe.problem_kinds import ProblemKind
from nasframe.recipe.additions import Additions
from nasframe.recipe.baseline import family_of
from nasframe.recipe.devices import device_named
from nasframe.recipe.exploring import declared, trains_supernet
from nasframe.recipe.pairing import Parts
from nasframe.recipe.recipe import SearchStage, inherited_from
from nasframe.registry import Component, registries

_ALONE: Final = frozenset(
    {
        "augmentations",
        "benchmarks",
        "costs",
        "derivers",
        "exporters",
        "objectives",
        "optimizers",
        "perturbations",
        "reports",
        "schedules",
    }
)
"""Registries whose components are made from their settings (optimizers: and parameters), without work."""


def trial_problems(parts: Parts, known: Iterable[Problem]) -> list[Problem]:
    """Build what can be built of a recipe, and say what cannot.

    On the meta device nothing is computed. A third party's part may need numbers to be built, such as
    drop rates from a range; if one fails there, all is built once more on the CPU.

    Args:
        parts: Only they are tried.
        known: Problems of pairs and of absent files; parts that they blame are not tried.
    """
    for device in ("meta", "cpu"):
        trial = _Trial(parts, {problem.path for problem in known})
        with kept_random_state(torch.device("cpu")), torch.device(device), _Shapes():
            trial.run()
        if trial.is_certain:
            break
    return trial.problems


@final
class _Shapes(TorchFunctionMode):
    """Leaves parameters of the meta device, which have no values, without initial ones."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", "") == nn.init.__name__:
            tensor = args[0] if args else (kwargs or {})["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **(kwargs or {}))


@final
class _Trial:
    def __init__(self, parts: Parts, blamed: Iterable[str]) -> None:
        self._parts, self._blamed = parts, set(blamed)
        self.problems: list[Problem] = []
        self.is_certain = True

    def run(self) -> None:
        if (name := self._get("device")) is not None:
            with self._blaming(kinds.ABSENT_DEVICE, "device"):
                device_named(name)
        for path, value in self._parts.values.items():
            self._build_alone(path, value)
        data = self._parts.get("data")
        if data is not None and "data" not in self._blamed:
            with torch.device("cpu"):  # it may count and draw
                preview = preview_of(registries["datasets"][data.name], **data.settings)
            if preview is not None:
                self._build_networks(preview.task)

    def _build_alone(self, path: str, value: Any) -> None:
        """Build each component, those inside others first."""
        if isinstance(value, Component):
            for name, setting in value.settings.items():
                self._build_alone(f"{path}.{name}", setting)
            if value.registry in _ALONE and not self._is_blamed(path):
                given = [[nn.Parameter(torch.zeros(1))]] if value.registry == "optimizers" else []
                with self._blaming(kinds.IMPOSSIBLE_SETTINGS, path):
                    value(*given)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self._build_alone(f"{path}.{key}", item)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self._build_alone(f"{path}.{index}", item)

    def _build_networks(self, task: Task) -> None:
        space, retrained = self._space("space", task), self._space("retrain.space", task)
        if retrained is not None and (name := self._get("retrain.baseline")) is not None:
            with self._blaming(kinds.IMPOSSIBLE_BASELINE, "retrain.baseline"):
                family_of(retrained, name)
        if (genotype_file := self._parts.get("genotype")) is None:
            self._search(space, retrained, task)
        elif retrained is not None and genotype_file.is_file():
            with self._blaming(kinds.BAD_GENOTYPE, "genotype"):
                known = read_genotype(genotype_file, retrained)
                self._retrained(derived(retrained, known, recomputed=self._recomputed))

    @property
    def _recomputed(self) -> bool:
        return bool(self._get("retrain.recomputed"))

    def _space(self, path: str, task: Task) -> Space | None:
        space: Space | None = None
        if (component := self._get(path)) is not None:
            with self._blaming(kinds.IMPOSSIBLE_SPACE, path):
                space = component(task)
        return space

    def _search(self, space: Space | None, retrained: Space | None, task: Task) -> None:
        drawn: Genotype | None = None
        if space is not None:
            with self._blaming(kinds.IMPOSSIBLE_SPACE, "space"):
                drawn = sample(space, generator_for(0, "trial"))
        if space is None or drawn is None:
            return
        if (explorer := self._get("search.explorer")) is not None:
            with self._blaming(kinds.IMPOSSIBLE_SETTINGS, "search.explorer"):
                explorer(space, 0)
        model: Model | None = None
        if self._get("search.stages"):
            model = self._stages(space, task)
        elif trains_supernet(self._get("search.score")):
            model = self._supernet(space, "search.trainer")
            self._path(model, space, drawn)
        else:
            self._scored(space, drawn)
        self._priced(space, retrained, task)
        if retrained is not None:
            rule = "must build what a search of `space` finds, but cannot: "
            with self._blaming(kinds.OTHER_RETRAIN_SPACE, "retrain.space", rule):
                heir = derived(retrained, drawn, recomputed=self._recomputed)
            if model is not None and self._get("retrain.inherit") and not self._is_blamed("retrain.space"):
                rule = "must find the weights of the retraining's network in the supernet, but cannot: "
                with self._blaming(kinds.NOTHING_TO_INHERIT, "retrain.inherit", rule):
                    inherit(heir, model, drawn)
            if not self._is_blamed("retrain.space"):
                self._retrained(heir)

    def _retrained(self, model: Model) -> None:
        """The derived network can be trained, with examples held out where the trainer decides by them."""
        trainer, objective = self._get("retrain.trainer"), self._get("retrain.objective")
        if None in (trainer, objective):
            return
        with self._blaming(kinds.IMPOSSIBLE_STEP, "retrain.trainer"):
            made = trainer()
            made.check(model, objective(), algorithms.component("weights_only"))
            self._held_out("retrain", trainer.name, made)

    def _held_out(self, stage: str, name: str, trainer: Trainer) -> None:
        path = f"{stage}.valid_fraction"
        if trainer.uses_valid and self._parts.get(path) == 0 and not self._is_blamed(path):
            self._blamed.add(path)
            rule = f"must be above 0, because `{name}` decides by held-out examples"
            self.problems.append(self._parts.problem(kinds.NEEDS_HELD_OUT, path, rule, "0"))

    def _stages(self, space: Space, task: Task) -> Model | None:
        """Each stage can be built and trained; candidates that come first stand for the strongest.

        Returns:
            The supernet of the last one with all candidates, if the retraining inherits from that.
        """
        choices = choices_of(space)
        alike = {name: [0.0] * len(each.candidates) for name, each in choices.items()}
        whole: Model | None = None
        num_kept = max(map(len, alike.values()), default=1)
        stages: Sequence[SearchStage] = self._get("search.stages")
        for index, stage in enumerate(stages):
            path = f"search.stages.{index}"
            num_kept = stage.keep or num_kept
            if (own := self._space(f"{path}.space", task)) is None:
                continue
            with self._blaming(kinds.IMPOSSIBLE_STAGES, f"{path}.space"):
                if choices_of(own) != choices:
                    raise UnsupportedError(
                        "must have the choices of `space`, but has others; change only what does not "
                        "decide them, such as channels"
                    )
                self._supernet(Pruned(own, strongest(choices, alike, num_kept)), f"{path}.trainer")
                if stage is stages[-1] and self._get("retrain.inherit"):
                    whole = supernet(own, self._parts.get("search.mixed_op") or "softmax")
        return whole

    def _supernet(self, space: Space, trainer: str) -> Model | None:
        model: Model | None = None
        if (mixed_op := self._get("search.mixed_op")) is not None:
            with self._blaming(kinds.IMPOSSIBLE_SUPERNET, "search.mixed_op"):
                model = supernet(space, mixed_op)
        if model is not None and (algorithm := self._get("search.algorithm")) is not None:
            additions = Additions(self._get("search.regularizers") or (), self._get("search.perturbation"))
            self._check_step(model, algorithm, "search.algorithm", additions, trainer)
        return model

    def _path(self, model: Model | None, space: Space, genotype: Genotype) -> None:
        """What is scored inside of the supernet has its weights there."""
        score = self._get("search.score")
        if model is not None and score is not None and declared(score, "inherits"):
            rule = "must find the weights of single paths in the supernet, but cannot: "
            with self._blaming(kinds.NOTHING_TO_INHERIT, "search.score", rule):
                inherit(derived(space, genotype), model, genotype)

    def _scored(self, space: Space, genotype: Genotype) -> None:
        """What is scored by training it can be trained."""
        if declared(self._parts.get("search.score"), "takes_budgets"):
            plain, path = algorithms.component("weights_only"), "search.trainer"
            self._check_step(derived(space, genotype), plain, path, Additions((), None), path)
            if (trainer := self._get(path)) is not None and trainer().uses_valid:
                rule = (
                    f"`{trainer.name}` must not decide by held-out examples where it trains networks to be "
                )
                advice = "leave out patience and the like"
                problem = self._parts.problem(
                    kinds.IMPOSSIBLE_STEP, path, rule + "scored, which see none", "", advice
                )
                self.problems.append(problem)

    def _check_step(
        self,
        model: Model,
        algorithm: Component[Algorithm],
        path: str,
        additions: Additions,
        trained_by: str,
    ) -> None:
        trainer, objective = self._get(trained_by), self._get("objective")
        if None not in (trainer, objective):
            with self._blaming(kinds.IMPOSSIBLE_STEP, path):
                whole = additions.objective(objective(), model)
                made = trainer()
                made.check(model, whole, additions.algorithm(algorithm))
                self._held_out("search", trainer.name, made)

    def _priced(self, space: Space, retrained: Space | None, task: Task) -> None:
        cost, penalty = self._get("search.cost"), self._get("search.penalty")
        if retrained is None or None in (cost, penalty) or self._is_blamed("search.mixed_op"):
            return
        with self._blaming(kinds.IMPOSSIBLE_SUPERNET, "search.cost"), torch.device("cpu"):
            made = cost()
            prices = price(retrained, task, _Free() if made.is_measured else made)
            if not made.is_measured:
                penalty(cost_scale(choices_of(space), prices, made.units))

    def _get(self, path: str) -> Any:
        """The part at a path, if nothing is wrong with it as far as is known."""
        return None if self._is_blamed(path) else self._parts.get(path)

    def _is_blamed(self, path: str) -> bool:
        return any(blamed == path or blamed.startswith(f"{path}.") for blamed in self._blamed)

    @contextmanager
    def _blaming(self, kind: ProblemKind, path: str, rule: str = "") -> Iterator[None]:
        """An error inside becomes a problem of the part at a path, said once where it is inherited."""
        try:
            yield
        except NasframeError as error:
            message = " ".join(str(error).split()).removeprefix(f"{path}: ")
            problem = self._parts.problem(kind, path, rule + message)
        except Exception as error:  # a third party's part may raise anything
            given = f"{type(error).__name__}: {error}"
            problem = self._parts.problem(kind, path, f"must be buildable, but: {given}")
            self.is_certain = False
        else:
            return
        self._blamed.add(path)
        source = inherited_from(path.split("."))
        if all((each.path, each.rule) != (source, problem.rule) for each in self.problems):
            self.problems.append(problem)


@final
class _Free(Cost):
    """Costs nothing: to see whether a space can be priced, where pricing itself would take time."""

    def of(self, model: Model, task: Task) -> float:
        return 0.0

    def of_call(self, module: nn.Module, *args: Any, **kwargs: Any) -> float:
        return 0.0
