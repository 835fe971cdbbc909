"""The run directory: where a run's plain data lies."""

import hashlib
import itertools
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

import nasframe
from nasframe.core import ActiveSetting, Checkpoints, Prices
from nasframe.core.json_text import read_json_file
from nasframe.core.ranks import num_ranks, shared
from nasframe.core.storage import reason_of, write_whole
from nasframe.errors import FaultWarning, FormatError, StorageError
from nasframe.recipe.allocator import allocator_settings
from nasframe.types import MustExist

_VERSION = 1
_UNTRAINED = (
    "recipe.yaml",
    "environment.json",
    "provenance.json",
    "status.json",
    "lock",
    "search/prices.json",
    "search/genotype.json",
    *(
        f"{stage}/**/{name}"
        for stage in ("search", "retrain")
        for name in ("metrics.jsonl", "tensorboard/events.out.tfevents.*")
    ),
)
"""What a run writes before its first step, as patterns: a genotype that its recipe names, empty records."""


def is_free(root: Path) -> bool:
    """Whether a run can be made in a folder.

    It is not there, or empty, or a run ended in it before it made a step, and nothing but what it wrote until
    then lies there, so that nothing is lost.
    """
    if not root.exists():
        return True
    if not root.is_dir():
        return False
    if not (root / "status.json").exists():
        return not any(root.iterdir())
    untrained = set(_untrained(root))
    if any(path.is_symlink() or not (path.is_dir() or path in untrained) for path in root.rglob("*")):
        return False
    try:
        status = RunDirectory(root).status()
    except FormatError:
        return False
    has_trained = any(status.get("steps", {}).values()) or bool(status.get("records"))
    return status.get("ended") in ("failed", "interrupted") and not has_trained


def _untrained(root: Path) -> Iterator[Path]:
    """What lies in a folder that a run writes before its first step."""
    for pattern in _UNTRAINED:
        yield from root.glob(pattern)


def unusable_for_run(root: Path) -> str:
    """What must hold of a folder that is not free (see `is_free`), and what to do."""
    found = "holds something" if root.is_dir() else "is a file"
    resume = f"go on with `nasframe resume {root}`, or " if (root / "recipe.yaml").exists() else ""
    return f"must be a new or empty folder, but {found}; {resume}choose another --out"


def runs_below(folder: Path) -> list[Path]:
    """The run directories in a folder such as ``runs`` and ``runs/<name>``, by name; none in one of them."""
    if (folder / "recipe.yaml").exists():
        return []
    return sorted(recipe.parent for depth in ("*", "*/*") for recipe in folder.glob(f"{depth}/recipe.yaml"))


def no_run(root: Path, *, finished: bool = True) -> str:
    """What must hold of a folder that is no run directory, and which one may be meant.

    Args:
        root: The folder.
        finished: Whether a finished run is wanted, or one to go on with.
    """
    if (wrong := MustExist("folder").wrong(root)) is not None:
        return f"must be a run directory; {wrong[1]}"
    runs = runs_below(root)
    wanted = [run for run in runs if (run / "report.json").exists() is finished]
    newest = max(wanted or runs, key=lambda run: (run / "recipe.yaml").stat().st_mtime, default=None)
    meant = "" if newest is None else f"; did you mean `{newest}`, one of {len(runs)} runs in it?"
    return f"must be a run directory, but has no recipe.yaml{meant}"


