"""Devices by the names that a recipe gives them, and their memory."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from nasframe.errors import UnsupportedError

_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def device_named(name: str) -> torch.device:
    """The device that a recipe asks for; `auto` is the accelerator if there is one.

    Raises:
        UnsupportedError: This machine does not have it.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(each for each in ("cuda", "mps", "cpu") if available[each])
    if not available[name]:
        raise UnsupportedError(f"device: must be one that this machine has, got {name}; use auto or cpu")
    return torch.device(name)


def default_threads(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPU threads of one operation where nobody says how many.

    What PyTorch takes, which is all cores that it sees; in a container that may use less of them, so many.
    More threads than free cores wait for each other, and slow a step down several times.

    Args:
        quota: Where Linux keeps the microseconds that may be used, and those in which.
    """
    threads = torch.get_num_threads()
    limit, _, period = _text(quota).partition(" ")
    if "OMP_NUM_THREADS" in os.environ or not (limit.isdecimal() and period.isdecimal()):
        return threads
    return min(threads, math.ceil(int(limit) / int(period)))


@contextmanager
def threads_for(threads: int | None) -> Iterator[None]:
    """Inside, an operation takes as many CPU threads as a recipe says, or `default_threads`."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or default_threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kernels_for(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Inside, PyTorch takes kernels that give the same bits each time, or the fastest ones.

    The CPU's add in a fixed order in any case, and MPS has no such switch: there nothing changes.

    Args:
        device: Where it computes.
        deterministic: Which of the two.

    Raises:
        UnsupportedError: An operation has no deterministic kernel.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses without
    torch.use_deterministic_algorithms(deterministic)
    cudnn.deterministic, cudnn.benchmark = deterministic, not deterministic
    try:
        yield
    except RuntimeError as error:
        if "deterministic implementation" not in str(error):
            raise
        raise UnsupportedError(
            f"deterministic: each operation must have a deterministic kernel on {device}, but has not "
            f"({str(error).partition(',')[0]}); set deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


def lost_by(device: torch.device, *, deterministic: bool) -> str:
    """What a reader of a result must know of its last bits; empty where they are the same each time."""
    if device.type == "cpu":
        return ""
    if device.type == "cuda" and deterministic:
        return ""
    why = "deterministic is false" if device.type == "cuda" else f"{device.type} promises no order of sums"
    return f"kernels on {device} may add in another order each time ({why}): another run differs in last bits"


def wait_for(device: torch.device) -> None:
    """Return when a device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process could still take; None where the system does not tell.

    On the CPU what Linux calls available, or the limit of the container if that is less.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    available = _kibibytes(Path("/proc/meminfo"), "MemAvailable")
    limits = [int(text) for text in map(_text, _LIMITS) if text.isdecimal()]
    return min([available, *limits]) if available is not None else None


def peak_memory(device: torch.device) -> int | None:
    """Bytes that this process had at most so far; None where the system does not tell.

    On CUDA what tensors took (``max_memory_allocated``). On the CPU the largest resident set of the
    whole process: Python, PyTorch and the data with the network. It is that of this program alone, where
    ``getrusage`` also counts the one that started it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu":
        return None
    peak = _kibibytes(Path("/proc/self/status"), "VmHWM")
    if peak is None and sys.platform == "darwin":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak


def _kibibytes(path: Path, name: str) -> int | None:
    """A line ``name: 123 kB`` in bytes."""
    for line in _text(path).splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
