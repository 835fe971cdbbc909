"""Options and fixtures that several tests share."""

import functools
import gc
import itertools
import json
import os
import random
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_HERE = {"localhost", "127.0.0.1", "::1", "", None}


def _offline(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]  # of this machine's own sockets it is a path
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
    else:
        return
    if host not in _HERE:
        raise RuntimeError(f"no test may use the network, but one asks for {host}")


def pytest_configure() -> None:
    sys.addaudithook(_offline)


def pytest_collection_finish() -> None:
    # what is imported stays to the end: no collection of garbage needs to walk through it
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def disk() -> Iterator[None]:
    """A disk that need not keep what is written through a loss of power: runs wait for theirs often."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda number: None)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cifar10",
        metavar="PATH",
        default=os.environ.get("NASFRAME_TEST_CIFAR10"),
        help="folder of CIFAR-10's Parquet files (default: the environment variable NASFRAME_TEST_CIFAR10)",
    )
    parser.addoption(
        "--nas-bench-macro",
        metavar="PATH",
        default=os.environ.get("NASFRAME_TEST_NAS_BENCH_MACRO"),
        help="NAS-Bench-Macro's JSON table (default: the environment variable NASFRAME_TEST_NAS_BENCH_MACRO)",
    )
    parser.addoption(
        "--proxyless",
        metavar="PATH",
        default=os.environ.get("NASFRAME_TEST_PROXYLESS"),
        help="folder of ProxylessNAS's published configs (default: the environment variable "
        "NASFRAME_TEST_PROXYLESS)",
    )

    parser.addoption(
        "--fuzz-examples",
        metavar="NUMBER",
        type=int,
        help="mutated recipes that each property is tried on, drawn anew each time (default: few and fixed)",
    )
    parser.addoption(
        "--fuzz-inputs",
        metavar="NUMBER",
        type=int,
        default=10,
        help="inputs that fuzzing found, of each reader, that are read again (default: %(default)s)",
    )
    parser.addoption(
        "--from-index",
        action="store_true",
        help="let the fresh environment of the tests of plugins download all that nasframe needs (minutes, "
        "gigabytes; default: it sees what is installed here)",
    )


@pytest.fixture
def cifar10_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the real CIFAR-10."""
    path = request.config.getoption("--cifar10")
    if not path:
        pytest.skip("needs the real CIFAR-10: give --cifar10 PATH or NASFRAME_TEST_CIFAR10")
    return Path(path).resolve()


@pytest.fixture
def nas_bench_macro_file(request: pytest.FixtureRequest) -> Path:
    """The file of the real NAS-Bench-Macro."""
    path = request.config.getoption("--nas-bench-macro")
    if not path:
        pytest.skip("needs NAS-Bench-Macro: give --nas-bench-macro PATH or NASFRAME_TEST_NAS_BENCH_MACRO")
    return Path(path).resolve()


@pytest.fixture
def nas_bench_macro(nas_bench_macro_file: Path) -> dict[str, dict[str, Any]]:
    """The table of NAS-Bench-Macro: by key an architecture's accuracies, parameters, multiply-adds."""
    table: dict[str, dict[str, Any]] = json.loads(nas_bench_macro_file.read_text(encoding="utf-8"))
    return table


@pytest.fixture
def macro_table(tmp_path: Path) -> Path:
    """A file of the form of NAS-Bench-Macro's table, whose accuracies are drawn at random."""
    path = tmp_path / "table.json"
    path.write_text(_macro_table())
    return path


@functools.cache
def _macro_table() -> str:
    drawn = random.Random(0)
    keys = ("".join(digits) for digits in itertools.product("012", repeat=8))
    return json.dumps({key: {"mean_acc": round(drawn.uniform(40, 95), 2)} for key in keys})


@pytest.fixture
def nas_bench_201_table(tmp_path: Path) -> Path:
    """A file of the form that the benchmark nas_bench_201 reads, whose accuracies are drawn at random."""
    path = tmp_path / "nas_bench_201.json"
    path.write_text(_nas_bench_201_table())
    return path


@functools.cache
def _nas_bench_201_table() -> str:
    drawn = random.Random(0)
    ops = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    keys = (
        f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in itertools.product(ops, repeat=6)
    )
    return json.dumps({key: round(drawn.uniform(10, 95), 2) for key in keys})


@pytest.fixture
def proxyless_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the networks that the authors of ProxylessNAS published."""
    path = request.config.getoption("--proxyless")
    if not path:
        pytest.skip("needs ProxylessNAS's configs: give --proxyless PATH or NASFRAME_TEST_PROXYLESS")
    return Path(path).resolve()


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Installs a distribution of a third party: ``third_party(name, source, algorithms="x = X")``.

    Each keyword is a registry, its value ``name = Object`` of the module that `source` is; returns the
    folder that it lies in, which is on ``sys.path`` until the test ends.
    """
    modules = itertools.count()

    def install(distribution: str, source: str, **declared: str) -> Path:
        folder = tmp_path / f"site-{next(modules)}"
        module = f"{distribution}_{uuid.uuid4().hex}"
        info = folder / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(textwrap.dedent(source))
        entries = []
        for registry, entry in declared.items():
            name, _, target = entry.partition(" = ")
            entries.append(f"[nasframe.{registry}]\n{name} = {module}:{target}\n")
        (info / "entry_points.txt").write_text("".join(entries))
        monkeypatch.syspath_prepend(str(folder))
        return folder

    return install