@final
class RunDirectory:
    """The files of one run (their names are public: docs/run_directory.md).

    Attributes:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._written: dict[Path, str] = {}
        self._status: dict[str, Any] | None = None

    @classmethod
    def create(
        cls, root: Path | None, name: str, recipe_text: str, device: str, threads: int | None = None
    ) -> "RunDirectory":
        """Make the folder (by default ``runs/<name>/<time>-<hash>``) and write the recipe into it.

        One of a run that ended before its first step is made anew.

        Raises:
            FormatError: The folder holds something already.
            StorageError: It cannot be made or written.
        """
        if root is None:
            digest = hashlib.sha256(recipe_text.encode()).hexdigest()[:8]
            first = Path("runs") / name / f"{time.strftime('%Y%m%d-%H%M%S')}-{digest}"
            others = (first.with_name(f"{first.name}-{index}") for index in itertools.count(2))
            root = next(folder for folder in itertools.chain([first], others) if not folder.exists())
        try:
            root.mkdir(parents=True)
        except FileExistsError:
            if not is_free(root):
                raise FormatError(f"{root}: {unusable_for_run(root)}") from None
            for path in list(_untrained(root)):
                path.unlink()
        except OSError as error:
            raise StorageError(
                f"{root}: must be a folder that can be made, but {reason_of(error)}; choose another --out"
            ) from error
        run = cls(root.resolve())
        for path, text in (
            (run.recipe, recipe_text),
            (run.environment, json.dumps(_environment(device, threads), indent=2) + "\n"),
        ):
            write_whole(path, text)
            run._written[path] = text
        run.update_status(version=_VERSION, ended="running", finished=[], seconds={}, steps={})
        return run

    @classmethod
    def open(cls, root: Path) -> "RunDirectory":
        """A folder that `create` made.

        Raises:
            FormatError: It is not a run directory, or one of another version.
        """
        run = cls(root.resolve())
        if not run.recipe.is_file():
            raise FormatError(f"{root}: {no_run(root)}")
        for path in run.root.rglob("*"):
            if path.is_symlink() and not path.resolve().is_relative_to(run.root):
                raise FormatError(
                    f"{path}: must not be a link out of the run directory, where a run would write; "
                    "put what it points to in its place"
                )
        if (version := run.status().get("version")) != _VERSION:
            raise FormatError(f"{root}/status.json: version must be {_VERSION}, got {version!r}")
        run._written = {path: path.read_text(encoding="utf-8") for path in (run.recipe, run.environment)}
        return run

    def plain_files(self) -> dict[str, bytes]:
        """What another rank must have to go on: all that is there but checkpoints and figures, by path."""
        stated = [self.recipe, self.environment, self.root / "status.json"]
        paths = [
            *stated,
            self._prices,
            self.genotype,
            self.healthy_genotype,
            self.inherited,
            self.weights,
            self.description,
            self.baseline,
            self.weights_in("baseline"),
        ]
        for stage in ("retrain", "baseline"):
            paths += (self.root / stage).glob("seed_*/*.json")
            paths += (self.root / stage).glob("seed_*/*.safetensors")
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths if path.exists()}

    @classmethod
    def copied(cls, root: Path, files: Mapping[str, bytes]) -> "RunDirectory":
        """A copy in an empty folder, from `plain_files`."""
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return cls(root.resolve())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, no other process works on this run; ``status.json`` names the one that does.

        The system lets go of it when the process ends, however it ends.

        Raises:
            StorageError: Another process holds it, or no lock can be had.
        """
        lock = FileLock(self.root / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            owner = self.status().get("owner") or {}
            who = f"process {owner['pid']} on {owner['host']}, since {owner['since']}" if owner else "another"
            raise StorageError(
                f"{self.root}: must be worked on by one process alone, but is held by {who}; "
                "wait for it, or end it"
            ) from None
        except OSError as error:
            raise StorageError(f"{self.root}/lock: must be writable, but {reason_of(error)}") from error
        try:
            since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            self.update_status(owner={"pid": os.getpid(), "host": platform.node(), "since": since})
            yield
        finally:
            self.update_status(owner=None)
            lock.release()

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def provenance(self) -> Path:
        """Where the values of the recipe were written, when the run was started."""
        return self.root / "provenance.json"

    @property
    def genotype(self) -> Path:
        return self.root / "search" / "genotype.json"

    @property
    def inherited(self) -> Path:
        return self.root / "search" / "inherited.safetensors"

    @property
    def healthy_genotype(self) -> Path:
        """The architecture of the last good epoch of a search that collapsed."""
        return self.root / "search" / "healthy_genotype.json"

    @property
    def baseline(self) -> Path:
        """The architecture that the found one is compared with."""
        return self.root / "baseline" / "genotype.json"

    @property
    def weights(self) -> Path:
        return self.weights_in("retrain")

    def weights_in(self, stage: str) -> Path:
        """The weights that a stage ended with, or the best of several trainings."""
        return self.root / stage / "model.safetensors"

    @property
    def description(self) -> Path:
        """What the network of `weights` is built from; absent where that is not all plain data."""
        return self.root / "retrain" / "config.json"

    @property
    def report(self) -> Path:
        return self.root / "report.json"

    @property
    def export(self) -> Path:
        return self.root / "export"

    def prices(self, make: Callable[[], Prices]) -> Prices:
        """The prices of the search; made and written at first, because what is measured varies.

        Of several ranks the first makes them.
        """
        self.stage("search")
        if not self._prices.exists():
            write_whole(self._prices, shared(lambda: make().to_json()))
        return self._read_prices()

    def known_prices(self) -> Prices | None:
        """The prices of the search, where it had some."""
        return self._read_prices() if self._prices.exists() else None

    def _read_prices(self) -> Prices:
        return Prices.from_json(self._prices.read_text(encoding="utf-8"))

    @property
    def scores(self) -> Path:
        """What an explorer had scored."""
        return self.root / "search" / "scores.jsonl"

    @property
    def _prices(self) -> Path:
        return self.root / "search" / "prices.json"

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        folder = self.root / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{folder}: must be a folder that can be made, but {reason_of(error)}"
            ) from error
        return folder

    def checkpoints(self, stage: str) -> Checkpoints:
        """The checkpoints of a stage."""
        return Checkpoints(self.stage(stage) / "checkpoints")

    def status(self) -> dict[str, Any]:
        """What ``status.json`` says: how it ended, finished stages, seconds and steps of each."""
        if self._status is not None:
            return self._status
        path = self.root / "status.json"
        if not path.exists():
            return {}
        status = read_json_file(path)
        if not isinstance(status, dict):
            raise FormatError(f"{path}: must be an object, got {status!r:.80}")
        return status

    def update_status(self, **changes: Any) -> None:
        """Change some keys of ``status.json``; what cannot be written is told by a `FaultWarning`."""
        self._status = {**self.status(), **changes}
        try:
            self._remake()
            write_whole(self.root / "status.json", json.dumps(self._status, indent=2) + "\n")
        except StorageError as error:
            _tell(f"{error}; the run goes on, and the file says what was before")

    def note(self, sentence: str) -> None:
        """Add what a reader of the result must know to ``status.json``, once; the report has it too."""
        notes = self.status().get("notes", [])
        if sentence not in notes:
            self.update_status(notes=[*notes, sentence])

    def keep_active(self, stage: str, settings: Sequence[ActiveSetting]) -> None:
        """Write into ``status.json`` what settings of a stage came to; the report has it too."""
        active = self.status().get("active", {})
        self.update_status(active={**active, stage: [asdict(setting) for setting in settings]})

    def _remake(self) -> None:
        """Write again what was deleted while the run goes on."""
        for path, text in self._written.items():
            if not path.exists():
                write_whole(path, text)
                _tell(
                    f"{path}: was deleted while the run goes on; it is written again, other files may be lost"
                )


def _tell(message: str) -> None:
    warnings.warn(message, FaultWarning, stacklevel=3)


def _environment(device: str, threads: int | None) -> dict[str, Any]:
    import numpy
    import torch

    return {
        "nasframe": nasframe.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "processor_cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "allocator": allocator_settings(),
        "device": device,
        "ranks": num_ranks(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git": _git_state(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _git_state() -> str | None:
    """Commit of the folder that the run was started in, with ``+`` if something is not committed."""
    try:
        described = subprocess.run(
            # no program that the configuration of a folder from elsewhere may name
            ["git", "-c", "core.fsmonitor=false", "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
