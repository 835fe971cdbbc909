"""Settings: signatures are schemas, and values are checked against them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le

from nasframe.errors import ComponentError
from nasframe.problem_kinds import NOT_AN_OPTION, OUT_OF_RANGE, WRONG_TYPE, ProblemKind
from nasframe.settings import REQUIRED, read_value, signature_of, spell_type
from nasframe.types import NonNegativeInt, PositiveFloat, PositiveInt, Probability, ProperFraction


class Example:
    """Does a thing.

    Args:
        size: How large
            it is.
    """

    def __init__(self, model: object, *, size: PositiveInt, rate: float = 0.5) -> None: ...


def test_positional_parameters_are_given_and_keyword_only_ones_are_settings() -> None:
    signature = signature_of(Example)
    assert signature.given == ("model",)
    assert list(signature.settings) == ["size", "rate"]
    assert signature.settings["size"].required
    assert signature.settings["size"].default is REQUIRED
    assert signature.settings["rate"].default == 0.5


def test_meanings_come_from_the_docstring() -> None:
    signature = signature_of(Example)
    assert signature.summary == "Does a thing."
    assert signature.settings["size"].doc == "How large it is."
    assert signature.settings["rate"].doc == ""


def test_functions_have_signatures_too() -> None:
    def make(params: object, *, lr: float = 1.0) -> object: ...

    assert signature_of(make).given == ("params",)


def test_a_class_without_constructor_takes_nothing() -> None:
    class Empty: ...

    assert signature_of(Empty).given == ()
    assert not signature_of(Empty).settings


def test_variable_arguments_untyped_settings_and_a_setting_called_type_are_refused() -> None:
    def variable(*args: Any) -> None: ...
    def keywords(**kwargs: Any) -> None: ...
    def untyped(*, size=3) -> None: ...  # type: ignore[no-untyped-def]
    def named_type(*, type: str = "x") -> None: ...

    for factory, words in (
        (variable, "args"),
        (keywords, "kwargs"),
        (untyped, "`size` must have a type"),
        (named_type, "`type` names the component"),
    ):
        with pytest.raises(ComponentError, match=words):
            signature_of(factory)


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (int, 3, 3),
        (int, 1e3, 1000),
        (float, 3, 3.0),
        (PositiveInt | None, None, None),
        (tuple[int, ...], [1, 2e1], (1, 20)),
        (tuple[float, float], [1, 0.5], (1.0, 0.5)),
        (dict[str, int], {"a": 1e1}, {"a": 10}),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], 2, 2),
        (Path, "x/y", Path("x/y")),
        (bool, True, True),
        (int | str, "a", "a"),
    ],
)
def test_values_of_the_right_type_are_read(annotation: Any, given: Any, expected: Any) -> None:
    value, problems = read_value(annotation, given)
    assert (value, problems) == (expected, [])
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "given", "rule"),
    [
        (int, "3", "must be an int"),
        (int, 1.5, "must be an int"),
        (int, True, "must be an int"),
        (float, "0.5", "must be a float"),
        (float, True, "must be a float"),
        (float, float("inf"), "must be finite"),
        (str, 3, "must be text"),
        (bool, 1, "must be true or false"),
        (bool, "true", "must be true or false"),
        (int, None, "must be an int"),
        (PositiveInt, "x", "must be a positive int"),
        (PositiveFloat, 0, "must be greater than 0"),
        (NonNegativeInt, -1, "must be at least 0"),
        (ProperFraction, 1, "must be less than 1"),
        (Probability, 1.5, "must be at most 1"),
        (Literal["a", "b"], "c", "must be one of a, b"),
        (int | str, 0.5, "must be an int or text"),
        (PositiveInt | None, "x", "must be a positive int or null"),
        (PositiveInt | None, 0, "must be greater than 0"),
        (tuple[int, ...], 3, "must be a list of int"),
        (dict[str, int], 3, "must be a mapping of text to int"),
        (PositiveInt, -1e3, "must be greater than 0"),
    ],
)
def test_values_of_the_wrong_type_or_range_are_refused_with_the_rule(
    annotation: Any, given: Any, rule: str
) -> None:
    value, (problem,) = read_value(annotation, given)
    assert value is given
    assert problem.location == ()
    assert problem.rule == rule
    assert problem.given == given


def test_a_problem_inside_a_list_says_where() -> None:
    _, (problem,) = read_value(tuple[PositiveInt, ...], [1, -2, 3])
    assert (problem.location, problem.rule, problem.given) == ((1,), "must be greater than 0", -2)


def test_each_wrong_item_is_a_problem() -> None:
    _, problems = read_value(tuple[int, ...], ["a", 1, "b"])
    assert [problem.location for problem in problems] == [(0,), (2,)]


def test_a_wrong_choice_names_the_nearest_right_one() -> None:
    _, (problem,) = read_value(Literal["finite_difference", "exact"], "exakt")
    assert problem.advice == "did you mean `exact`?"
    _, (problem,) = read_value(bool, "yes")
    assert problem.advice == "write true"


@pytest.mark.parametrize(
    ("annotation", "given", "location"),
    [
        (tuple[Literal["max", "mean"], ...], ["max", "maen"], (1,)),
        (dict[str, Literal["max", "mean"]], {"a": "meen"}, ("a",)),
        (tuple[int, Literal["max", "mean"] | None], [1, "meam"], (1,)),
    ],
)
def test_a_wrong_choice_inside_a_value_names_the_nearest_too(
    annotation: Any, given: Any, location: tuple[Any, ...]
) -> None:
    _, (problem,) = read_value(annotation, given)
    assert (problem.location, problem.advice) == (location, "did you mean `mean`?")
    assert problem.rule.startswith("must be one of max, mean")


def test_the_alternatives_of_a_union_inside_a_value_are_one_problem() -> None:
    _, (problem,) = read_value(tuple[int | str, ...], [1, "a", 0.5])
    assert (problem.location, problem.rule, problem.given) == ((2,), "must be an int or text", 0.5)


def test_a_list_of_the_wrong_length_is_a_problem_of_the_whole() -> None:
    _, (problem,) = read_value(tuple[float, float], [0.5, 0.5, 0.5])
    assert problem.rule == "must have at most 2 items"
    _, (problem,) = read_value(tuple[float, float], [0.5])
    assert problem.rule == "must be given"
    assert problem.location == (1,)


@pytest.mark.parametrize(
    ("annotation", "given", "kind"),
    [
        (int, "3", WRONG_TYPE),
        (int | str, 0.5, WRONG_TYPE),
        (float, float("nan"), OUT_OF_RANGE),
        (PositiveInt | None, 0, OUT_OF_RANGE),
        (Literal["a", "b"], "c", NOT_AN_OPTION),
        (Literal[1, 2], "1", NOT_AN_OPTION),
    ],
)
def test_a_problem_of_a_value_has_its_kind(annotation: Any, given: Any, kind: ProblemKind) -> None:
    _, (problem,) = read_value(annotation, given)
    assert problem.kind is kind


def test_a_type_that_no_value_can_have_is_the_authors_error() -> None:
    with pytest.raises(ComponentError, match="cannot be the type of a setting"):
        read_value(Example, 3)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (PositiveFloat, "positive float"),
        (NonNegativeInt, "non-negative int"),
        (ProperFraction, "float at least 0 and below 1"),
        (Probability, "float at least 0 and at most 1"),
        (Annotated[int, Gt(2), Le(9)], "int above 2 and at most 9"),
        (Annotated[int, Interval(gt=0)], "positive int"),
        (Annotated[list[int], Ge(0)], "non-negative list of int"),
        (Literal[1, 2], "one of 1, 2"),
        (int | None, "int or null"),
        (tuple[int, float], "list of 2: int, float"),
        (Sequence[str], "list of text"),
        (Mapping[str, bool], "mapping of text to true or false"),
        (Path, "path"),
    ],
)
def test_types_are_spelled_in_words(annotation: Any, words: str) -> None:
    assert spell_type(annotation) == words
