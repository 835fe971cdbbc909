"""Text that becomes part of a Python file: whatever it is, it becomes no code."""

import ast

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasframe.exporters._layout import class_name, comment, docstring, identifier, literal

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.lists(inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(plain)
def test_a_literal_is_the_value(value):
    assert eval(literal(value), {"__builtins__": {"float": float}}) == value


def test_types_of_tensors_are_literals():
    assert eval(literal((torch.float32, torch.channels_last)), {"torch": torch}) == (
        torch.float32,
        torch.channels_last,
    )


@given(st.text(), st.sets(st.text(), max_size=3))
def test_a_name_of_any_text_is_a_new_name(text, taken):
    for name in (identifier(text, taken), class_name(text, taken)):
        assert name not in taken
        assert ast.parse(f"{name} = 0").body[0].targets[0].id == name
        assert ast.parse(f"def {name}(): ...")


def test_a_name_is_no_attribute_that_modules_have():
    assert identifier("training", dir(nn.Module())) == "training_2"


@given(st.text())
def test_a_comment_stays_on_its_line(text):
    assert ast.parse(f"# {comment(text)}\nx = 0").body[0].lineno == 2


@given(st.text())
def test_a_docstring_ends_where_it_ends(text):
    (only,) = ast.parse(f'"""{docstring(text)}"""').body
    assert only.value.value == docstring(text)


def test_a_docstring_is_the_first_sentence():
    assert docstring("Halves it (Liu et al. 2019). More.") == "Halves it (Liu et al. 2019)."
    assert docstring("one\nline\n\nAnd more.") == "One line."
