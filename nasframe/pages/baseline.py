"""The found network beside its baseline, as a table."""

from collections.abc import Mapping
from typing import Any, Final

from nasframe.pages.words import figure, spell
from nasframe.quantity import spell_amount

_COSTS: Final = {"cost": "{} by its parts", "measured_cost": "{} measured"}


def table_of_baseline(told: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A header, and a row for each network; costs that nobody knows are left out.

    Args:
        told: What ``report.json`` has of the baseline.
    """
    of, networks = str(told["figure"]), told["networks"]
    known = [name for name in _COSTS if any(each[name] is not None for each in networks)]
    header = [
        "network",
        spell(of),
        *(_COSTS[name].format(spell(told["cost"])) for name in known),
        "parameters",
    ]
    return header, [
        [
            str(each["network"]),
            figure(of, each[of]) + (f" ± {figure(of, each['std'])}" if each["std"] is not None else ""),
            *(spell_amount(each[name], str(told["unit"])) for name in known),
            figure("parameters", each["parameters"]),
        ]
        for each in networks
    ]
