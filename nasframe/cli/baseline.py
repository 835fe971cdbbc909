"""The found network beside its baseline, on a terminal."""

from collections.abc import Mapping
from typing import Any

import typer

from nasframe.cli.output import print_table, printable


def print_baseline(told: Mapping[str, Any]) -> None:
    """Print what ``report.json`` says of the baseline, if anything: a table, and a sentence."""
    if not told:
        return
    unit = printable(f" {told['unit']}".rstrip())
    figure = str(told["figure"])
    columns = {"cost": "by its parts", "measured_cost": "measured"}
    kept = [name for name in columns if any(each[name] is not None for each in told["networks"])]
    header = ["network", figure.replace("_", " "), *(f"{told['cost']} {columns[name]}" for name in kept)]
    typer.echo()
    print_table(
        [*header, "parameters"],
        [
            [
                printable(each["network"]),
                _spread(figure, each[figure], each["std"]),
                *(f"{each[name]:.4g}{unit}" for name in kept),
                f"{each['parameters']:,.0f}",
            ]
            for each in told["networks"]
        ],
    )
    typer.echo(f"\n{printable(told['sentence'])}")


def _spread(figure: str, mean: float, std: float | None) -> str:
    """A mean, with the deviation of several seeds."""
    spelled = "{:.2%}" if figure.endswith("accuracy") else "{:.4g}"
    return spelled.format(mean) + ("" if std is None else f" ± {spelled.format(std)}")
