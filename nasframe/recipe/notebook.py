"""What a notebook shows of a run."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from nasframe.core import Genotype
from nasframe.pages.by_class import CLASS_HEADER, class_rows, confusion_of, matrix_of
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
    if found["classes"]:
        confusion = confusion_of(found)
        tables.append(_table(CLASS_HEADER, class_rows(confusion)))
        if matrix := matrix_of(confusion):
            tables.append(_matrix(matrix))
    return f"<div>{''.join(tables)}</div>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in header)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(value)}</td>' for value in values)}</tr>"
        for name, *values in rows
    )
    return f"<table>{f'<tr>{titles}</tr>' if titles else ''}{body}</table>"


def _matrix(rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """A row is a class, a column what its examples are taken for."""
    titles = "".join(f"<th>{escape(name)}</th>" for name in ("class, taken for", *(name for name, _ in rows)))
    body = "".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(
            f'<td style="background: rgba(31, 111, 180, calc({share} / 2))">{count}</td>'
            for count, share in cells
        )
        + "</tr>"
        for name, cells in rows
    )
    return f"<table><tr>{titles}</tr>{body}</table>"
