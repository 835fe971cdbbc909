"""The found network beside its baseline, on a terminal."""

from collections.abc import Mapping
from typing import Any

import typer

from nasframe.cli.output import print_table, printable


def print_baseline(told: Mapping[str, Any]) -> None:
    """Print what ``report.json`` says of the baseline, if anything: a table, and a sentence."""
    from nasframe.pages.baseline import table_of_baseline

    if told:
        header, rows = table_of_baseline(told)
        typer.echo()
        print_table(header, [[printable(each) for each in row] for row in rows])
        typer.echo(f"\n{printable('; '.join(filter(None, [told['sentence'], told.get('why', '')])))}")
