"""What a notebook shows of a run."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from nasframe.core import Genotype


def shown_run(folder: Path, metrics: Mapping[str, float], health: str, genotype: Genotype) -> str:
    """A run as HTML: its verdict, its figures, its architecture, and where it is."""
    cells = [(escape(name.replace("_", " ")), _spell(name, value)) for name, value in metrics.items()]
    rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in cells)
    verdict = f"<p>{escape(health)}</p>" if health else ""
    drawn = genotype._repr_svg_() or f"<p>{escape(genotype.summary)}</p>"
    return f"<div>{verdict}<table>{rows}</table>{drawn}<p><code>{escape(str(folder))}</code></p></div>"


def _spell(name: str, value: float) -> str:
    if "accuracy" in name:
        return f"{value:.2%}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
