"""How much hangs on the seed, where runs of the same recipe with other seeds lie beside a run."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from nasframe.core.json_text import read_bounded, read_json_file
from nasframe.errors import FormatError
from nasframe.pages.words import figure, spell

_SEED: Final = re.compile(r"^seed: (\d+)$", re.MULTILINE)
_MOST_FOLDERS: Final = 1000
_MOST_TOLD: Final = 10


def told_of_seeds(run_dir: Path, content: Mapping[str, Any], metric: str | None) -> str:
    """What the same recipe came to with the seeds next to a run's, in a sentence; empty where none is known.

    Args:
        run_dir: The run directory; those of the others lie in the same folder or, as a study's do, beside it.
        content: Its ``report.json``.
        metric: A figure of the test to compare besides; None for none.
    """
    chosen, seed = _choices(content), _seed_of(run_dir)
    others = {} if seed is None or not chosen else dict(_others(run_dir.resolve(), seed))
    if seed is None or not others:
        return ""
    nearest = sorted(others, key=lambda other: abs(other - seed))[:_MOST_TOLD]
    parts = []
    for other in sorted(nearest):
        kept = _choices(others[other])
        alike = sum(kept.get(name) == choice for name, choice in chosen.items())
        reached = others[other].get("metrics", {}).get(metric)
        parts.append(
            f"with seed {other} {alike} of {len(chosen)} choices are decided as here"
            + ("" if reached is None else f", {spell(str(metric))} {figure(str(metric), reached)}")
        )
    return f"How much hangs on the seed: {'; '.join(parts)}."


def _choices(content: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = content.get("genotype", {}).get("choices", {})
    return found


def _others(run_dir: Path, seed: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Seed and report of each finished run of the same recipe with another seed."""
    recipe = _without_seed(run_dir)
    for each in (
        *_folders(run_dir.parent),
        *(each / run_dir.name for each in _folders(run_dir.parent.parent)),
    ):
        if (other := _seed_of(each)) in (None, seed) or _without_seed(each) != recipe:
            continue
        try:
            report = read_json_file(each / "report.json")
        except FormatError:
            continue  # it has not ended
        if isinstance(report, dict):
            yield other, report


def _folders(folder: Path) -> list[Path]:
    return sorted(islice((each for each in folder.iterdir() if each.is_dir()), _MOST_FOLDERS))


def _recipe(run_dir: Path) -> str:
    try:
        return read_bounded(run_dir / "recipe.yaml").decode(errors="replace")
    except FormatError:
        return ""  # no run directory


def _seed_of(run_dir: Path) -> int | None:
    found = _SEED.search(_recipe(run_dir))
    return None if found is None else int(found[1])


def _without_seed(run_dir: Path) -> str:
    return _SEED.sub("", _recipe(run_dir))
