"""The verb that looks whether this installation is in order."""

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, final

import typer

import nasframe
from nasframe.cli.arguments import AsJson
from nasframe.cli.output import print_json, wrapped
from nasframe.suggestion import did_you_mean

_MARKS: Final = {"ok": typer.style("ok   ", fg="green"), "wrong": typer.style("wrong", fg="red")}


@final
@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: ``versions``, ``devices``, ``folders`` or ``plugins``.
        name: What was looked at.
        state: Whether it is as it must be.
        found: What was found; if it is wrong, also what to do.
    """

    topic: str
    name: str
    state: Literal["ok", "wrong"]
    found: str


def doctor(
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="SECONDS", help="How long one plugin's import may take.")
    ] = 20.0,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with this installation. Looks at versions, devices, folders and plugins."""
    findings: list[Finding] = []
    for topic, look in _TOPICS.items():
        try:
            found = list(look(time_limit))
        except Exception as error:  # a broken torch must not keep us from saying so
            found = [Finding(topic, topic, "wrong", f"cannot be looked at: {error}; reinstall nasframe")]
        findings += found
        if not as_json:
            _print(topic, found)
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        print_json({"ok": not wrong, "findings": [asdict(finding) for finding in findings]})
    elif wrong:
        typer.secho("1 thing is wrong" if wrong == 1 else f"{wrong} things are wrong", fg="red")
    else:
        typer.echo("all is well")
    raise typer.Exit(1 if wrong else 0)


def _print(topic: str, findings: list[Finding]) -> None:
    typer.secho(topic, bold=True)
    for finding in findings:
        text = wrapped(f"{finding.name}: {finding.found}", indent=9)
        typer.echo(f"  {_MARKS[finding.state]}  {text}")
    if not findings:
        typer.echo("  none")
    typer.echo()


def _versions(time_limit: float) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    yield Finding("versions", "python", "ok", f"{platform.python_version()} on {platform.platform()}")
    try:
        distribution = importlib.metadata.distribution("nasframe")
    except importlib.metadata.PackageNotFoundError:
        found = f"{nasframe.__version__}, but not installed: its requirements are unknown; pip install it"
        yield Finding("versions", "nasframe", "wrong", found)
        return
    where = Path(nasframe.__file__).parent
    yield Finding("versions", "nasframe", "ok", f"{nasframe.__version__} in {where}")
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _version(requirement.name, str(requirement.specifier), requirement.specifier.contains)


def _version(name: str, wanted: str, is_right: Callable[[str, bool], bool]) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "versions", name, "wrong", f"not installed, must be {wanted}; pip install '{name}{wanted}'"
        )
    if is_right(version, True):
        return Finding("versions", name, "ok", version)
    return Finding("versions", name, "wrong", f"{version}, must be {wanted}; pip install '{name}{wanted}'")


def _devices(time_limit: float) -> Iterator[Finding]:
    import torch

    from nasframe.recipe.devices import device_named

    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    names += ["mps"] if torch.backends.mps.is_available() else []
    for name in names:
        try:
            torch.ones(2, 2, device=name) @ torch.ones(2, 2, device=name)
        except Exception as error:  # whatever a driver can do
            advice = "update its driver, or take another by `device=cpu`"
            yield Finding(
                "devices", name, "wrong", f"cannot compute: {' '.join(str(error).split())}; {advice}"
            )
        else:
            yield Finding("devices", name, "ok", _device(name))
    yield Finding("devices", "auto", "ok", f"is {device_named('auto')}")


def _device(name: str) -> str:
    import torch

    if not name.startswith("cuda"):
        threads = torch.get_num_threads()
        return f"{threads} thread{'s' if threads > 1 else ''}" if name == "cpu" else "works"
    properties = torch.cuda.get_device_properties(name)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def _folders(time_limit: float) -> Iterator[Finding]:
    hub = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    folders = {
        "runs": (Path("runs"), "change to another folder, or give --out"),
        "temporary files": (Path(tempfile.gettempdir()), "set TMPDIR to another folder"),
        "downloaded data": (Path(hub).expanduser(), "set HF_HOME to another folder, or give data.path"),
    }
    for name, (folder, advice) in folders.items():
        try:
            with tempfile.TemporaryFile(dir=_existing(folder)):
                yield Finding("folders", name, "ok", str(folder.resolve()))
        except OSError as error:
            yield Finding("folders", name, "wrong", f"{folder} cannot be written: {error.strerror}; {advice}")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that there is."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


def _plugins(time_limit: float) -> Iterator[Finding]:
    import nasframe.core  # noqa: F401 (declares the registries)
    from nasframe.declarations import broken_metadata, declared_groups
    from nasframe.recipe.discovery import probe_plugins
    from nasframe.registry import registries

    for state in probe_plugins(time_limit=time_limit):
        name = f"{state.registry} {state.name}"
        if state.failure:
            found = state.failure.removeprefix(f"{state.registry}: ")
            if state.source not in found:
                found = f"{found}; repair or uninstall {state.source}"
            yield Finding("plugins", name, "wrong", found)
        else:
            yield Finding("plugins", name, "ok", f"works, from {state.source}")
    for group, names in declared_groups().items():
        registry = group.removeprefix("nasframe.")
        if registry not in registries:
            advice = f"{did_you_mean(registry, registries)} there are {', '.join(registries)}".lstrip()
            sources = sorted({each.source for declared in names.values() for each in declared})
            found = (
                f"{', '.join(sources)} declares {', '.join(names)} for it, but there is no such registry; "
                f"{advice}"
            )
            yield Finding("plugins", group, "wrong", found)
    for broken in broken_metadata():
        yield Finding("plugins", str(broken.path), "wrong", broken.failure)


_TOPICS: Final[dict[str, Callable[[float], Iterator[Finding]]]] = {
    "versions": _versions,
    "devices": _devices,
    "folders": _folders,
    "plugins": _plugins,
}
