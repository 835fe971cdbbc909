"""Options and fixtures that several tests share."""

import itertools
import os
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cifar10",
        metavar="PATH",
        default=os.environ.get("NASFRAME_TEST_CIFAR10"),
        help="folder of CIFAR-10's Parquet files (default: the environment variable NASFRAME_TEST_CIFAR10)",
    )


@pytest.fixture
def cifar10_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the real CIFAR-10."""
    path = request.config.getoption("--cifar10")
    if not path:
        pytest.skip("needs the real CIFAR-10: give --cifar10 PATH or NASFRAME_TEST_CIFAR10")
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
