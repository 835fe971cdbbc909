"""What follows from the trials of a study, as plain data."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from nasframe.core.statistic import LEVEL, Estimate
from nasframe.core.storage import write_whole
from nasframe.study.checklist import checklist
from nasframe.study.folder import Row
from nasframe.study.plan import BASELINES, RANDOM_ARCHITECTURE, RANDOM_SEARCH, Study, Trial
from nasframe.study.statistic import estimate, improvement

VERSION: Final = 1
"""The version of the format of ``study.json``."""

_COLUMNS: Final = (
    "setting", "method", "seed", "failure", "architecture", "accuracy", "rank", "kendall", "ranked",
    "parameters", "epochs", "evaluations", "best_score",
)  # fmt: skip

Rows = Mapping[tuple[str, str, int], Row]


def results_of(
    study: Study,
    trials: Sequence[Trial],
    rows: Rows,
    facts: Mapping[str, Mapping[str, Any]],
    budgets: Mapping[str, Mapping[str, Mapping[str, int | None]]],
) -> dict[str, Any]:
    """Summarize what was run.

    A method is summarized when all of its trials in a setting have ended, and not before; of trials that
    failed it is told how many.

    Args:
        study: What its file says.
        trials: All that it has.
        rows: Of those that ended.
        facts: By setting; see `Architectures.facts`.
        budgets: By setting and method, the epochs and evaluations of a search.

    Returns:
        What ``study.json`` has (docs/studies.md).
    """
    ended = [rows[trial.key] for trial in trials if trial.key in rows]
    failures = [
        {name: row[name] for name in ("setting", "method", "seed", "failure")}
        for row in ended
        if row["failure"]
    ]
    found = {
        "version": VERSION,
        "name": study.name,
        "complete": len(ended) == len(trials),
        "trials": {"planned": len(trials), "done": len(ended) - len(failures), "failed": len(failures)},
        "seeds": list(study.seeds),
        "budget": {name: value for name, value in asdict(study.budget).items() if value is not None},
        "random_epochs": study.random_epochs,
        "level": LEVEL,
        "tuning": study.tuning,
        "settings": {
            setting: _setting(setting, trials, rows, facts[setting], budgets.get(setting, {}))
            for setting in study.settings
        },
        "failures": failures,
        "environments": _different(row["environment"] for row in ended if not row["failure"]),
    }
    return {**found, "checklist": [asdict(item) for item in checklist(study, trials, rows, found)]}


def _different(environments: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for each in environments:
        if each not in found:
            found.append(each)
    return found


def _setting(
    setting: str,
    trials: Sequence[Trial],
    rows: Rows,
    facts: Mapping[str, Any],
    budgets: Mapping[str, Mapping[str, int | None]],
) -> dict[str, Any]:
    here = [trial for trial in trials if trial.setting == setting]
    methods = list(dict.fromkeys(trial.method for trial in here))
    accuracies: dict[str, list[float] | None] = {
        method: _accuracies([trial for trial in here if trial.method == method], rows) for method in methods
    }
    known = facts.get("random")
    random: float | list[float] | None = known["1"] if known else accuracies.get(RANDOM_ARCHITECTURE)
    searched = accuracies.get(RANDOM_SEARCH)
    ordered = facts.get("accuracies", [])
    summaries = []
    for method in methods:
        own = [trial for trial in here if trial.method == method]
        ended = [rows[trial.key] for trial in own if trial.key in rows]
        done, values = [row for row in ended if not row["failure"]], accuracies[method]
        summary: dict[str, Any] = {
            "method": method,
            "is_baseline": method in BASELINES,
            "planned": len(own),
            "done": len(done),
            "failed": len(ended) - len(done),
            "budget": budgets.get(method, {}),
            "trials": [{**_told(row), "rank": _rank(row, ordered)} for row in done],
        }
        if values:
            below = None if method == RANDOM_ARCHITECTURE else random
            summary |= _summary(done, values, below, None if method == RANDOM_SEARCH else searched)
        summaries.append(summary)
    benchmark = here[0].recipe.search.benchmark
    return {
        "judged_by": "the test accuracy after retraining"
        if benchmark is None
        else f"the table {benchmark.name}",
        "facts": {name: value for name, value in facts.items() if name != "accuracies"}
        | ({"heaviest": _heaviest(facts, ordered)}),
        "clock": "processor" if _device(rows, here) == "cpu" else "wall",
        "methods": summaries,
    }


def _accuracies(trials: Sequence[Trial], rows: Rows) -> list[float] | None:
    """Those of trials that did not fail; None while some have not ended, or all failed."""
    if any(trial.key not in rows for trial in trials):
        return None
    return [row["accuracy"] for row in (rows[trial.key] for trial in trials) if not row["failure"]] or None


def _summary(
    done: Sequence[Row],
    values: Sequence[float],
    random: float | list[float] | None,
    searched: list[float] | None,
) -> dict[str, Any]:
    ranked = [row["kendall"] for row in done if row["kendall"] is not None]
    search = [row["seconds"]["search_processor"] for row in done]
    whole = [sum(row["seconds"].get(stage, 0.0) for stage in ("search", "retrain", "report")) for row in done]
    return {
        "accuracy": asdict(estimate(values)),
        "over_random_architecture": _plain(None if random is None else improvement(values, random)),
        "over_random_search": _plain(None if searched is None else improvement(values, searched)),
        "kendall": _plain(estimate(ranked) if ranked else None),
        "search_seconds": _plain(None if None in search else estimate(search)),
        "whole_seconds": asdict(estimate(whole)),
    }


def _plain(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _told(row: Row) -> dict[str, Any]:
    names = ("seed", "architecture", "accuracy", "kendall", "epochs", "evaluations", "seconds", "curve")
    return {name: row[name] for name in names}


def _rank(row: Row, ordered: Sequence[float]) -> int | None:
    """1 for the best of what may be found; equally accurate ones share a rank; None without a table."""
    return 1 + sum(each > row["accuracy"] for each in ordered) if ordered else None


def _heaviest(facts: Mapping[str, Any], ordered: Sequence[float]) -> dict[str, Any]:
    heaviest = {name: value for name, value in facts["heaviest"].items() if name != "genotype"}
    return {**heaviest, "rank": _rank(heaviest, ordered)}


def _device(rows: Rows, trials: Sequence[Trial]) -> str:
    done = [rows[trial.key] for trial in trials if trial.key in rows and not rows[trial.key]["failure"]]
    return str(done[0]["environment"]["device"]) if done else "cpu"


def write_csv(path: Path, trials: Sequence[Trial], rows: Rows, found: Mapping[str, Any]) -> None:
    """Write one line a trial that ended, the seconds of its stages among them."""
    stages = ("search_processor", "search", "retrain", "report")
    ranks = {
        (setting, summary["method"], trial["seed"]): trial["rank"]
        for setting, each in found["settings"].items()
        for summary in each["methods"]
        for trial in summary["trials"]
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"{stage}_seconds" for stage in stages)])
    for trial in trials:
        if (row := rows.get(trial.key)) is not None:
            told = {**row, "rank": ranks.get(trial.key)}
            seconds = row.get("seconds", {})
            writer.writerow(
                [*(told.get(name) for name in _COLUMNS), *(seconds.get(stage) for stage in stages)]
            )
    write_whole(path, text.getvalue())
