"""The verb that writes a package for a component of one's own."""

import keyword
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated, Final

import typer

import nasframe

_TEMPLATES: Final = Path(nasframe.__file__).parent / "templates"
_COMMON: Final = "plugin"
_SUFFIX: Final = ".template"
KINDS: Final = sorted(path.name for path in _TEMPLATES.iterdir() if path.is_dir() and path.name != _COMMON)
_NAME: Final = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")

new: Final = typer.Typer(help="Write something to start from.", no_args_is_help=True, rich_markup_mode=None)


@new.callback()
def _new() -> None:
    """Write something to start from."""


@new.command()
def plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package, such as my-method.")],
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help=f"What it adds: {', '.join(KINDS)}.")
    ] = "algorithm",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where its folder is made.")] = Path(),
) -> None:
    """Write a package with a component, its tests and a recipe. It passes its tests at once."""
    if kind not in KINDS:
        raise typer.BadParameter(f"--kind must be one of {', '.join(KINDS)}, got `{kind}`")
    files = package(name, kind)
    target = out / name
    if target.exists():
        raise typer.BadParameter(f"{target} exists; choose another name, or another folder by --out")
    try:
        for path, text in files.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{target} cannot be written: {error.strerror}; choose --out") from error
    typer.echo(f"{target}\n\nnext: cd {target} && pip install -e '.[test]' && pytest")


def package(name: str, kind: str) -> dict[Path, str]:
    """The files of a package called `name` that adds a component of a kind; paths are below its folder.

    Raises:
        typer.BadParameter: The name can be none of a package, or of a component of this kind.
    """
    return dict(_files(kind, _values(name, kind)))


def _values(name: str, kind: str) -> Mapping[str, str]:
    """What the templates are filled with.

    Raises:
        typer.BadParameter: The name can be none of a package, or of a component of this kind.
    """
    from nasframe.declarations import PLUGIN_API

    package = name.replace("-", "_")
    component = package.removeprefix("nasframe_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(component):
        raise typer.BadParameter(
            f"NAME must be lower-case words of letters and digits with hyphens, such as my-method, and no "
            f"keyword of Python, got `{name}`"
        )
    if find_spec(package) is not None:
        raise typer.BadParameter(f"NAME must not be that of a module that is installed, got `{name}`")
    registry = f"{kind}s"
    if component in nasframe.registries[registry]:
        raise typer.BadParameter(f"the {registry} have a `{component}` already; choose another NAME")
    class_name = "".join(word.capitalize() for word in component.split("_"))
    return {
        "distribution": name,
        "package": package,
        "component": component,
        "class_name": class_name,
        "object": component if kind == "dataset" else class_name,
        "registry": registry,
        "api": PLUGIN_API,
        "nasframe_version": nasframe.__version__,
    }


def _files(kind: str, values: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Path and text of each file; ``__package__`` and ``__component__`` in a path stand for their names."""
    for folder in (_TEMPLATES / _COMMON, _TEMPLATES / kind):
        for template in sorted(folder.rglob(f"*{_SUFFIX}")):
            path = str(template.relative_to(folder)).removesuffix(_SUFFIX)
            for placeholder in ("package", "component"):
                path = path.replace(f"__{placeholder}__", values[placeholder])
            yield Path(path), Template(template.read_text(encoding="utf-8")).substitute(values)
