"""The command line, from its own help."""

from collections.abc import Iterator

import typer
from typer.testing import CliRunner

from nasframe.cli.app import app
from pages.markdown import block

_WIDTH = 84


def make() -> Iterator[tuple[str, str]]:
    """Path and text of the page."""
    sections = [f"## `nasframe {' '.join(verb)}`\n\n{block('text', _help(verb))}" for verb in _verbs(app)]
    told = "\n\n".join(sections)
    yield (
        "reference/verbs",
        f"""# Command line

Exit codes: 0 done, 1 failed, 2 what was asked for (the recipe, or the arguments) must change, 130
interrupted, with a checkpoint. `--json` prints plain data. `nasframe --install-completion` completes
verbs, names, keys and values.

{told}""",
    )


def _verbs(of: typer.Typer, *before: str) -> Iterator[list[str]]:
    for command in of.registered_commands:
        yield [*before, command.name or command.callback.__name__]  # type: ignore[union-attr]
    for group in of.registered_groups:
        assert group.typer_instance is not None
        yield from _verbs(group.typer_instance, *before, str(group.name))


def _help(verb: list[str]) -> str:
    result = CliRunner().invoke(app, [*verb, "--help"], prog_name="nasframe", terminal_width=_WIDTH)
    return str(result.output)
