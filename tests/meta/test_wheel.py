"""What an installed nasframe has that a checkout has too."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of this checkout, built in a copy."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("nasframe", "recipes", "studies"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "README.md").touch()
    code = "import sys, setuptools.build_meta as build; build.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=source, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_recipes_and_templates_travel_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in ("recipes", "studies"):
        shipped = {f"nasframe/{folder}/{path.name}" for path in (ROOT / folder).glob("*.yaml")}
        assert shipped
        assert shipped <= names
    assert {"nasframe/py.typed", "nasframe/reports/report.html", "nasframe/study/study.html"} <= names
    assert {f"nasframe/pages/{name}" for name in ("macros.html", "style.html", "play.js")} <= names
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "nasframe/templates").rglob("*.template")}
    assert templates
    assert templates <= names


def test_an_installed_wheel_finds_its_recipes(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'Editable' not in repr(f)]\n"
        f"sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import nasframe; assert 'site' in nasframe.__file__, nasframe.__file__\n"
        "assert nasframe.load_recipe('digits_darts', check=False).name == 'digits_darts'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
