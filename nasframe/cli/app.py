"""The verbs together, and what the exit code says: 0 done, 1 failed, 2 the user's recipe or arguments."""

import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

import nasframe
from nasframe.cli import (
    catalog,
    check,
    doctor,
    explain,
    new,
    plan,
    predict,
    review,
    run,
    schema,
    ship,
    shipped,
    study,
    sweep,
)
from nasframe.cli.output import printable, show_problems, shown_warnings
from nasframe.errors import NasframeError, RecipeError, UnsupportedError
from nasframe.launch import launch

app: Final = typer.Typer(
    name="nasframe",
    help="Neural architecture search from one YAML recipe.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb in (
    run.run,
    run.resume,
    review.report,
    review.compare,
    ship.export,
    predict.predict,
    predict.evaluate,
    sweep.sweep,
    study.study,
    check.validate,
    plan.plan,
    check.config,
    schema.schema,
    catalog.list_,
    catalog.show,
    explain.explain,
    shipped.recipes,
    shipped.copy,
    doctor.doctor,
):
    says_why_not = {"allow_extra_args": _verb is run.resume}  # it takes none, and tells what to do instead
    app.command(_verb.__name__.rstrip("_"), context_settings=says_why_not)(_verb)
app.add_typer(new.new, name="new")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nasframe {nasframe.__version__}")
        raise typer.Exit


@app.callback()
def _nasframe(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Neural architecture search from one YAML recipe."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; always exits.

    Args:
        arguments: What was typed after ``nasframe``; by default the arguments of this process.
    """
    try:
        with shown_warnings():
            code = app(
                list(arguments) if arguments is not None else None,
                prog_name="nasframe", standalone_mode=False,
            )  # fmt: skip
    except RecipeError as error:
        if launch().is_first:  # all ranks read the same
            show_problems(error)
        sys.exit(2)
    except NasframeError as error:
        message = "\n".join(map(printable, str(error).splitlines()))
        who = "" if launch().is_first else f"rank {launch().rank}: "
        typer.secho(f"error: {who}{message}", err=True, fg="red")
        for note in getattr(error, "__notes__", ()):
            typer.echo(printable(note), err=True)
        asked_for = isinstance(error, (UnsupportedError, LookupError))  # the recipe must change
        sys.exit(2 if asked_for else 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.secho(f"error: {where}{error.strerror or error}", err=True, fg="red")
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("\ninterrupted", err=True)
        sys.exit(130)
    except Exception as error:
        sys.exit(_usage_error(error))
    sys.exit(code if isinstance(code, int) else 0)


def _usage_error(error: Exception) -> int:
    """Show what is wrong with the arguments; any other error is raised again.

    Typer's errors are told by what they can do, because some of its versions bring a click of their own.
    """
    show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or not isinstance(exit_code, int):
        raise error
    show()
    return exit_code
