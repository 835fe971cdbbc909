"""The report as one page."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

from nasframe.core import Graph, Report, reports
from nasframe.core.graph import draw, to_svg
from nasframe.core.json_text import read_json_file
from nasframe.core.storage import write_whole
from nasframe.errors import FormatError
from nasframe.reports._chart import HEIGHT, WIDTH, Chart, Series, chart

_SPLITS = ("train", "valid", "test")
_MOST_DRAWN, _LONGEST_DRAWN = 600, 200  # nodes and edges of a graph; characters of a name


@reports.register("html")
@final
class Html(Report):
    """Writes ``report.html`` from ``report.json``: one file that needs no network and no script.

    It shows figures, time, derived cells, candidate weights and learning curves over the epochs,
    the recipe, the environment, and the command that does it again.

    Raises:
        FormatError: ``report.json`` is absent or not what it must be.
    """

    def write(self, run_dir: Path) -> Path:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        content = _read(run_dir / "report.json")
        environment = Environment(
            loader=PackageLoader("nasframe", "reports"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        try:
            page = environment.get_template("report.html").render(_view(content))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise FormatError(
                f"{run_dir / 'report.json'}: must be what a finished run leaves: {error!r:.200}"
            ) from error
        path = run_dir / "report.html"
        write_whole(path, page)
        return path


def _read(path: Path) -> dict[str, Any]:
    content: Any = read_json_file(path, "finish the run with `nasframe resume`")
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise FormatError(f"{path}: must be an object with the run's `name`")
    return content


def _view(content: dict[str, Any]) -> dict[str, Any]:
    """What the template shows, in its order; a part that is absent is left out."""
    alphas: Mapping[str, Mapping[str, Series]] = content.get("alphas", {})
    curves = _grouped(content.get("curves", {}))
    candidates = _numbered(name for series in alphas.values() for name in series)
    splits = _numbered(name for series in curves.values() for name in series)
    seconds: Mapping[str, float] = content.get("seconds", {})
    return {
        "name": content["name"],
        "verdict": content.get("verdict", ""),
        "metrics": [
            (_spell(name), _figure(name, value)) for name, value in content.get("metrics", {}).items()
        ],
        "notes": [str(each) for each in content.get("notes", [])],
        "standing": _standing(content.get("benchmark", {})),
        "seconds": [(stage, _duration(each)) for stage, each in seconds.items()],
        "total": _duration(sum(seconds.values())),
        "cells": [_cell(graph) for graph in content.get("graphs", {}).values()],
        "architecture": content.get("architecture") or "",
        "genotype": json.dumps(content.get("genotype", {}), indent=2, ensure_ascii=False),
        "candidates": candidates,
        "alphas": _present(
            chart(_strongest_title(name, series), series, candidates, _strongest(series))
            for name, series in alphas.items()
        ),
        "splits": splits,
        "curves": _present(
            chart(title, series, splits, joined=title.startswith("health: "))
            for title, series in curves.items()
        ),
        "environment": [
            (_spell(name), _plain(value)) for name, value in content.get("environment", {}).items()
        ],
        "recipe": content.get("recipe", ""),
        "command": content.get("command", ""),
        "width": WIDTH,
        "height": HEIGHT,
    }


def _standing(benchmark: Mapping[str, Any]) -> str:
    if not benchmark:
        return ""
    return (
        f"In the table of {benchmark['name']}, this architecture reaches {benchmark['accuracy']:.2%}: rank "
        f"{benchmark['rank']:,} of {benchmark['count']:,}, at least as accurate as "
        f"{benchmark['percentile']:.2f}% of them."
    )


class _Cell(NamedTuple):
    description: str
    svg: Any


def _cell(graph: Mapping[str, Any]) -> _Cell:
    from markupsafe import Markup

    title, nodes = str(graph["title"]), tuple(map(str, graph["nodes"]))
    edges = tuple((str(start), str(end), str(label)) for start, end, label in graph["edges"])
    longest = max(map(len, (title, *nodes, *(part for edge in edges for part in edge))))
    if len(nodes) + len(edges) > _MOST_DRAWN or longest > _LONGEST_DRAWN:
        large = f"{title:.{_LONGEST_DRAWN}}: {len(nodes)} nodes and {len(edges)} edges, too large to be drawn"
        return _Cell(large, large)
    drawn = to_svg(draw(Graph(title, nodes, edges)))
    # several drawings stand on one page, so that their groups' names would not be unique; matplotlib
    # has escaped the labels
    svg = re.sub(r'<g id="[^"]*"', "<g", drawn[drawn.index("<svg") :])
    labels = "; ".join(f"{start} to {end}: {label}" for start, end, label in edges if label)
    return _Cell(f"{title}. {labels}", Markup(svg))


def _grouped(curves: Mapping[str, Series]) -> dict[str, dict[str, Series]]:
    """Curves that belong into one chart: ``search/train_loss`` and ``search/valid_loss``."""
    groups: dict[str, dict[str, Series]] = {}
    for tag, values in curves.items():
        stage, _, figure = tag.rpartition("/")
        if stage.startswith("health/"):  # a figure of each kind of cell
            groups.setdefault(f"health: {_spell(stage.partition('/')[2])}", {})[figure] = values
            continue
        split, _, rest = figure.partition("_")
        split, figure = (split, rest) if split in _SPLITS and rest else ("", figure)
        groups.setdefault(f"{stage}: {_spell(figure)}", {})[split] = values
    return groups


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(dict.fromkeys(names))}


def _present(charts: Iterable[Chart | None]) -> list[Chart]:
    return [each for each in charts if each is not None]


def _strongest(series: Mapping[str, Series]) -> str | None:
    last = {name: values[-1] for name, values in series.items() if values and values[-1] is not None}
    return max(last, key=lambda name: last[name] or 0.0, default=None)


def _strongest_title(choice: str, series: Mapping[str, Series]) -> str:
    strongest = _strongest(series)
    return f"{choice}: {strongest} {series[strongest][-1]:.2f}" if strongest else choice


def _spell(name: str) -> str:
    return name.replace("_", " ")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _figure(name: str, value: Any) -> str:
    if not isinstance(value, (int, float)):
        return _plain(value)
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
