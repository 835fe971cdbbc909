import platform
import subprocess
import sys

import pytest

from nasframe.errors import UnsupportedError
from nasframe.recipe.allocator import allocator_settings, keep_freed_memory

KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TOP_PAD_": str(2**26), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")

# sums up the pages that are touched for the first time while a block comes and goes
TOUCHES = """
import ctypes, resource, sys
from nasframe.recipe.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory({})
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def use():
    block = libc.malloc(ctypes.c_size_t(2**26))
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@glibc_only
def test_memory_that_was_freed_is_used_again_without_touching_new_pages():
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    faults = {
        wish: int(
            subprocess.run(
                [sys.executable, "-c", TOUCHES, wish],
                env=environment, check=True, capture_output=True, text=True,
            ).stdout
        )
        for wish in ("keep", "system")
    }  # fmt: skip
    # 64 MiB four times are 128 pages where pages are as huge as 2 MiB
    assert faults["system"] >= 128
    assert faults["keep"] < faults["system"] / 10


@glibc_only
def test_the_environment_says_what_was_set_for_those_who_ask_and_for_child_processes():
    environment = {"PATH": "/bin"}
    keep_freed_memory(environment)
    assert environment == {"PATH": "/bin", **KEPT}
    assert allocator_settings(environment) == KEPT


@pytest.mark.parametrize(
    "chosen",
    [
        {"MALLOC_ARENA_MAX": "2"},
        {"MALLOC_TRIM_THRESHOLD_": "1000000"},
        {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"},
        {"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"},
        {"LD_PRELOAD": "/usr/lib/libtcmalloc_minimal.so.4"},
    ],
)
def test_what_the_user_chose_stays_as_it_is(chosen):
    environment = dict(chosen)
    keep_freed_memory(environment)
    assert environment == chosen
    assert allocator_settings(environment) == chosen


def test_the_switch_leaves_the_allocator_as_the_system_has_it():
    environment = {"NASFRAME_ALLOCATOR": "system"}
    keep_freed_memory(environment)
    assert allocator_settings(environment) == {}


@glibc_only
def test_what_is_preloaded_or_tuned_elsewhere_does_not_count():
    environment = {"LD_PRELOAD": "/usr/lib/libeatmydata.so", "GLIBC_TUNABLES": "glibc.cpu.x86_ibt=off"}
    keep_freed_memory(environment)
    assert allocator_settings(environment) == KEPT


def test_a_switch_that_means_nothing_is_refused():
    with pytest.raises(UnsupportedError, match="NASFRAME_ALLOCATOR: must be keep or system, got 'jemalloc'"):
        keep_freed_memory({"NASFRAME_ALLOCATOR": "jemalloc"})
