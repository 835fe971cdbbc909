"""The kinds of problem: every example shows what it says, and every kind can happen."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from nasframe import problem_kinds
from nasframe.errors import Problem, RecipeError
from nasframe.problem_kinds import KINDS, Example, ProblemKind
from nasframe.recipe import load_recipe

GIVEN = """
NF001 NO_RECIPE
NF002 UNREADABLE_FILE
NF003 TOO_LARGE
NF004 NOT_A_RECIPE
NF005 UNUSABLE_MODULE
NF011 NOT_YAML
NF012 REPEATED_KEY
NF013 MERGE_KEY
NF014 KEY_NOT_TEXT
NF015 TAG
NF016 BAD_TEXT
NF017 LONG_NUMBER
NF021 NO_INCLUDE
NF022 BAD_INCLUDE
NF023 CIRCULAR_INCLUDE
NF024 MANY_INCLUDES
NF025 OUTER_INCLUDE
NF031 NOT_AN_OVERRIDE
NF032 DELETES_NOTHING
NF033 NO_SUCH_ITEM
NF041 BAD_REFERENCE
NF042 DANGLING_REFERENCE
NF043 CIRCULAR_REFERENCE
NF044 BAD_TEXT_REFERENCE
NF051 UNKNOWN_KEY
NF052 MISSING_KEY
NF053 OTHER_VERSION
NF061 WRONG_TYPE
NF062 OUT_OF_RANGE
NF063 NOT_AN_OPTION
NF064 OUTER_OUTPUT
NF071 NO_NAME
NF072 UNKNOWN_NAME
NF073 UNUSABLE_COMPONENT
NF074 BAD_RUN_NAME
NF081 NEEDS_KIND
NF082 MIXES_OTHERWISE
NF083 COST_UNUSED
NF084 OTHER_SPACE
NF085 NEEDS_HELD_OUT
NF086 EMPTY_SPLIT
NF087 PENALTY_WITHOUT_COST
NF088 NOT_AN_AMOUNT
NF089 KEEPS_NO_BUDGET
NF090 IMPOSSIBLE_BASELINE
NF091 ABSENT_FILE
NF092 ABSENT_DEVICE
NF101 IMPOSSIBLE_SETTINGS
NF102 IMPOSSIBLE_DATA
NF103 IMPOSSIBLE_SPACE
NF104 OTHER_RETRAIN_SPACE
NF105 IMPOSSIBLE_SUPERNET
NF106 IMPOSSIBLE_STEP
NF107 BAD_GENOTYPE
NF108 NOTHING_TO_INHERIT
NF111 EXPLORER_OR_SCORE_ALONE
NF112 NO_SMALLER_BUDGETS
NF113 LEARNS_NO_ARCHITECTURE
NF121 READS_OTHERWISE
NF122 REGULARIZER_UNUSED
NF131 HEALTH_UNUSED
NF141 IMPOSSIBLE_STAGES
"""
Load = Callable[[Example, bool], Sequence[Problem]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads an example in a folder of its own, which is on the Python path, and returns its problems."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def problems(example: Example, check: bool) -> Sequence[Problem]:
        for path in (tmp_path / name for name in example.files):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(example.files[path.relative_to(tmp_path).as_posix()])
        if example.recipe is not None:
            Path("recipe.yaml").write_bytes(example.recipe.encode("utf-8", "surrogateescape"))
        try:
            load_recipe(
                "recipe.yaml", example.overrides, [Path(name) for name in example.plugins], check=check
            )
        except RecipeError as error:
            return error.problems
        return []

    before = set(sys.modules)
    yield problems
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("code", KINDS)
def test_the_wrong_example_gives_exactly_its_code_and_the_right_one_loads(load: Load, code: str) -> None:
    kind = KINDS[code]
    check = code >= "NF090"  # on this machine, or by building
    assert {problem.kind.code for problem in load(kind.wrong, check)} == {code}
    assert load(kind.right, check) == []


def test_codes_are_in_order_and_each_stands_for_one_kind() -> None:
    assert list(KINDS) == sorted(KINDS)
    assert all(re.fullmatch(r"NF\d{3}", code) and kind.code == code for code, kind in KINDS.items())
    assert len({kind.means for kind in KINDS.values()}) == len(KINDS)


def test_a_code_is_never_given_to_another_kind() -> None:
    # codes are public: a line is added here for a new one, and none is ever changed
    names = {kind.code: name for name, kind in vars(problem_kinds).items() if isinstance(kind, ProblemKind)}
    assert names == dict(line.split() for line in GIVEN.strip().splitlines())


def test_a_message_begins_with_the_code(load: Load) -> None:
    (problem,) = load(KINDS["NF063"].wrong, False)
    assert str(problem) == ("recipe.yaml:4:9: NF063 device: must be one of auto, cpu, cuda, mps, got `gpu`")
