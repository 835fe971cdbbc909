"""The way of an author of a plugin as a stranger walks it: wheels, pip, an environment of its own."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and the folder that its user works in."""

    root: Path
    work: Path
    variables: Mapping[str, str]

    def __call__(self, command: str, *more: str, **variables: str) -> str:
        """What a command of the environment prints on standard output."""
        name, *arguments = [*command.split(), *more]
        done = subprocess.run(
            [str(self.root / "bin" / name), *arguments],
            cwd=self.work, env={**self.variables, **variables}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def pip(self, arguments: str) -> None:
        """Run pip for this environment; its own would take long to install."""
        call = [sys.executable, "-m", "pip", "--python", str(self.root), "--disable-pip-version-check"]
        done = subprocess.run(
            [*call, *arguments.split()],
            cwd=self.work, env=self.variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"pip {arguments}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Environment:
    """A virtual environment with the wheel of this nasframe; what that needs it has, or sees."""
    pytest.importorskip("setuptools", minversion="77")
    root, work = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("work")
    venv.create(root, symlinks=True)
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_NO"))
    }
    made = Environment(
        root, work, {**variables, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(work / "cache")}
    )
    ignored = shutil.ignore_patterns("__pycache__", ".*", "build", "runs", "tests", "*.egg-info")
    shutil.copytree(ROOT, work / "source", symlinks=True, ignore=ignored)
    if pytestconfig.getoption("--from-index"):
        made.pip(f"install -c {ROOT}/constraints.txt ./source")
        made.pip(f"install -c {ROOT}/constraints.txt setuptools")
    else:
        purelib = sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)})
        (Path(purelib) / "seen.pth").write_text(sysconfig.get_path("purelib") + "\n")
        made.pip("install --force-reinstall --no-deps --no-index --no-build-isolation ./source")
    shutil.rmtree(work / "source")
    return made


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_package_is_written_installed_found_run_and_removed(environment: Environment) -> None:
    where = environment("python -c", "import nasframe; print(nasframe.__file__)")
    assert Path(where.strip()).is_relative_to(environment.root)

    environment("nasframe new plugin my-method --kind mixed_op")
    environment.pip("wheel --no-deps --no-index --no-build-isolation --wheel-dir wheels ./my-method")
    (environment.work / "my-method" / "recipes" / "my_method.yaml").rename(environment.work / "mine.yaml")
    shutil.rmtree(environment.work / "my-method")
    environment.pip("install --no-index wheels/my_method-0.1.0-py3-none-any.whl")

    rows = {row["name"]: row for row in json.loads(environment("nasframe list mixed_ops --json"))}
    assert (rows["my_method"]["from"], rows["my_method"]["failure"]) == ("my_method 0.1.0", None)
    assert offered(environment, "nasframe run mine.yaml search.mixed_op=my") == ["search.mixed_op=my_method"]
    told = json.loads(environment("nasframe run mine.yaml --out run --json"))
    assert "type: my_method" in (Path(told["folder"]) / "recipe.yaml").read_text(encoding="utf-8")

    environment.pip("uninstall --yes my-method")
    assert "my_method" not in environment("nasframe list mixed_ops")


def offered(environment: Environment, line: str) -> list[str]:
    """What bash is offered at the end of a command line."""
    count = str(len(line.split()) - 1)
    said = environment("nasframe", _NASFRAME_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=count)
    return said.split()
