"""How names and figures are spelled on a page."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from nasframe.quantity import spell_amount, spell_seconds

_COSTS: Final = {
    "derived_cost": "{} of the architecture",
    "measured_cost": "{} of the network, measured",
    "max_cost": "largest {} allowed",
}


def spell(name: str) -> str:
    """A name without its underscores."""
    return name.replace("_", " ")


def plain(value: Any) -> str:
    """A text as it is, other plain data as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def figure(name: str, value: Any) -> str:
    """A figure of a run; accuracies in percent."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return plain(value)
    if name.endswith(("accuracy", "accuracy_mean", "accuracy_std")):
        return f"{value:.2%}"
    return f"{value:,.0f}" if float(value).is_integer() else short(value)


def told(name: str, value: Any, tradeoff: Mapping[str, Any]) -> tuple[str, str]:
    """A figure's name and how it is spelled; of a cost what it is of, and with its unit.

    Args:
        name: Of the figure.
        value: The figure.
        tradeoff: What the report of its run says of the cost that was searched by; empty without one.
    """
    if not tradeoff or name not in _COSTS or not isinstance(value, (int, float)):
        return spell(name), figure(name, value)
    return _COSTS[name].format(spell(tradeoff["cost"])), spell_amount(value, str(tradeoff["unit"]))


def figures_told(metrics: Mapping[str, Any], tradeoff: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures of a run as `told` has each; a mean and its standard deviation share one."""
    for name, value in metrics.items():
        one, _, which = name.rpartition("_")
        spread = metrics.get(f"{one}_std")
        if spread is None or which not in ("mean", "std"):
            yield told(name, value, tradeoff)
        elif which == "mean":
            title, mean = told(one, value, tradeoff)
            yield f"{title} of all seeds", f"{mean} ± {told(one, spread, tradeoff)[1]}"


def short(value: float) -> str:
    """A number where there is little room: 60,000,000 is 60M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time; a stage that took no time is said so too."""
    return spell_seconds(seconds) if seconds else "0 s"


def joules(value: float) -> str:
    """An energy; from a tenth of a watt-hour on in those."""
    return f"{value / 3600:.3g} Wh" if value >= 360 else f"{value:.3g} J"


def rate(images_per_second: float | None) -> str:
    """A speed; empty where it is not known."""
    if images_per_second is None:
        return ""
    return f"{images_per_second:,.0f}" if images_per_second >= 100 else f"{images_per_second:.3g}"
