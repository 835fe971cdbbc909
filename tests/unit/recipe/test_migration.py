"""Recipes under former names: read with a message for each, or refused by name; never misread."""

import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from nasframe.cli import main
from nasframe.core import removed, schedules, spaces
from nasframe.errors import ComponentError, FormerNameWarning, Problem, RecipeError
from nasframe.recipe import Recipe, Retrain, Search, dump_recipe, load_recipe
from nasframe.registry import Component
from nasframe.settings import FormerKeys, renamed

SOURCE = """
    from nasframe import Component
    from nasframe.core import Schedule, removed, renamed, schedules

    @schedules.register("unit_slope", formerly=["unit_ramp", "unit_stairs"])
    @removed(xi="leave it out: the trainer's rate is taken")
    @renamed(rate="speed", hill="inner")
    class Slope(Schedule):
        '''Falls.

        Args:
            speed: How fast.
            inner: What it falls below.
        '''

        def __init__(self, *, speed: float = 1.0, inner: Component[Schedule] | None = None) -> None: ...
        def __call__(self, base_lr, epoch, num_epochs): return base_lr
"""
TINY = "name: tiny\ndata: digits\nspace: darts\n"


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A package whose schedule had other names: one declared by an entry point still, one not."""
    site = tmp_path_factory.mktemp("site")
    (site / "falling.py").write_text(textwrap.dedent(SOURCE))
    (site / "falling-1.0.dist-info").mkdir()
    entries = "[nasframe.schedules]\nunit_slope = falling:Slope\nunit_ramp = falling:Slope\n"
    (site / "falling-1.0.dist-info" / "entry_points.txt").write_text(entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        for registry in (schedules, spaces):
            registry.names()  # so that the built-ins are there before and after
            for name in ("_registered", "_origins", "_former"):
                patch.setattr(registry, name, dict(getattr(registry, name)))
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in a folder of its own."""
    monkeypatch.chdir(tmp_path)


def load(text: str, *overrides: str) -> tuple[Recipe, list[str]]:
    """The recipe, and what is told of it."""
    Path("x.yaml").write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recipe = load_recipe("x.yaml", overrides, check=False)
    assert all(each.category is FormerNameWarning for each in caught)
    return recipe, [str(each.message) for each in caught]


