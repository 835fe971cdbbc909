"""Packages of third parties, built and installed without a network."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Install = Callable[[Path], Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Builds the wheel of a package in a copy of it, and unpacks it into one folder for all."""
    pytest.importorskip("setuptools", minversion="77")
    site = tmp_path / "site"

    def install(package: Path) -> Path:
        source, wheels = tmp_path / "sources" / package.name, tmp_path / "wheels" / package.name
        ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
        shutil.copytree(package, source, ignore=ignored)
        wheels.mkdir(parents=True)
        code = "import sys, setuptools.build_meta as build; build.build_wheel(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, str(wheels)], cwd=source, check=True, capture_output=True)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        return site

    return install


@pytest.fixture
def with_site() -> Callable[..., Mapping[str, str]]:
    """The environment of a process that has this nasframe and the packages of a folder."""

    def with_site(*folders: Path) -> Mapping[str, str]:
        path = os.pathsep.join(map(str, [*folders, ROOT]))
        return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    return with_site
