"""What `nasframe new plugin` writes passes its own tests, and what it refuses."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import nasframe
from nasframe.cli import main

KINDS = (
    "algorithm", "augmentation", "dataset", "deriver", "mixed_op", "objective", "op", "perturbation",
    "regularizer", "space",
)  # fmt: skip


@pytest.fixture
def new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs `nasframe new plugin` in a folder of the test's own: exit code, and what was printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[Any, str]:
        with pytest.raises(SystemExit) as caught:
            main(["new", "plugin", *arguments])
        out, err = capsys.readouterr()
        return caught.value.code, " ".join((out + err).split())

    return run


@pytest.mark.slow
def test_a_package_of_each_kind_passes_its_own_tests_at_once(
    new: Callable[..., Any], with_site: Callable[..., Mapping[str, str]], tmp_path: Path
) -> None:
    for kind in KINDS:
        assert new(f"my-{kind}", "--kind", kind, "--out", "packages")[0] == 0
    packages = tmp_path / "packages"
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=packages, env=with_site(*packages.iterdir()), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_registry_of_a_kind_exists(new: Callable[..., Any]) -> None:
    code, said = new("x", "--kind", "nothing")
    assert code == 2
    assert f"--kind must be one of {', '.join(KINDS)}, got `nothing`" in said
    assert {f"{kind}s" for kind in KINDS} <= set(nasframe.registries)


@pytest.mark.parametrize(
    "name", ["My-method", "my method", "../x", "", "-x", "x-", "9x", "class", "nasframe-import"]
)
def test_a_name_that_no_package_can_have_is_refused(
    new: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    code, said = new("--", name)
    assert code == 2
    assert "NAME must be lower-case words" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("torch", "op", "must not be that of a module that is installed"),
        ("json", "op", "must not be that of a module that is installed"),
        ("softmax", "mixed_op", "the mixed_ops have a `softmax` already"),
        ("nasframe-softmax", "mixed_op", "the mixed_ops have a `softmax` already"),
    ],
)
def test_a_name_that_is_taken_is_refused(
    new: Callable[..., Any], name: str, kind: str, said: str, tmp_path: Path
) -> None:
    code, printed = new(name, "--kind", kind)
    assert code == 2
    assert said in printed
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_as_it_is(new: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "my-method").mkdir()
    code, said = new("my-method")
    assert code == 2
    assert "my-method exists" in said
    assert not os.listdir("my-method")
    (tmp_path / "file").touch()
    code, said = new("other", "--out", "file")
    assert code == 2
    assert "cannot be written" in said


def test_the_words_of_the_templates_may_be_names(new: Callable[..., Any], tmp_path: Path) -> None:
    assert new("nasframe-package-component")[0] == 0
    package = tmp_path / "nasframe-package-component"
    assert {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()} == {
        "LICENSE", "README.md", "pyproject.toml", "nasframe_package_component/__init__.py",
        "nasframe_package_component/py.typed", "nasframe_package_component/package_component.py",
        "recipes/package_component.yaml", "tests/test_package_component.py", "tests/test_recipe.py",
    }  # fmt: skip
    assert "class PackageComponent(Algorithm):" in (
        package / "nasframe_package_component" / "package_component.py"
    ).read_text(encoding="utf-8")
