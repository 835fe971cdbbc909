"""The C library's allocator, told to keep freed memory: no step then pays for new pages."""

import ctypes
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Final

from nasframe.errors import UnsupportedError

SWITCH: Final = "NASFRAME_ALLOCATOR"
"""Environment variable: ``system`` leaves the allocator as it is, ``keep`` is the default."""

_OPTIONS: Final = {
    "MALLOC_MMAP_MAX_": (-4, 0),  # large blocks come from the heap, too
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),  # whose end is not given back to the system
    "MALLOC_TOP_PAD_": (-2, 2**26),  # and which grows by so many bytes at once
}
"""glibc's environment variables, with the number by which ``mallopt`` (malloc.h) knows each, and a value."""


def keep_freed_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let glibc's allocator keep what is freed; the environment then says so, to child processes too.

    Nothing happens with another C library, or where the user chose settings or another allocator.

    Args:
        environment: Read and changed.

    Raises:
        UnsupportedError: `SWITCH` has another value than ``keep`` and ``system``.
    """
    wish = environment.get(SWITCH, "keep")
    if wish not in ("keep", "system"):
        raise UnsupportedError(
            f"{SWITCH}: must be keep or system, got {wish!r}; change the environment variable"
        )
    if wish == "keep" and _is_glibc() and not allocator_settings(environment):
        mallopt = ctypes.CDLL(None).mallopt
        for name, (option, value) in _OPTIONS.items():
            if mallopt(option, value) == 1:
                environment[name] = str(value)


def allocator_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables that change how this process allocates; none if that is as usual."""
    named = {name: value for name, value in sorted(environment.items()) if name.startswith("MALLOC_")}
    shared = {name: environment.get(name, "") for name in ("GLIBC_TUNABLES", "LD_PRELOAD")}
    return {**named, **{name: value for name, value in shared.items() if "malloc" in value}}


def _is_glibc() -> bool:
    try:
        return sys.platform == "linux" and (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):  # musl does not know the name
        return False
