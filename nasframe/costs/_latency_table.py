"""Measured latencies as a file."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, final

import torch

from nasframe.core.json_text import read_json_file
from nasframe.errors import FormatError, UnsupportedError

_FORMAT, _VERSION = "nasframe.latency", 1


@final
@dataclass(frozen=True)
class Timing:
    """Median and interquartile range of some calls, in milliseconds, and how many they were."""

    median_ms: float
    iqr_ms: float
    repeats: int

    @classmethod
    def of(cls, durations_ms: Sequence[float]) -> "Timing":
        """Summarize at least two durations."""
        lower, median, upper = statistics.quantiles(durations_ms, n=4, method="inclusive")
        return cls(median, upper - lower, len(durations_ms))


@final
class LatencyTable:
    """Timings by key, all of one device; each new one is written to the file, if there is one.

    Args:
        path: The file; None to keep them in memory alone.
        device: What they were measured on.
        timings: What there is already.
    """

    def __init__(self, path: Path | None, device: Mapping[str, Any], timings: Mapping[str, Timing]) -> None:
        self._path, self._device, self.timings = path, dict(device), dict(timings)

    @classmethod
    def open(cls, path: Path | None, device: torch.device, runtime: str = "torch") -> "LatencyTable":
        """Read the table of this device, or begin one.

        Args:
            path: The file; None to keep timings in memory alone.
            device: What is measured on.
            runtime: The package that runs the networks.

        Raises:
            FormatError: The file is no such table.
            UnsupportedError: It was measured on another device, or with other threads or versions.
        """
        here = describe(device, runtime)
        if path is None or not path.exists():
            return cls(path, here, {})
        there, timings = _read(path)
        if different := [key for key in here if there.get(key) != here[key]]:
            listed = ", ".join(f"{key} {there.get(key)!r} instead of {here[key]!r}" for key in different)
            raise UnsupportedError(
                f"{path}: must be a table of this device, but was measured with {listed}; "
                "give another path, to measure anew"
            )
        return cls(path, here, timings)

    def add(self, key: str, timing: Timing) -> None:
        """Keep a timing; a file is replaced as a whole, so that it is never half written."""
        self.timings[key] = timing
        if self._path is None:
            return
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "device": self._device,
            "timings": {name: asdict(each) for name, each in self.timings.items()},
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self._path)


def describe(device: torch.device, runtime: str = "torch") -> dict[str, Any]:
    """What latencies depend on besides the network: hardware, threads, version of what runs it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    threads = torch.get_num_threads() if device.type == "cpu" else None
    version = torch.__version__ if runtime == "torch" else metadata.version(runtime)
    return {"type": device.type, "name": name, "threads": threads, runtime: version}


def _processor() -> str:
    """The processor's name; what Python says of it is empty on many Linux systems."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Timing]]:
    content = read_json_file(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise FormatError(f"{path}: must be an object with format `{_FORMAT}`; give another path")
    if content.get("version") != _VERSION:
        raise FormatError(f"{path}: version must be {_VERSION}, got {content.get('version')!r}")
    try:
        timings = {
            str(key): _timing(key, each["median_ms"], each["iqr_ms"], each["repeats"])
            for key, each in content["timings"].items()
        }
        return dict(content["device"]), timings
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path}: must have `device` and `timings`: {error!r}") from error


def _timing(key: str, *figures: Any) -> Timing:
    if not all(type(figure) in (int, float) and figure >= 0 for figure in figures):
        raise ValueError(f"{key:.80} must have figures that are not negative, got {figures!r:.80}")
    median_ms, iqr_ms, repeats = figures
    return Timing(float(median_ms), float(iqr_ms), int(repeats))