def problems(text: str, *overrides: str) -> Sequence[Problem]:
    Path("x.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe("x.yaml", overrides, check=False)
    return caught.value.problems


def schedule(recipe: Recipe) -> Component[object]:
    found: Component[object] = recipe.search.trainer.settings["schedule"]
    return found


def test_former_names_of_a_component_and_its_settings_are_read_and_told() -> None:
    recipe, told = load(f"{TINY}search: {{trainer: {{schedule: {{type: unit_ramp, rate: 2.5}}}}}}\n")
    assert (schedule(recipe).name, schedule(recipe).settings["speed"]) == ("unit_slope", 2.5)
    assert told == [
        "x.yaml:4:37: search.trainer.schedule.type: `unit_ramp` is called `unit_slope` now; write that",
        "x.yaml:4:48: search.trainer.schedule.rate: is called `speed` now; write that",
    ]


def test_a_dump_says_the_names_of_now() -> None:
    recipe, _ = load(f"{TINY}search: {{trainer: {{schedule: {{type: unit_ramp, hill: unit_ramp}}}}}}\n")
    again, told = load(dump_recipe(recipe))
    assert again == recipe
    assert not told
    assert not {"unit_ramp", "hill:"} & set(dump_recipe(recipe).split())


def test_nested_and_inherited_components_and_lists_are_read(third_party: Callable[..., Path]) -> None:
    third_party("spaces", """
        from nasframe.core import renamed, spaces
        from nasframe.spaces.macro import Macro
        from nasframe.types import PositiveInt
        @spaces.register("unit_wide", formerly=["unit_broad"])
        @renamed(breadth="width")
        class Wide(Macro):
            def __init__(self, task, *, width: PositiveInt = 2) -> None: ...
    """, spaces="unit_wide = Wide")  # fmt: skip
    text = "name: tiny\ndata: digits\nspace: {type: unit_wide, breadth: 3}\nretrain: {space: {breadth: 5}}\n"
    recipe, told = load(text)
    assert recipe.space.settings["width"] == 3
    assert recipe.retrain.space == Component("spaces", "unit_wide", {"width": 5})
    assert [each.split(": ")[1] for each in told] == ["space.breadth", "retrain.space.breadth"]
    nested = "{type: unit_slope, hill: {type: unit_ramp, rate: 3}}"
    recipe, told = load(f"{TINY}search: {{trainer: {{schedule: {nested}}}}}\n")
    assert schedule(recipe).settings["inner"].settings["speed"] == 3
    assert len(told) == 3


def test_overrides_and_includes_are_told_where_they_stand() -> None:
    Path("lower.yaml").write_text(f"{TINY}search: {{trainer: {{schedule: {{type: unit_ramp, rate: 2}}}}}}\n")
    recipe, told = load("include: lower.yaml\nname: upper\n", "search.trainer.schedule.hill=unit_ramp")
    assert schedule(recipe).settings["inner"].name == "unit_slope"
    assert [each.split(": ")[0] for each in told] == [
        "lower.yaml:4:37",
        "lower.yaml:4:48",
        "command line",
        "command line",
    ]


def test_a_name_without_an_entry_point_is_known_once_its_module_is() -> None:
    recipe, _ = load(f"{TINY}search: {{trainer: {{schedule: unit_slope}}}}\n")
    again, told = load(f"{TINY}search: {{trainer: {{schedule: unit_stairs}}}}\n")
    assert again == recipe
    assert len(told) == 1


def test_what_is_said_by_both_names_is_refused() -> None:
    with pytest.warns(FormerNameWarning, match="unit_ramp"):
        (problem,) = problems(
            f"{TINY}search: {{trainer: {{schedule: {{type: unit_ramp, rate: 2, speed: 3}}}}}}\n"
        )
    assert (problem.where, problem.path) == ("x.yaml:4:48", "search.trainer.schedule.rate")
    assert problem.rule == "is the former name of `speed`, which is given too"
    assert problem.kind.code == "NF012"


def test_a_setting_that_is_gone_is_refused_with_what_to_do() -> None:
    (problem,) = problems(f"{TINY}search: {{trainer: {{schedule: {{type: unit_slope, xi: 2}}}}}}\n")
    assert problem.rule == "`unit_slope` has no such setting any more"
    assert problem.advice == "leave it out: the trainer's rate is taken"
    assert problem.kind.code == "NF051"


def test_the_weight_of_the_cost_is_a_penalty_now() -> None:
    (problem,) = problems(f"{TINY}search: {{cost: flops, cost_weight: 0.2}}\n")
    assert (problem.where, problem.path) == ("x.yaml:4:23", "search.cost_weight")
    assert "penalty: {type: linear" in problem.advice


def test_keys_of_sections_are_renamed_where_they_are_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    for section, keys in ((Search, {"held_out": "valid_fraction"}), (Recipe, {"retraining": "retrain"})):
        monkeypatch.setattr(section, "__nasframe_former_keys__", FormerKeys(renamed=keys), raising=False)
    recipe, told = load(f"{TINY}search: {{held_out: 0.25}}\nretraining: {{space: {{channels: 5}}}}\n")
    assert recipe.search.valid_fraction == 0.25
    assert recipe.retrain.space.settings["channels"] == 5
    assert [each.split(": ")[1] for each in told] == ["retraining", "search.held_out"]
    assert not hasattr(Retrain, "__nasframe_former_keys__")


def test_other_problems_are_found_under_the_names_of_now() -> None:
    with pytest.warns(FormerNameWarning):
        found = problems(
            f"{TINY}search: {{trainer: {{schedule: {{type: unit_ramp, rate: fast}}}}}}\nsead: 1\n"
        )
    assert [(each.where, each.path) for each in found] == [
        ("x.yaml:4:54", "search.trainer.schedule.speed"),
        ("x.yaml:5:1", "sead"),
    ]


def test_the_command_line_prints_each_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.yaml").write_text(f"{TINY}search: {{trainer: {{schedule: {{type: unit_ramp, rate: 2}}}}}}\n")
    with pytest.raises(SystemExit) as caught:
        main(["config", "x.yaml", "--minimal"])
    out, err = capsys.readouterr()
    assert caught.value.code == 0
    assert "type: unit_slope\n      speed: 2.0\n" in out
    assert [line[:16] for line in err.splitlines()] == ["warning: x.yaml:"] * 2


def test_a_newer_recipe_is_refused_with_the_advice_to_upgrade() -> None:
    (newer,) = problems(f"{TINY}version: 2\n")
    assert "upgrade" in newer.advice
    (nonsense,) = problems(f"{TINY}version: 0\n")
    assert "upgrade" not in nonsense.advice


def test_a_renaming_must_be_of_settings_that_there_are() -> None:
    class Plain:
        def __init__(self, *, power: int = 1) -> None: ...

    with pytest.raises(
        ComponentError, match=r"`strength` must be renamed to one of its settings, got `pover`"
    ):
        renamed(strength="pover")(Plain)
    with pytest.raises(ComponentError, match="`power` is a setting, so it must not be a former one"):
        removed(power="leave it out")(Plain)
    with pytest.raises(ComponentError, match="`power` is a setting"):
        renamed(power="power")(Plain)
