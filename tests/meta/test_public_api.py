"""What is public is a committed list, so that a break is a decision."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PUBLIC_API = runpy.run_path(str(ROOT / "docs" / "public_api.py"), run_name="public_api")
COMMITTED = (ROOT / "docs" / "public_api.txt").read_text(encoding="utf-8").splitlines()


def test_what_is_public_is_what_the_committed_list_says() -> None:
    told = PUBLIC_API["told"](COMMITTED, PUBLIC_API["public_api"]())
    assert not told, told


@pytest.mark.parametrize(
    "line",
    [
        "python nasframe.load_recipe(recipe: str | Path, overrides: Sequence[str]=(), "
        "plugins: Sequence[Path]=(), *, check: bool=True, outside: bool=False) -> Recipe",
        "python nasframe.core.Algorithm.step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) "
        "-> Metrics",
        "python nasframe.core.algorithms: registry, gives (model, objective)",
        "python nasframe.types.PositiveInt = Annotated[int, Gt(0)]",
        "python nasframe.ops.relu_conv_bn.ReLUConvBN(Module)",
        "recipe search.valid_fraction: float at least 0 and below 1 = 0.5",
        "component algorithms.darts_bilevel.order: one of 1, 2 = 1",
        "command nasframe run --out DIR",
        "command nasframe validate RECIPE",
        "problem NF012 REPEATED_KEY",
    ],
)
def test_the_list_has_everything_that_is_promised(line: str) -> None:
    assert line in COMMITTED


def test_plugins_that_are_installed_change_nothing(third_party: Callable[..., Path]) -> None:
    before = PUBLIC_API["public_api"]()
    third_party("broken", "raise RuntimeError", schedules="unit_broken = Mine")
    third_party("stranger", "def stay(*, rate: float = 1.0): ...", schedules="unit_stranger = stay")
    assert PUBLIC_API["public_api"]() == before


def test_a_break_is_told_with_what_to_do() -> None:
    lines = ["component ops.none", "recipe seed: int = 0", "recipe threads: int"]
    told = PUBLIC_API["told"](lines, ["component ops.none", "recipe seed: int = 1", "recipe threads: int"])
    assert "  - recipe seed: int = 0\n  + recipe seed: int = 1\n" in told
    assert "threads" not in told
    assert "is a break" in told
    assert told.endswith("python docs/public_api.py")


def test_something_new_is_no_break() -> None:
    told = PUBLIC_API["told"](["component ops.none"], ["component ops.none", "component ops.mine"])
    assert "  + component ops.mine" in told
    assert "is a break" not in told
    assert not PUBLIC_API["told"](["component ops.none"], ["component ops.none"])
