"""Recipes from somebody who means harm: each ends in problems that quote no secret, and nothing of it runs.

While a recipe is read, no file is written, no program started, no address looked up, and no file read but
those that lie in its folder or come with nasframe.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nasframe
from nasframe.cli.output import problem_as_json
from nasframe.errors import RecipeError
from nasframe.recipe import Recipe, load_recipe, recipe_to_mapping

SECRET = "top-secret-4711"
TINY = "name: tiny\ndata: digits\nspace: darts\n"
COST = "search: {{cost: {{type: latency, table: {}}}}}\n"
RUN = "touch ran"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 20)
)
DOUBLING = "t0: xxxxxxxx\n" + "".join(f"t{n}: '${{t{n - 1}}}${{t{n - 1}}}'\n" for n in range(1, 19))
LISTS = "l0: [x, x, x, x, x, x, x, x]\n" + "".join(
    f"l{n}: [{', '.join([reference] * 8)}]\n"
    for n, reference in ((n, f"'${{l{n - 1}}}'") for n in range(1, 10))
)
CHAIN = "c0: 1\n" + "".join(f"c{n}: ${{c{n - 1}}}\n" for n in range(1, 60))

TAGS = {
    "calls a function": f"seed: !!python/object/apply:os.system ['{RUN}']",
    "calls by a mapping": f"seed: !!python/object/apply:os.system {{args: ['{RUN}']}}",
    "makes an object": f"seed: !!python/object/new:os.system ['{RUN}']",
    "makes an instance": "seed: !!python/object:argparse.Namespace {a: 1}",
    "names a function": "seed: !!python/name:os.system",
    "names a function in a list": "trackers: [!!python/name:os.system '']",
    "names a module": "seed: !!python/module:subprocess",
    "by its whole name": "seed: !<tag:yaml.org,2002:python/name:os.system> ''",
    "of its own": "seed: !seed 3",
    "reads a variable": "seed: !ENV NASFRAME_SECRET",
    "includes": "search: !include ../secret.yaml",
    "of the core, on another value": "seed: !!int three",
    "binary": "seed: !!binary aGFybQ==",
    "a set": "search: !!set {a, b}",
    "ordered": "search: !!omap [a: 1]",
    "of numbers with sixties": "seed: !!float 1:30",
}
REFERENCES = {
    "reads a variable": "seed: ${oc.env:NASFRAME_SECRET}",
    "reads a variable or a default": "seed: ${oc.env:NASFRAME_SECRET,3}",
    "reads a variable as older ones did": "seed: ${env:NASFRAME_SECRET}",
    "reads a variable in a text": "name: x-${oc.env:NASFRAME_SECRET}",
    "reads a variable by a reference": "seed: ${oc.env:${name}}",
    "decodes": "seed: ${oc.decode:'!!python/name:os.system'}",
    "creates": "seed: '${oc.create:{a: 1}}'",
    "selects": "seed: ${oc.select:seed}",
    "lists keys": "seed: ${oc.dict.keys:search}",
    "evaluates": 'seed: \'${eval:__import__("os").system("' + RUN + "\")}'",
    "nested": "seed: ${${name}}",
    "escaped": "seed: \\${oc.env:NASFRAME_SECRET}",
    "of a shell, with a default": "seed: ${HOME:-3}",
    "with an index": "seed: ${search[trainer]}",
    "unclosed": "seed: ${name",
}
DANGLING = {
    "a variable by its name": "seed: ${NASFRAME_SECRET}",
    "an attribute": "seed: ${name.__class__.__mro__}",
    "an attribute of the recipe": "seed: ${__class__}",
    "a method": "seed: ${search.items}",
    "far above": "seed: ${.......name}",
}
EXPANDING = {
    "aliases of aliases": LAUGHS,
    "references to lists of references": LISTS,
    "lists 5,000 deep": "a: " + "[" * 5000,
    "mappings 5,000 deep": "a: " + "{a: " * 5000,
    "blocks 500 deep": "".join(f"{' ' * n}a:\n" for n in range(500)),
    "a million values": "a: [" + "x," * 1_000_000 + "]",
    "too many keys": "".join(f"k{n}: 1\n" for n in range(21_000)),
    "more references than may be": "a: [" + "'${name}'," * 1001 + "]",
}
NAMES = {
    "above": "../../up",
    "from the root": "/etc/cron.d/job",
    "dots": "..",
    "hidden": ".ssh",
    "a folder": "a/b",
    "a Windows path": "'C:\\\\x'",
    "a command": f"'`{RUN}`'",
    "a substitution": f"'$({RUN})'",
    "a template": "'{{ 7 * 7 }}'",
    "mark-up": "'<script>alert(1)</script>'",
    "lines": '"a\\nb"',
    "a terminal's command": '"\\e]0;owned\\a"',
    "right to left": '"\\u202egnp.exe"',
    "an option": "--out",
    "too long": "x" * 5000,
    "nothing": "''",
}
OUTPUTS = {
    "above": "../latency.json",
    "from the root": "/etc/cron.d/job",
    "at home": "~/.config/latency.json",
    "through a folder": "sub/../../latency.json",
    "through a linked folder": "linked/latency.json",
    "a linked file": "link.yaml",
    "a device": "/dev/shm/latency.json",
    "a circle of links": "circle/latency.json",
    "far too long": "../" + "x" * 5000,
}
INCLUDES = {
    "above": "../secret.yaml",
    "by its whole path": "{outside}/secret.yaml",
    "through a folder": "sub/../../secret.yaml",
    "through a folder that is none": "nothing/../../secret.yaml",
    "a link": "link.yaml",
    "in a linked folder": "linked/secret.yaml",
    "by a file that is included": "sub/deeper.yaml",
    "beside a shipped recipe": "digits_darts/../../secret.yaml",
    "the users": "/etc/passwd",
    "the environment": "/proc/self/environ",
    "without end": "/dev/zero",
    "what is typed": "/dev/stdin",
    "a circle of links": "circle/x.yaml",
    "far too long": "../" + "x" * 5000,
}
ABSENT_INCLUDES = {
    "from the net": "https://example.com/x.yaml",
    "by a file address": "file:///etc/passwd",
    "at home": "~/secret.yaml",
    "all": "'*'",
    "a pipe": "pipe",
    "a folder": "sub",
    "a command": f"'|{RUN}'",
    "a reference": "${name}",
    "a name as long as none may be": "x" * 5000,
}
TYPES = {
    "a function": f"data: {{type: os.system, command: {RUN}}}",
    "an entry point": "data: 'os:abort'",
    "a class": "data: nasframe.core.Genotype",
    "an attribute": "data: __class__",
    "a file": "data: ../evil.py",
    "nothing": "data: ''",
}
KEYS = {
    "a target": "_target_: os.system",
    "an object": "search: {__class__: os}",
    "a constructor": "search: {__init__: 3}",
    "a plugin": "plugin: evil.py",
    "plugins": "plugins: [evil.py]",
    "what the framework gives": "search: {algorithm: {type: darts_bilevel, model: 3}}",
    "a resolver": "hydra: {run: {dir: ..}}",
}


def _cases() -> Iterator[Any]:
    def case(group: str, name: str, code: str, text: str) -> Any:
        return pytest.param(code, text, id=f"{group}: {name}")

    for group, code, added in (
        ("a tag", "NF015", TAGS),
        ("a reference", "NF041", REFERENCES),
        ("a reference to nothing", "NF042", DANGLING),
        ("without bound", "NF003", EXPANDING),
        ("a key", "NF051", KEYS),
    ):
        for name, text in added.items():
            yield case(group, name, code, _replaced(text))
    for name, value in NAMES.items():
        yield case("a name", name, "NF074", f"name: {value}\ndata: digits\nspace: darts\n")
    for name, value in OUTPUTS.items():
        yield case("an output", name, "NF064", TINY + COST.format(value))
    for name, value in INCLUDES.items():
        yield case("an include", name, "NF025", f"include: {value}\n{TINY}")
    for name, value in ABSENT_INCLUDES.items():
        yield case("an include of nothing", name, "NF021", f"include: {value}\n{TINY}")
    for name, text in TYPES.items():
        yield case("a type", name, "NF072", f"name: tiny\nspace: darts\n{text}\n")
    yield case("without bound", "an alias to itself", "NF003", TINY + "a: &a [*a]\n")
    yield case("without bound", "texts that double", "NF044", TINY + DOUBLING)
    yield case("without bound", "a chain of references", "NF043", TINY + CHAIN)
    yield case("without bound", "a number", "NF017", TINY + f"seed: {'9' * 1000}\n")
    yield case("without bound", "files that include another twice", "NF024", f"include: two0.yaml\n{TINY}")
    yield case("without bound", "a file that includes itself", "NF023", f"include: x.yaml\n{TINY}")
    yield case("a key", "a tag", "NF014", TINY + "!!python/name:os.system x: 1\n")
    yield case("a key", "merged", "NF013", TINY + "search: {<<: {seed: 1}}\n")
    yield case("a text", "with a null", "NF016", TINY + 'device: "cpu\\0"\n')
    yield case("a text", "with half a pair", "NF016", TINY + 'device: "\\ud800"\n')
    yield case(
        "a tag",
        "under a handle",
        "NF015",
        f"%TAG !p! tag:yaml.org,2002:python/\n---\n{TINY}seed: !p!name:os.abort\n",
    )


def _replaced(text: str) -> str:
    """The tiny recipe with what a text says instead of its own key."""
    own = [line for line in TINY.splitlines() if not text.startswith(line.partition(":")[0] + ":")]
    return "\n".join([*own, text, ""])


CASES = list(_cases())

WATCHED: list[tuple[str, tuple[Any, ...]]] = []
_watching = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching:
        WATCHED.append((event, arguments))


@pytest.fixture(scope="module", autouse=True)
def hooked() -> None:
    """Python tells of what it does; the hook cannot be removed, only silenced."""
    load_recipe("digits_darts", check=False)  # imports what every recipe needs
    sys.addaudithook(_hook)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe's folder, with a secret beside it."""
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (tmp_path / "secret.yaml").write_text(f"name: {SECRET}\n")
    (tmp_path / "evil.py").write_text("open('ran', 'w')\n")
    (home / "evil.py").write_text("open('ran', 'w')\n")
    (home / "sub" / "deeper.yaml").write_text("include: ../../secret.yaml\n")
    (home / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    (home / "linked").symlink_to(tmp_path)
    (home / "circle").symlink_to(home / "circle")
    os.mkfifo(home / "pipe")
    for n in range(30):
        (home / f"two{n}.yaml").write_text(f"include: [two{n + 1}.yaml, two{n + 1}.yaml]\n")
    (home / "two30.yaml").write_text("seed: 1\n")
    monkeypatch.setenv("NASFRAME_SECRET", SECRET)
    monkeypatch.chdir(home)
    return home


def _read(text: str, *overrides: str) -> Recipe | RecipeError:
    """What comes of a recipe, and what Python did meanwhile."""
    global _watching
    Path("x.yaml").write_text(text)
    WATCHED.clear()
    _watching = True
    try:
        return load_recipe("x.yaml", overrides, check=False)
    except RecipeError as error:
        return error
    finally:
        _watching = False


def _assert_harmless(home: Path) -> None:
    shipped = Path(nasframe.__file__).parent
    for event, arguments in WATCHED:
        assert not event.startswith(("os.system", "subprocess.", "os.exec", "os.posix_spawn", "os.fork")), (
            event
        )
        assert not event.startswith(("socket.", "urllib.", "ctypes.", "pickle.")), event
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = Path(os.fsdecode(arguments[0])).resolve()
            assert not str(arguments[1] or "r").strip("rbt"), f"{path} was opened to write"
            code = path.suffix in (".py", ".pyc", ".so") and path.name != "evil.py"  # imports of components
            packages = path.parent.suffix in (".dist-info", ".egg-info")
            assert (
                path.is_relative_to(home) or path.is_relative_to(shipped.resolve().parent) or code or packages
            )
    assert not list(home.parent.rglob("ran"))


def test_there_are_enough() -> None:
    assert len(CASES) >= 60
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize(("code", "text"), CASES)
def test_a_hostile_recipe_is_refused_and_does_nothing(code: str, text: str, home: Path) -> None:
    before = sorted(home.parent.rglob("*"))
    started = time.process_time()
    error = _read(text.replace("{outside}", str(home.parent)))
    assert time.process_time() - started < 10
    assert isinstance(error, RecipeError)
    assert code in {problem.kind.code for problem in error.problems}
    _assert_harmless(home)
    assert sorted({*home.parent.rglob("*")} - {home / "x.yaml"}) == before
    told = str(error) + json.dumps([problem_as_json(problem) for problem in error.problems])
    assert SECRET not in told


@pytest.mark.parametrize(
    "override",
    [
        "seed=${oc.env:NASFRAME_SECRET}",
        f"seed=!!python/object/apply:os.system ['{RUN}']",
        "include=../secret.yaml",
        "name=../../up",
        "__class__=3",
        "search.algorithm={type: os.system}",
        ".".join("a" * 100) + "=1",
        "=".join("a" * 1000),
        "seed=" + "[" * 5000,
    ],
)
def test_an_override_runs_nothing_either(override: str, home: Path) -> None:
    error = _read(TINY, override)
    assert isinstance(error, RecipeError)
    assert SECRET not in str(error)
    _assert_harmless(home)


def test_the_home_of_nobody_is_no_place(home: Path) -> None:
    Path("x.yaml").write_text(TINY + "genotype: ~nobody-is-called-so/x.json\n")
    with pytest.raises(RecipeError, match="NF091 genotype: must be a file that exists"):
        load_recipe("x.yaml")


def test_what_may_be_included_and_written_is_what_lies_below(home: Path) -> None:
    (home / "sub" / "base.yaml").write_text(f"include: ../other.yaml\n{COST.format('latency.json')}")
    (home / "other.yaml").write_text(TINY)
    recipe = _read("include: [sub/base.yaml, ./other.yaml]\n")
    assert isinstance(recipe, Recipe)
    assert recipe.search.cost is not None
    assert recipe.search.cost.settings["table"] == home / "sub" / "latency.json"
    assert isinstance(_read("include: digits_darts\n"), Recipe)


def test_a_file_outside_may_be_included_and_written_where_the_user_says_so(home: Path) -> None:
    (home.parent / "base.yaml").write_text(TINY)
    Path("x.yaml").write_text("include: ../base.yaml\n" + COST.format("/elsewhere/latency.json"))
    recipe = load_recipe("x.yaml", check=False, outside=True)
    assert recipe.search.cost is not None
    assert recipe.search.cost.settings["table"] == Path("/elsewhere/latency.json")
    named = ["search.cost.table=/elsewhere/latency.json"]
    Path("x.yaml").write_text(TINY + "search: {cost: latency}\n")
    assert load_recipe("x.yaml", named, check=False).search.cost == recipe.search.cost


def test_a_relative_output_may_lie_below_the_working_folder(home: Path) -> None:
    recipe = home / "sub" / "x.yaml"
    recipe.write_text(TINY + COST.format("../latency.json"))
    assert load_recipe(recipe, check=False).name == "tiny"


@pytest.mark.parametrize(
    "text", ["$(touch ran)", "`touch ran`", "{{ 7 * 7 }}", "<script>", '"); import os', "%(seed)s", "$HOME"]
)
def test_what_is_no_reference_stays_the_text_that_it_is(text: str, home: Path) -> None:
    quoted = json.dumps(text)
    recipe = _read(f"name: tiny\ndata: {{type: cifar10, name: {quoted}}}\nspace: darts\n")
    assert isinstance(recipe, Recipe)
    assert recipe_to_mapping(recipe)["data"]["name"] == text
    _assert_harmless(home)
