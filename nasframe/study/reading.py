"""From a study file to the trials that it makes, with every problem found before anything runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

from nasframe import problem_kinds as kinds
from nasframe.errors import Problem, RecipeError
from nasframe.problem_kinds import ProblemKind
from nasframe.recipe import Recipe
from nasframe.recipe.discovery import import_modules, shipped_studies
from nasframe.recipe.loading import load_layers, locate, read_file
from nasframe.recipe.pairing import unusable_as_folder
from nasframe.recipe.schema import read_sections
from nasframe.recipe.tree import Node, node_of
from nasframe.study.plan import BASELINES, RANDOM_ARCHITECTURE, RANDOM_SEARCH, Study

_SEARCHED_AT_RANDOM: Final[dict[str, Any]] = {
    "explorer": "random_search",
    "perturbation": None,
    "regularizers": [],
}


@final
@dataclass(frozen=True)
class Loaded:
    """A study that can be run.

    Attributes:
        study: What its file says.
        recipes: By setting and method, with the first seed and before any budget; baselines are among them.
        text: The file, for the study's folder.
    """

    study: Study
    recipes: Mapping[tuple[str, str], Recipe]
    text: str

    @property
    def num_trials(self) -> int:
        """How many trials it has: what a table tells of random architectures and the heaviest takes none."""
        drawn = [recipe for (_, method), recipe in self.recipes.items() if method == RANDOM_ARCHITECTURE]
        changes = (1 if recipe.search.benchmark is None else -1 for recipe in drawn)
        return len(self.study.seeds) * (len(self.recipes) + sum(changes))


def load_study(
    study: str | Path,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    *,
    check: bool = True,
    outside: bool = False,
) -> Loaded:
    """Read a study and all of its recipes.

    Args:
        study: A file, or the name of a shipped study.
        overrides: ``a.b.c=value`` lays a value over the study, ``~a.b`` deletes one.
        plugins: Python modules that register components, imported first.
        check: Also find what a run on this machine would refuse at its start.
        outside: Let it include files, and name recipes, outside of its folder.

    Raises:
        RecipeError: Something is wrong with the study or one of its recipes; it holds all problems.
    """
    import_modules(plugins)
    path = locate(str(study), shipped_studies(), "study")
    tree, problems = read_file(path, overrides, outside=outside)
    found = read_sections(Study, tree, problems, "the study", outside=outside)
    if wrong := list(_problems(found, tree)):
        raise RecipeError(wrong)
    reading = _Recipes(found, tree, path.resolve().parent, check, outside)
    recipes = {
        (setting, method): recipe
        for setting in found.settings
        for method in (RANDOM_SEARCH, RANDOM_ARCHITECTURE, *found.methods)
        if (recipe := reading.of(setting, method)) is not None
    }
    if reading.problems:
        raise RecipeError(reading.problems)
    return Loaded(found, recipes, path.read_text(encoding="utf-8-sig"))


def _problems(study: Study, tree: Node) -> Iterator[Problem]:
    """What is wrong with a study whose parts are valid alone."""

    def problem(
        kind: ProblemKind, path: Sequence[str], rule: str, given: str = "", advice: str = ""
    ) -> Problem:
        at = next(node for end in range(len(path), -1, -1) if (node := tree.find(tuple(path[:end]))))
        return Problem(kind, str(at.key_at), ".".join(path), rule, given, advice)

    named = [("name", study.name)]
    named += [(part, name) for part in ("settings", "methods") for name in getattr(study, part)]
    for part, name in named:
        if found := unusable_as_folder(name):
            yield problem(kinds.BAD_RUN_NAME, [part], *found)
        elif part == "methods" and name in BASELINES:
            rule = "must have another name than what stands in every study anyway"
            yield problem(kinds.BAD_RUN_NAME, [part, name], rule, f"`{name}`", "leave it out")
    for part in ("settings", "methods", "seeds"):
        if not getattr(study, part):
            yield problem(kinds.OUT_OF_RANGE, [part], "must have at least one")
    if len(set(study.seeds)) < len(study.seeds):
        rule = "must differ from each other: the same seed gives the same result"
        yield problem(kinds.OUT_OF_RANGE, ["seeds"], rule, str(list(study.seeds)))
    epochs, seconds = study.budget.epochs, study.budget.seconds
    if (epochs is None) == (seconds is None):
        rule, given = "must be either `epochs` or `seconds`", "neither" if epochs is None else "both"
        yield problem(kinds.IMPOSSIBLE_SETTINGS, ["budget"], rule, given)
    elif epochs is not None and study.random_epochs > epochs:
        rule = f"must be at most the budget of {epochs}, so that random search trains an architecture"
        yield problem(kinds.OUT_OF_RANGE, ["random_epochs"], rule, str(study.random_epochs))


@final
class _Recipes:
    """Reads the recipe of each method in each setting; what is wrong in several is told once."""

    def __init__(self, study: Study, tree: Node, folder: Path, check: bool, outside: bool) -> None:
        self._study, self._tree, self._folder = study, tree, folder
        self._check, self._outside = check, outside
        self.problems: list[Problem] = []
        self._said: set[tuple[str, str, str]] = set()

    def of(self, setting: str, method: str) -> Recipe | None:
        """A recipe; None where there are problems."""
        study = self._study
        named = self._tree.find(("settings", setting, "recipe"))
        layers = [study.overrides, study.settings[setting].overrides]
        if method in study.methods:
            named = self._tree.find(("methods", method, "recipe")) or named
            layers.append(study.methods[method].overrides)
        else:
            layers.append(node_of(_searched_at_random(method, study), self._tree.key_at))
        own = {"name": f"{setting}-{method}", "seed": study.seeds[0], "threads": 1}
        layers.append(node_of(own, self._tree.key_at))
        assert named is not None  # a setting must have a recipe
        try:
            return load_layers(named, layers, self._folder, check=self._check, outside=self._outside)
        except RecipeError as error:
            for problem in error.problems:
                if (key := (problem.where, problem.path, problem.rule)) not in self._said:
                    self._said.add(key)
                    path = f"{problem.path} ({method} in {setting})".strip()
                    self.problems.append(replace(problem, path=path))
        return None


def _searched_at_random(method: str, study: Study) -> dict[str, Any]:
    """What a baseline lays over the recipe of a setting."""
    score = {"type": "retraining"} if method == RANDOM_SEARCH else {"type": "parameters"}
    found: dict[str, Any] = {**_SEARCHED_AT_RANDOM, "score": score}
    if method == RANDOM_SEARCH:
        found["trainer"] = {"epochs": study.random_epochs}
    else:
        found["evaluations"] = 1
    return {"search": found}
