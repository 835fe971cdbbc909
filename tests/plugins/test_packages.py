"""The packages below plugins/: complete, installable, tested by themselves, on the public API alone."""

import ast
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

import nasframe
from nasframe.cli.shipped import header_of

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
PUBLIC = set(runpy.run_path(str(ROOT / "docs" / "public_api.py"), run_name="public_api")["MODULES"])

each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def declared(package: Path) -> Mapping[str, Mapping[str, str]]:
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: Mapping[str, Mapping[str, str]] = project["entry-points"]
    return found


def test_the_packages_are_those_of_the_readme() -> None:
    text = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
    assert [package.name for package in PACKAGES] == [
        "nasframe-gdas",
        "nasframe-medmnist",
        "nasframe-pcdarts",
    ]
    assert all(f"[{package.name}]" in text for package in PACKAGES)


@each_package
def test_a_package_is_complete(package: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        assert (package / name).stat().st_size > 200
    assert list((package / "tests").glob("test_*.py"))
    recipes = list((package / "recipes").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        header = header_of(recipe.read_text(encoding="utf-8"))
        assert header.keys() >= {"what", "source", "hardware", "time", "expected"}


def test_wheels_declare_their_names_and_pass_their_own_tests(
    install: Callable[[Path], Path],
    with_site: Callable[..., Mapping[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    for package in PACKAGES:
        site = install(package)
        for part in ("tests", "recipes"):  # and not the module, so that it comes from the wheel
            shutil.copytree(package / part, run / package.name / part)
    monkeypatch.syspath_prepend(str(site))
    for package in PACKAGES:
        for group, names in declared(package).items():
            registry = nasframe.registries[group.removeprefix("nasframe.")]
            assert {registry.origin(name) for name in names} == {f"{package.name.replace('-', '_')} 0.1.0"}
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=run, env=with_site(site), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def private_uses(source: str) -> Iterator[str]:
    """What a module uses of nasframe that is not public, and what is private of any object but its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"import {name.name}" for name in node.names if not is_public(name.name))
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [name.name for name in node.names]
            yield from (f"from {module} import {name}" for name in names if not is_public(module, name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value):
            yield ast.unparse(node)


def is_own(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def is_public(module: str, name: str | None = None) -> bool:
    if module.partition(".")[0] != "nasframe":
        return not any(map(is_private, [*module.split("."), name or ""]))
    if module not in PUBLIC and not module.startswith("nasframe.ops."):
        return False
    if name is None or f"{module}.{name}" in PUBLIC:
        return not any(map(is_private, module.split(".")))
    home = import_module(module)
    return name in getattr(home, "__all__", dir(home)) and not is_private(name)


@each_package
def test_a_package_uses_the_public_api_alone(package: Path) -> None:
    sources = [path for path in package.rglob("*.py") if "build" not in path.parts]
    assert len(sources) >= 3
    found = {path.name: list(private_uses(path.read_text(encoding="utf-8"))) for path in sources}
    assert {name: uses for name, uses in found.items() if uses} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from nasframe.core.mixed_op import MixedOp",
        "from nasframe.mixed_ops.softmax import Softmax",
        "from nasframe.core import Registry",
        "from nasframe.registry import registries",
        "from nasframe.spaces import darts",
        "import nasframe.recipe.stages",
        "from nasframe.ops._maps import check_channels",
        "from nasframe.errors import _x",
        "def f(model): return model._autocast",
        "class A:\n    def f(self): return self.model._modules",
        "from torch._C import x",
    ],
)
def test_what_is_private_is_seen(source: str) -> None:
    assert list(private_uses(source))


@pytest.mark.parametrize(
    "source",
    [
        "import nasframe\nnasframe.run",
        "from nasframe import Component, testing",
        "from nasframe.core import MixedOp, mixed_ops",
        "from nasframe.ops.relu_conv_bn import ReLUConvBN",
        "from nasframe.types import PositiveInt\nfrom nasframe.errors import DataError",
        "class A:\n    def __init__(self): self._x = type(self).__name__",
    ],
)
def test_what_is_public_is_let_pass(source: str) -> None:
    assert not list(private_uses(source))
