"""Whatever is done to a recipe, it ends in a recipe that says what was said, or in problems with codes.

``pytest tests/faults/test_fuzzed_recipes.py --fuzz-examples 20000`` tries more.
"""

import copy
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nasframe.cli.output import problem_as_json
from nasframe.errors import RecipeError
from nasframe.problem_kinds import KINDS
from nasframe.recipe import Recipe, dump_recipe, load_recipe, recipe_to_mapping
from nasframe.recipe.discovery import shipped_recipes
from nasframe.recipe.json_schema import recipe_schema
from nasframe.recipe.minimal import minimal_mapping
from nasframe.recipe.yaml_text import MAX_CHARACTERS, dump_yaml, read_yaml
from nasframe.registry import registries

FEW = 30
SMALL = """\
name: small
data: {type: synthetic, num_train: 32, num_test: 16, height: 8, width: 8}
space: {type: macro, channels: 4, stages: [1]}
search: {cost: {type: flops}, trainer: {epochs: 1, batch_size: 8, optimizer: {type: sgd, momentum: 0.5}}}
retrain: {trainer: {epochs: 1}, augment: [{type: crop, padding: 1}, flip]}
"""
TEXTS = [SMALL, *(path.read_text() for path in shipped_recipes().values())]
TEXTS.append("include: digits_darts\nname: own\nsearch: {trainer: {optimizer: adam}}\n")


def plain_of(text: str) -> Any:
    node = read_yaml(text, "x.yaml", [])
    return None if node is None else node.plain


