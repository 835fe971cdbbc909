"""Reading YAML: safely, in bounds, by the core schema of YAML 1.2."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasframe.errors import Problem
from nasframe.recipe.yaml_text import (
    MAX_CHARACTERS,
    MAX_VALUES,
    dump_annotated,
    dump_yaml,
    read_yaml,
    split_values,
)


def read(text: str) -> Any:
    problems: list[Problem] = []
    node = read_yaml(text, "x.yaml", problems)
    assert not problems
    assert node is not None
    return node.plain


def problems_of(text: str) -> list[Problem]:
    problems: list[Problem] = []
    read_yaml(text, "x.yaml", problems)
    return problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-.inf", -math.inf),
        ("true", True),
        ("yes", "yes"),
        ("off", "off"),
        ("null", None),
        ("~", None),
        ("", None),
        ("2024-05-06", "2024-05-06"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("'3'", "3"),
        ("!!str 3", "3"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    assert read(text) == value
    assert type(read(text)) is type(value)


def test_not_a_number_is_read_as_such() -> None:
    assert math.isnan(read(".nan"))


def test_each_value_and_key_has_its_place() -> None:
    node = read_yaml("a:\n  - 1\n  - b: two\n", "x.yaml", [])
    assert node is not None
    found = node.find(("a", 1, "b"))
    assert found is not None
    assert (str(found.key_at), str(found.at)) == ("x.yaml:3:5", "x.yaml:3:8")


@pytest.mark.parametrize(
    ("text", "where", "rule"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml:3:1", "a key must stand once in its mapping"),
        ("a: !!python/object/apply:os.getcwd []", "x.yaml:1:4", "a recipe must not use tags"),
        ("a: !thing {b: 1}", "x.yaml:1:4", "a recipe must not use tags"),
        ("a: !!int x", "x.yaml:1:4", "a recipe must not use tags"),
        ("a: !!binary aGk=", "x.yaml:1:4", "a recipe must not use tags"),
        ("1: a", "x.yaml:1:1", "a key must be text"),
        ("? [a]\n: 1", "x.yaml:1:3", "a key must be text"),
        ("<<: {a: 1}", "x.yaml:1:1", "merge keys are not read"),
        ('a: "\\0"', "x.yaml:1:4", "text must be valid Unicode without null characters"),
        ('a: "\\ud800"', "x.yaml:1:4", "text must be valid Unicode without null characters"),
        (f"a: {'9' * 5000}", "x.yaml:1:4", "a whole number must have at most 100 digits"),
        ("a: [1", "x.yaml:1:6", "must be YAML: "),
        ("a: b: c", "x.yaml:1:5", "must be YAML: "),
        ("a: *b", "x.yaml:1:4", "must be YAML: "),
        ("--- a\n--- b", "x.yaml:2:1", "must be YAML: "),
        ("\x01", "x.yaml:1:1", "must be YAML: "),
        ("&a [*a]", "x.yaml:1:1", "must nest at most"),
        ("[" * 100_000, "x.yaml:1:41", "must nest at most"),
    ],
)
def test_what_a_recipe_must_not_say_is_a_problem_with_its_place(text: str, where: str, rule: str) -> None:
    (problem,) = problems_of(text)
    assert problem.where == where
    assert problem.rule.startswith(rule)


def test_a_tag_executes_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    assert problems_of(f"a: !!python/object/apply:os.mkdir ['{victim}']")
    assert not victim.exists()
    assert os.getcwd()


def test_aliases_cannot_multiply_without_end() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (problem,) = problems_of("\n".join(levels))
    assert problem.rule.startswith(f"a recipe must have at most {MAX_VALUES} values")


def test_a_text_that_no_recipe_needs_is_not_read() -> None:
    (problem,) = problems_of("a" * (MAX_CHARACTERS + 1))
    assert problem.rule == f"must have at most {MAX_CHARACTERS} characters"


def test_the_rest_is_read_beside_a_problem() -> None:
    problems: list[Problem] = []
    node = read_yaml("a: !x 1\nb: !y 2\nc: 3", "x.yaml", problems)
    assert len(problems) == 2
    assert node is not None
    assert node.is_broken
    assert node.plain == {"a": None, "b": None, "c": 3}


scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
words = st.sampled_from(
    [
        "1e3",
        "yes",
        "null",
        "",
        "0x1",
        "1.",
        "~",
        "<<",
        "=",
        "a: b",
        "- x",
        "# x",
        "'",
        "010",
        "a\x85b",
        "\u2028",
        "\n\u2029",
    ]
)
values = st.recursive(
    scalars | numbers | texts | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts.filter(lambda key: key != "<<"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_what_is_dumped_is_read_back(value: Any) -> None:
    assert read(dump_yaml(value)) == value
    assert read(dump_yaml(value, flow=True)) == value


@given(st.text(max_size=60))
def test_any_text_ends_in_a_value_or_a_problem(text: str) -> None:
    problems: list[Problem] = []
    assert read_yaml(text, "x.yaml", problems) is not None or problems


@given(values, st.text(alphabet="ab #:'\"", min_size=1))
@settings(max_examples=40)
def test_comments_change_nothing_of_what_is_read(value: Any, comment: str) -> None:
    comments = dict.fromkeys(_paths(value, ()), comment)
    assert read(dump_annotated({"top": value}, comments)) == {"top": value}


def _paths(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield ("top", *path)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))


def test_a_comment_stands_beside_its_value_and_that_of_a_name_beside_its_type() -> None:
    value = {"data": "digits", "space": {"type": "darts", "sizes": [1, 2], "text": "a\n\nb"}, "many": []}
    paths = [("data", "type"), ("space", "type"), ("space", "sizes"), ("space", "text"), ("many",)]
    text = dump_annotated(value, {path: ".".join(path) for path in paths})
    commented = {line.partition("  # ")[2]: line.partition("  # ")[0].strip() for line in text.splitlines()}
    del commented[""]
    assert commented == {
        "data.type": "data: digits",
        "space.type": "type: darts",
        "space.sizes": "sizes:",
        "space.text": "b'",
        "many": "many: []",
    }


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0,1, 2", ["0", "1", "2"]),
        ("1e-3,null", ["1e-3", "null"]),
        ("{type: sgd, lr: 0.1},adam", ["{type: sgd, lr: 0.1}", "adam"]),
        ("[1,2]", ["[1,2]"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("é,ü", ["é", "ü"]),
        ("", [""]),
        ("a,", ["a,"]),
        ("{a", ["{a"]),
        ("a],[b", ["a],[b"]),
        ("a,#b", ["a,#b"]),
    ],
)
def test_values_between_commas_are_parted_as_they_were_written(text: str, values: list[str]) -> None:
    assert split_values(text) == values
