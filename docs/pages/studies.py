"""One page a shipped study: what it compares, and what came out where all of its trials have ended."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import nasframe
from nasframe.cli.shipped import header_of
from nasframe.recipe.discovery import shipped_studies
from nasframe.study.page import budget_of, state_of, table_of, write_page
from pages.markdown import block, contents, definitions, prose, table

RESULTS: Final = Path(nasframe.__file__).parents[1] / "benchmarks" / "results"
"""Where ``study.json`` and ``study.csv`` of a shipped study are committed, as ``study_<name>``."""

_COLUMNS: Final = {
    "method": "method",
    "accuracy": "accuracy",
    "ranks": "rank",
    "RI over a random one, %": "random",
    "over random search, %": "search",
    "Kendall’s τ": "kendall",
    "seconds": "seconds",
    "cost of a search": "budget",
}


def make() -> Iterator[tuple[str, str]]:
    """Path and text of each page."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in shipped_studies().items()}
    for name, text in texts.items():
        yield f"study_results/{name}", page(name, text, _found(name))
    rows = [[f"[`{name}`]({name}.md)", prose(header_of(text)["what"])] for name, text in texts.items()]
    yield (
        "study_results/index",
        f"""# Shipped studies

[Studies](../studies.md) that come with nasframe, with what came out of them.

{table(["study", "what"], rows)}

{contents(texts)}""",
    )


def write_reports(folder: Path) -> Path:
    """Write the report of each study that was run whole as the study itself does, and copy its table."""
    folder.mkdir(exist_ok=True)
    for name in shipped_studies():
        found = _found(name)
        if found is not None and found["complete"]:
            write_page(folder / f"study_{name}.html", found)
            shutil.copyfile(RESULTS / f"study_{name}.csv", folder / f"study_{name}.csv")
    return folder


def _found(name: str) -> Mapping[str, Any] | None:
    """The ``study.json`` of a shipped study, if it was run."""
    path = RESULTS / f"study_{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def page(name: str, text: str, found: Mapping[str, Any] | None) -> str:
    """The page of a study.

    Args:
        name: The shipped name.
        text: Its file.
        found: Its ``study.json``, if it was run; figures are shown where it is complete.
    """
    header = header_of(text)
    facts = [
        (f"**{field}**", prose(header[field])) for field in ("source", "needs", "hardware") if field in header
    ]
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return f"""# `{name}`

{prose(header["what"])}

{definitions(facts)}

## What came out

{_results(found)}

## The study

{block("yaml", body)}

[Studies](../studies.md) says how it is run, and what the columns mean."""


def _results(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "Nothing is told yet: no whole run of it was made."
    if not found["complete"]:
        count = found["trials"]
        return (
            f"Nothing is told yet: {count['done']} of {count['planned']} trials are done, and a part of a "
            "comparison is none."
        )
    file = f"../study_{found['name']}"
    parts = [
        f'<a href="{file}.html">The whole report</a>, with its pictures, and <a href="{file}.csv">a line for '
        "each trial</a>.",
        f"{state_of(found)} Each search may cost {budget_of(found)}; "
        f"seeds {', '.join(map(str, found['seeds']))}; intervals of {found['level']:.0%}.",
    ]
    for name, setting in found["settings"].items():
        rows = table_of(setting)
        shown = {title: key for title, key in _COLUMNS.items() if any(row[key] for row in rows)}
        cells = [[prose(row[key]) for key in shown.values()] for row in rows]
        parts.append(
            f"### {prose(name)}\n\nJudged by {prose(setting['judged_by'])}.\n\n{table(shown, cells)}"
        )
    if found["failures"]:
        failed = [[prose(str(value)) for value in each.values()] for each in found["failures"]]
        parts.append(f"### Trials that failed\n\n{table(found['failures'][0], failed)}")
    items = [[prose(item[key]) for key in ("question", "answer", "because")] for item in found["checklist"]]
    parts.append(
        "### Best practice\n\nThe checklist of Lindauer and Hutter (2020), answered from what was run.\n\n"
        + table(["asked", "answer", "because"], items)
    )
    return "\n\n".join(parts)
