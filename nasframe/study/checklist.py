"""The checklist of Lindauer and Hutter (2020, JMLR 21, 243), answered from what was run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, final

from nasframe.recipe import Recipe
from nasframe.recipe.schema import plain, slots_of_recipe
from nasframe.registry import BUILT_IN, Component, registries
from nasframe.study.folder import Row
from nasframe.study.plan import RANDOM_SEARCH, Study, Trial

Answer: TypeAlias = Literal["yes", "in part", "no", "not known"]

RELEASE: Final = "What is released"
COMPARISON: Final = "How methods are compared"
REPORT: Final = "What is reported"

_SAME: Final = ("data", "space", "objective")


@final
@dataclass(frozen=True)
class Item:
    """One item of the checklist, in our words.

    Attributes:
        part: Which of its three parts it belongs to.
        question: What is asked.
        answer: From what was run; ``not known`` where that does not tell.
        because: What it follows from.
    """

    part: str
    question: str
    answer: Answer
    because: str


def checklist(
    study: Study, trials: Sequence[Trial], rows: Mapping[Any, Row], found: Mapping[str, Any]
) -> list[Item]:
    """Answer every item.

    Args:
        study: What its file says.
        trials: All that it has.
        rows: Of those that ended, by setting, method and seed.
        found: What else ``study.json`` has.
    """
    release = ("code that trains the final networks", "code of the search space", "code of the methods")
    code = _code(trials, found)
    told: Answer = "yes" if found["trials"]["done"] else "no"
    kept = "recipe.yaml of each run directory, the seed in it"
    return [
        *(Item(RELEASE, f"Is the {what} available?", *code) for what in release),
        Item(RELEASE, "Are the settings of the final training and its seeds available?", told, kept),
        Item(RELEASE, "Are the settings of the methods and their seeds available?", told, kept),
        Item(
            COMPARISON, "Do all methods have the same data, split, space and final training?", *_alike(trials)
        ),
        Item(COMPARISON, "Are hardware and versions of libraries the same?", *_environment(found)),
        Item(
            COMPARISON,
            "Are there ablations?",
            "not known",
            "a study does not say which of its methods is another one with a part left out",
        ),
        Item(COMPARISON, "Are the results of all methods measured in the same way?", *_judged(trials)),
        Item(COMPARISON, "Is performance compared over time?", *_curves(found)),
        Item(COMPARISON, "Is there a comparison with random search?", *_random(found)),
        Item(COMPARISON, "Are there several runs, with their seeds?", *_seeds(study, found)),
        Item(COMPARISON, "Is a tabular or surrogate benchmark used?", *_table(trials)),
        Item(
            REPORT,
            "Is it told how settings were tuned, and what that took?",
            "yes" if study.tuning else "not known",
            study.tuning or "the study file says nothing under `tuning`",
        ),
        Item(REPORT, "Is the time of the whole method told, not of the search alone?", *_time(trials, found)),
        Item(REPORT, "Are all details of the setup told?", *_details(found)),
    ]


def _code(trials: Sequence[Trial], found: Mapping[str, Any]) -> tuple[Answer, str]:
    """Whether it is known where the code is that ran."""
    others = sorted({origin for trial in trials for origin in _origins(trial.recipe) if origin != BUILT_IN})
    commits = {each.get("git") for each in found["environments"]}
    version = ", ".join(sorted({str(each["nasframe"]) for each in found["environments"]})) or "not run yet"
    if others:
        return "in part", f"nasframe {version}; other parts are of {', '.join(others)}"
    if None in commits or any(str(each).endswith("+") for each in commits) or not commits:
        return "in part", f"nasframe {version}, but not from a commit that is known exactly"
    return "yes", f"nasframe {version}, commit {', '.join(sorted(map(str, commits)))} of where it ran"


def _origins(recipe: Recipe) -> Iterator[str]:
    for path, _, _ in slots_of_recipe():
        value: Any = recipe
        for name in path:
            value = getattr(value, name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Component):
                yield registries[each.registry].origin(each.name)


def _alike(trials: Sequence[Trial]) -> tuple[Answer, str]:
    """Whether the recipes of a setting differ in nothing but the search."""
    different = set()
    for setting in dict.fromkeys(trial.setting for trial in trials):
        here = [trial.recipe for trial in trials if trial.setting == setting]
        said = [{**{name: plain(getattr(each, name)) for name in _SAME}, **_of_both(each)} for each in here]
        different |= {name for name in said[0] if any(each[name] != said[0][name] for each in said)}
    if different:
        return "no", f"recipes of one setting differ in {', '.join(sorted(different))}"
    return "yes", "the recipes of a setting differ in the search and the seed alone; compared key by key"


def _of_both(recipe: Recipe) -> dict[str, Any]:
    return {"retrain": plain(recipe.retrain), "search.valid_fraction": recipe.search.valid_fraction}


def _environment(found: Mapping[str, Any]) -> tuple[Answer, str]:
    different = found["environments"]
    if not different:
        return "not known", "nothing was run yet"
    if len(different) == 1:
        return "yes", "the environments of all trials are equal; other work on the machine is not known"
    names = [name for name in different[0] if len({str(each.get(name)) for each in different}) > 1]
    return "no", f"trials differ in {', '.join(names)}"


def _judged(trials: Sequence[Trial]) -> tuple[Answer, str]:
    different = {
        trial.setting
        for trial in trials
        for other in trials
        if trial.setting == other.setting and trial.recipe.search.benchmark != other.recipe.search.benchmark
    }
    if different:
        return "no", f"in {', '.join(sorted(different))} not all are judged by the same table"
    by_table = any(trial.recipe.search.benchmark is not None for trial in trials)
    return (
        "yes",
        "one table judges them all"
        if by_table
        else "each is retrained alike and tested on all test examples",
    )


def _curves(found: Mapping[str, Any]) -> tuple[Answer, str]:
    told = [
        bool(trial["curve"])
        for setting in found["settings"].values()
        for summary in setting["methods"]
        for trial in summary["trials"]
        if summary["budget"]
    ]
    if told and all(told):
        return "yes", "the accuracy of what each search would return, against its seconds"
    return (
        "in part" if any(told) else "no"
    ), "needs a table that tells the accuracy of what a search would return"


def _random(found: Mapping[str, Any]) -> tuple[Answer, str]:
    each = [
        summary["done"] == summary["planned"]
        for setting in found["settings"].values()
        for summary in setting["methods"]
        if summary["method"] == RANDOM_SEARCH
    ]
    cost = "the best of as many random architectures as the budget trains"
    return ("yes" if all(each) else "in part"), cost if all(
        each
    ) else f"{cost}; not all of its trials are done"


def _seeds(study: Study, found: Mapping[str, Any]) -> tuple[Answer, str]:
    count, whole = len(study.seeds), found["complete"] and not found["failures"]
    answer: Answer = "no" if count < 2 else "yes" if whole else "in part"
    return answer, f"seeds {', '.join(map(str, study.seeds))}" + (
        "" if whole else "; not all trials are done"
    )


def _table(trials: Sequence[Trial]) -> tuple[Answer, str]:
    names = {each.name for trial in trials if (each := trial.recipe.search.benchmark) is not None}
    return (
        ("yes", f"the table {', '.join(sorted(names))}")
        if names
        else ("no", "networks are retrained instead")
    )


def _time(trials: Sequence[Trial], found: Mapping[str, Any]) -> tuple[Answer, str]:
    if not found["trials"]["done"]:
        return "not known", "nothing was run yet"
    if any(trial.recipe.search.benchmark is not None for trial in trials):
        return (
            "in part",
            "the whole search; a table has the place of the final training, whose time is not known",
        )
    return "yes", "search, retraining and test of each trial"


def _details(found: Mapping[str, Any]) -> tuple[Answer, str]:
    if not found["trials"]["done"]:
        return "no", "nothing was run yet"
    return (
        "yes",
        "recipe.yaml and environment.json of each run directory: every setting, versions, device, command",
    )
