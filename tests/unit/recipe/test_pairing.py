"""Parts that are valid alone and do not fit together."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nasframe.errors import Problem, RecipeError
from nasframe.recipe import load_recipe

ALGORITHM = """
    class Needy:
        needs = frozenset({NEEDS})
        def __init__(self, model: object, objective: object) -> None: ...
"""
MIXED_OP = """
    from nasframe.core import Kind, Level
    class Making:
        makes = (Kind("beta", Level.UPPER),)
        def __init__(self, choice: object) -> None: ...
"""
PLAIN = "class Plain:\n    makes = ()\n    def __init__(self, choice: object) -> None: ...\n"
FUNCTION = "def function(choice: object) -> None: ...\n"


@pytest.fixture
def load(tmp_path: Path, third_party: Callable[..., Path]) -> Callable[[str, str], list[Problem]]:
    def problems_of(needs: str, mixed_op: str) -> list[Problem]:
        third_party("needy", ALGORITHM.replace("NEEDS", needs), algorithms="unit_needy = Needy")
        third_party("making", MIXED_OP, mixed_ops="unit_making = Making")
        third_party("plain", PLAIN, mixed_ops="unit_plain = Plain")
        third_party("function", FUNCTION, mixed_ops="unit_function = function")
        path = tmp_path / "x.yaml"
        search = f"search: {{algorithm: unit_needy, mixed_op: {mixed_op}}}\n"
        path.write_text("name: x\ndata: digits\nspace: darts\n" + search)
        try:
            load_recipe(path, check=False)
        except RecipeError as error:
            return error.problems
        return []

    return problems_of


@pytest.mark.parametrize(
    ("needs", "mixed_op"),
    [
        ("", "unit_plain"),
        ("'weight', 'lower'", "unit_plain"),
        ("'beta', 'upper'", "unit_making"),
        ("'alpha', 'upper'", "softmax"),
        ("'anything'", "unit_function"),
    ],
)
def test_an_algorithm_whose_needs_are_met_is_accepted(
    load: Callable[[str, str], list[Problem]], needs: str, mixed_op: str
) -> None:
    assert load(needs, mixed_op) == []


@pytest.mark.parametrize(
    ("needs", "mixed_op", "words"),
    [
        ("'beta'", "softmax", "needs parameters of kind `beta`, but `softmax` makes only: alpha"),
        ("'upper'", "unit_plain", "needs parameters of the upper level, but `unit_plain` makes only: none"),
        ("'alpha'", "unit_making", "needs parameters of kind `alpha`, but `unit_making` makes only: beta"),
    ],
)
def test_an_algorithm_that_needs_what_the_mixed_op_does_not_make_is_refused(
    load: Callable[[str, str], list[Problem]], needs: str, mixed_op: str, words: str
) -> None:
    (problem,) = load(needs, mixed_op)
    assert problem.path == "search.algorithm"
    assert problem.position[1:] == (4, 10)
    assert words in problem.rule


def test_each_pair_that_does_not_fit_is_told_together(load: Callable[[str, str], list[Problem]]) -> None:
    assert len(load("'beta', 'gamma'", "softmax")) == 2


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "''", "'a\\nb'"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"name: {name}\ndata: digits\nspace: darts\n")
    with pytest.raises(RecipeError, match="must be usable as the name of a folder"):
        load_recipe(path, check=False)


@pytest.mark.parametrize(
    ("algorithm", "mixed_op", "rule"),
    [
        (
            "proxyless",
            "softmax",
            "`proxyless` needs a mixed op whose passes in training mode run drawn candidates alone, but "
            "`softmax` is none",
        ),
        (
            "darts_bilevel",
            "binary_gate",
            "`binary_gate` needs an algorithm that draws its paths, but `darts_bilevel` does not",
        ),
        ("proxyless", "binary_gate", None),
    ],
)
def test_an_algorithm_and_a_mixed_op_draw_both_or_neither(
    tmp_path: Path, algorithm: str, mixed_op: str, rule: str | None
) -> None:
    path = tmp_path / "x.yaml"
    search = f"search: {{algorithm: {algorithm}, mixed_op: {mixed_op}}}\n"
    path.write_text("name: x\ndata: digits\nspace: darts\n" + search)
    if rule is None:
        assert load_recipe(path, check=False).search.mixed_op.name == mixed_op
        return
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, check=False)
    (problem,) = caught.value.problems
    assert (problem.path, problem.rule) == ("search.algorithm", rule)
    assert f"`nasframe show algorithms {algorithm}`" in problem.advice
