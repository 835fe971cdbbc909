"""The verbs that ask a trained network."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from nasframe.cli.arguments import AsJson, Plugins
from nasframe.cli.output import print_json, print_table, printable

if TYPE_CHECKING:
    from nasframe.core import Prediction
    from nasframe.errors import DataError
    from nasframe.recipe import Evaluation

_MOST_CONFUSIONS: Final = 10


def predict(
    model: Annotated[
        Path,
        typer.Argument(metavar="RUN_DIR", help="A finished run, or a folder of `export --format hub`."),
    ],
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Files, or folders of them.")],
    top: Annotated[
        int, typer.Option("--top", metavar="NUMBER", min=1, help="Classes that are told of each file.")
    ] = 3,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Tell the classes of files, or their numbers, read and normalized as for the training."""
    from nasframe.recipe import load
    from nasframe.recipe.discovery import import_modules

    import_modules(plugin or ())
    unreadable: list[DataError] = []
    found = load(model).predict(files, top=top, unreadable=unreadable.append)
    if as_json:
        print_json({"predictions": [_plain(each) for each in found], "unreadable": [*map(str, unreadable)]})
    elif found and found[0].numbers:
        header = ["file", *(printable(name) for name, _ in found[0].numbers)]
        print_table(header, [[_where(each), *(f"{of:.6g}" for _, of in each.numbers)] for each in found])
    elif found:
        columns = 4 if any(len(each.classes) > 1 for each in found) else 3
        header = ["file", "class", "probability", "otherwise"][:columns]
        print_table(header, [_row(each)[:columns] for each in found])
    _tell(unreadable)


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="A finished run; with FOLDER also one of `export --format hub`."
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Has a folder of files for each class; instead of a split."),
    ] = None,
    split: Annotated[
        Literal["train", "valid", "test"] | None,
        typer.Option("--split", help="test, unless given; what the retraining learned from, or held out."),
    ] = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Tell what a trained network gets right and wrong, class by class."""
    from nasframe.recipe import evaluate_files, load, open_run
    from nasframe.recipe.discovery import import_modules

    if folder is not None and split is not None:
        raise typer.BadParameter(f"--split {split} is of the run's own examples; leave it or {folder} out")
    if folder is None and (model / "config.json").is_file() and not (model / "recipe.yaml").is_file():
        raise typer.BadParameter(
            f"{model} is a model folder, which has no data; give a folder with a folder of files for each "
            "class behind it, or the run"
        )
    import_modules(plugin or ())
    unreadable: list[DataError] = []
    if folder is None:
        found = open_run(model).evaluate(split or "test")
    else:
        found = evaluate_files(load(model), folder, unreadable.append)
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)
    _tell(unreadable)


def _tell(unreadable: Sequence["DataError"]) -> None:
    """Name what could not be read, and exit with 1 if there is any."""
    for error in unreadable:
        typer.secho(f"error: {printable(str(error))}", err=True, fg="red")
    if unreadable:
        raise typer.Exit(1)


def _plain(prediction: "Prediction") -> dict[str, object]:
    classes = [{"class": name, "probability": share} for name, share in prediction.classes]
    numbers = [{"name": name, "value": value} for name, value in prediction.numbers]
    where = {"file": str(prediction.file), "place": prediction.place}
    return {**where, "classes": classes, "numbers": numbers}


def _row(prediction: "Prediction") -> list[str]:
    (name, share), *others = prediction.classes
    otherwise = ", ".join(f"{other} {of:.1%}" for other, of in others)
    return [_where(prediction), printable(name), f"{share:.1%}", printable(otherwise)]


def _where(prediction: "Prediction") -> str:
    return printable(", ".join(filter(None, (str(prediction.file), prediction.place))))


def _show(found: "Evaluation") -> None:
    from nasframe.pages.by_class import CLASS_HEADER, class_rows, confusion_of

    rows = [[f"{found.split} examples".strip(), f"{found.num_examples:,}"]]
    for name, value in found.metrics.items():
        spelled = f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}"
        rows.append([f"{found.split} {name.replace('_', ' ')}".strip(), spelled])
    print_table(["result", ""], rows)
    if found.classes:
        typer.echo()
        cells = [map(printable, row) for row in class_rows(confusion_of(asdict(found)))]
        print_table(CLASS_HEADER, [list(row) for row in cells])
    if found.confusions:
        typer.echo()
        print_table(
            ["class", "taken for", "examples"],
            [
                [printable(each.of), printable(each.taken_for), f"{each.num_examples:,}"]
                for each in found.confusions[:_MOST_CONFUSIONS]
            ],
        )
        if (left := len(found.confusions) - _MOST_CONFUSIONS) > 0:
            typer.echo(f"… and {left} more pairs; --json has all")
