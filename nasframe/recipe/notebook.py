"""What a notebook shows of a run."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nasframe.core import Genotype
from nasframe.pages.by_class import shown_by_class
from nasframe.pages.words import figures_told


def shown_run(
    folder: Path,
    metrics: Mapping[str, float],
    tradeoff: Mapping[str, Any],
    health: str,
    genotype: Genotype,
) -> str:
    """A run as HTML: its verdict, its figures, its architecture, and where it is."""
    verdict = f"<p>{escape(health)}</p>" if health else ""
    drawn = genotype._repr_svg_() or f"<p>{escape(genotype.summary)}</p>"
    figures = _table((), figures_told(metrics, tradeoff))
    return f"<div>{verdict}{figures}{drawn}<p><code>{escape(str(folder))}</code></p></div>"


def shown_evaluation(found: Mapping[str, Any]) -> str:
    """An evaluation, as plain data, in HTML: its figures, those of each class, and what is confused."""
    split = found["split"]
    metrics = {f"{split}_{name}" if split else name: value for name, value in found["metrics"].items()}
    rows = [(f"{split} examples".strip(), f"{found['num_examples']:,}"), *figures_told(metrics, {})]
    tables = [_table((), rows)]
    if shown := shown_by_class(found["classes"], found["confusions"]):
        tables.append(_table(shown.header, shown.rows))
        if shown.matrix:
            tables.append(_matrix(shown.names, shown.matrix))
        elif shown.pairs:
            tables.append(_table(("class", "taken for", "examples"), shown.pairs))
    return f"<div>{''.join(tables)}</div>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in header)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, *values in rows
    )
    return f"<table>{f'<tr>{titles}</tr>' if titles else ''}{body}</table>"


def _matrix(names: Sequence[str], rows: Iterable[tuple[str, Sequence[tuple[int, float]]]]) -> str:
    """A row is a class, a column what its examples are taken for."""
    titles = "".join(f"<th>{escape(name)}</th>" for name in ("class, taken for", *names))
    body = "".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(
            f'<td style="background: rgba(31, 111, 180, {0.5 * share:.2f})">{count:,}</td>'
            for count, share in cells
        )
        + "</tr>"
        for name, cells in rows
    )
    return f"<table><tr>{titles}</tr>{body}</table>"