NAMES = [name for registry in registries.values() for name in registry.names()]
KEYS = [
    "name", "seed", "type", "search", "trainer", "optimizer", "lr", "epochs", "space", "channels", "include",
    "version", "path", "operations", "stages", "epoch", "Search", "se\u0435d", "a.b", "<<",
    "${seed}", "", "0", "\u202e",
]  # fmt: skip
REFERENCES = [
    "${seed}", "${search}", "${.type}", "${..space}", "${search.trainer.epochs}", "x${name}y",
    "${name}${name}", "${oc.env:HOME}", "${", "$${seed}", "\\${seed}", "${retrain.augment.0}",
    "${" + "a" * 500 + "}",
]  # fmt: skip
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, -1, 2**63, 10**99, 0.5, 1e308, 1e-308, -0.0, 1e3]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [*NAMES, *KEYS, *REFERENCES, "digits_darts", "/", "~", "../x", "\U0001d538", "1e3", "yes"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


def parts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from parts(item, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def near(value: Any) -> st.SearchStrategy[Any]:
    """Values that might stand in the same place."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, (int, float)):
        return st.integers(0, 8) | st.floats(0, 1) | st.none()
    if isinstance(value, str):
        return st.sampled_from(NAMES)
    return st.lists(st.sampled_from(["crop", "flip", {"type": "crop", "padding": 2}]), max_size=2) | values


@st.composite
def mutated_mappings(draw: st.DrawFn, texts: tuple[str, ...] = tuple(TEXTS)) -> Any:
    """A recipe's mapping with up to three of its parts nudged, replaced, removed, renamed, moved or added."""
    mapping = copy.deepcopy(plain_of(draw(st.sampled_from(texts))))
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from([*parts(mapping), ("new",)]))
        owner = at(mapping, tuple(above))
        action = draw(st.sampled_from(["nudge"] * 6 + ["remove"] * 2 + ["replace", "rename", "copy", "bury"]))
        if action == "nudge" and key != "new":
            owner[key] = draw(near(owner[key]))
        elif action == "replace" or key not in (owner if isinstance(owner, dict) else range(len(owner))):
            owner[key] = draw(values)
        elif action == "remove":
            del owner[key]
        elif action == "rename" and isinstance(owner, dict):
            owner[draw(st.sampled_from(KEYS))] = owner.pop(key)
        elif action == "copy":
            other = draw(st.sampled_from(list(parts(mapping))))
            owner[key] = copy.deepcopy(at(mapping, other))
        else:
            for _ in range(draw(st.sampled_from([1, 2, 30, 45]))):
                owner[key] = {draw(st.sampled_from(["type", "a"])): owner[key]}
    return mapping


PIECES = [
    "!!python/object/apply:os.system ['touch ran']", "!!python/name:os.system", "!!set {a}", "!x y",
    "&a [1, 2]", "*a", "*name", "<<: *a", "<<: {seed: 3}", "? [1]", "{{}}", "[", "]", "{", "}", "'", '"',
    "|\n", ">-\n", "---\n", "...\n", "%YAML 1.1\n", "\t", "# ", ": ", "- ", "\\x00", "\x85", "\u2028",
    "\ufeff", "${seed}", "0o17", "1_000", "12:30:45", "2024-01-01", "=", "seed: 1\n",
    "include: digits_darts\n", "include: x.yaml\n", "search:\n",
]  # fmt: skip


@st.composite
def mutated_texts(draw: st.DrawFn) -> str:
    """A recipe's text with up to three pieces put in, cut out, doubled or moved."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 1, 5, 40])))
        put = draw(st.sampled_from(PIECES) | st.text(max_size=5) | st.just(text[start:end] * 2))
        text = text[:start] + put + text[end:]
    return text


def load(text: str, *overrides: str, check: bool = False) -> Recipe | RecipeError:
    Path("x.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        return load_recipe("x.yaml", overrides, check=check)
    except RecipeError as error:
        refusal = error
    assert refusal.problems
    for problem in refusal.problems:
        assert KINDS[problem.kind.code] is problem.kind
        assert json.dumps(problem_as_json(problem))
    return refusal


def is_said(given: Any, result: Any) -> bool:
    """Whether a complete recipe has what was given; a bare name is a mapping with a type."""
    if isinstance(given, dict):
        result = result if isinstance(result, dict) else {}
        return all(key in result and is_said(item, result[key]) for key, item in given.items())
    if isinstance(given, list):
        fits = isinstance(result, list) and len(result) == len(given)
        return fits and all(map(is_said, given, result))
    if isinstance(given, str) and isinstance(result, dict):
        return bool(result["type"] == given)
    return bool(given == result) or (
        isinstance(given, str) and result == os.path.abspath(Path(given).expanduser())
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(recipe_schema())


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Decorates a property with how many examples it is tried on."""
    number = request.config.getoption("--fuzz-examples")
    checks = list(HealthCheck)
    return settings(
        max_examples=number or FEW,
        derandomize=not number,
        deadline=None,
        database=None,
        suppress_health_check=checks,
    )


def check(text: str, validator: Draft202012Validator) -> None:
    """All that must hold of whatever was given."""
    recipe = load(text)
    assert not Path("ran").exists()
    if isinstance(recipe, RecipeError):
        return
    said = plain_of(text)
    mapping = recipe_to_mapping(recipe)
    if "include" not in said and "${" not in text:
        assert is_said(said, mapping), "a wish was dropped"
    assert validator.is_valid(said), "an editor would mark it"
    assert load(dump_recipe(recipe)) == recipe
    assert load(dump_yaml(minimal_mapping(recipe))) == recipe


def test_a_mutated_mapping_is_a_recipe_or_problems(
    examples: Callable[[Any], Any], validator: Draft202012Validator
) -> None:
    @examples
    @given(mutated_mappings())
    def holds(mapping: Any) -> None:
        check(dump_yaml(mapping), validator)

    holds()


def test_a_mutated_text_is_a_recipe_or_problems(
    examples: Callable[[Any], Any], validator: Draft202012Validator
) -> None:
    @examples
    @given(mutated_texts())
    def holds(text: str) -> None:
        check(text, validator)

    holds()


def test_a_mutated_override_is_followed_or_a_problem(examples: Callable[[Any], Any]) -> None:
    paths = [
        ".".join(map(str, path))
        for path in parts(recipe_to_mapping(load_recipe("digits_darts", check=False)))
    ]
    keys = st.sampled_from(paths) | st.sampled_from(KEYS) | st.text(max_size=5)

    @examples
    @given(keys, values, st.sampled_from(["{}={}", "{}={}", "~{}", "{}", "{}.x={}", "{}.0={}"]))
    def holds(key: str, value: Any, form: str) -> None:
        override = form.format(key, dump_yaml(value, flow=True))
        recipe = load(SMALL, override)
        if isinstance(recipe, Recipe) and form == "{}={}" and "${" not in override:
            found: Any = recipe_to_mapping(recipe)
            for name in key.split("."):
                found = found[int(name) if isinstance(found, list) else name]
            assert is_said(value, found)

    holds()


def test_a_mutated_recipe_is_built_or_problems(examples: Callable[[Any], Any]) -> None:
    @examples
    @given(mutated_mappings((SMALL,)))
    def holds(mapping: Any) -> None:
        load(dump_yaml(mapping), check=True)

    holds()


def laughs(levels: int) -> str:
    first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    return first + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, levels))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(laughs(30), id="a billion laughs"),
        pytest.param("a: &a [*a]\n", id="an alias to itself"),
        pytest.param("[" * 5000, id="deep lists"),
        pytest.param("{a: " * 5000, id="deep mappings"),
        pytest.param("- " * 5000, id="deep sequences"),
        pytest.param("".join(f"{' ' * n}a:\n" for n in range(600)), id="deep blocks"),
        pytest.param("seed: " + "9" * (MAX_CHARACTERS - 10), id="a huge number"),
        pytest.param("seed: 1e" + "9" * 1000, id="a huge exponent"),
        pytest.param("x: " + "a" * 10_000_000, id="10 MB on a line"),
        pytest.param("a: 1\n" * 2_000_000, id="10 MB of lines"),
        pytest.param(SMALL + "export: [" + "'${name}'," * 5000 + "]\n", id="many references"),
        pytest.param(SMALL + "threads: '" + "${seed}" * 5000 + "'\n", id="many references in a text"),
        pytest.param("include: [" + "x.yaml," * 1000 + "]\n", id="many includes"),
        pytest.param('name: "\\ud800"\n', id="half a surrogate pair"),
        pytest.param("\x00", id="a null character"),
    ],
)
def test_what_is_made_to_take_all_memory_is_refused_in_little(text: str) -> None:
    tracemalloc.start()
    try:
        assert isinstance(load(text), RecipeError)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(text) + 50_000_000
