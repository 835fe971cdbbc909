"""The typed tree: what is read, what is refused, and that a dump is the same recipe."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nasframe.errors import ComponentError, Problem, RecipeError
from nasframe.recipe import Recipe, Search, dump_recipe, load_recipe, recipe_to_mapping
from nasframe.recipe.discovery import shipped_recipes
from nasframe.recipe.schema import settings_of, slot_of, slots_of_recipe
from nasframe.registry import Component, registries

TINY = "name: tiny\ndata: digits\nspace: darts\n"
FORMS = """
    from nasframe.core import Augmentation, Schedule, schedules
    from nasframe.registry import Component
    from nasframe.types import PositiveInt

    def Forms(
        *,
        one: Component[Schedule] = schedules.component("cosine", min_lr=0.25),
        optional: Component[Schedule] | None = None,
        many: tuple[Component[Schedule], ...] = (schedules.component("step"),),
        named: dict[str, Component[Schedule]] = {},
        sizes: tuple[PositiveInt, ...] = (1, 2),
    ) -> None:
        "Every form of slot."
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in a folder of its own."""
    monkeypatch.chdir(tmp_path)


def load(text: str, *overrides: str) -> Recipe:
    Path("x.yaml").write_text(text)
    return load_recipe("x.yaml", overrides, check=False)


def problems(text: str, *overrides: str) -> Sequence[Problem]:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides)
    return caught.value.problems


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_complete_recipe_loads_again_to_the_same(name: str) -> None:
    recipe = load_recipe(name, check=False)
    Path("dump.yaml").write_text(dump_recipe(recipe))
    again = load_recipe("dump.yaml", check=False)
    assert again == recipe
    assert dump_recipe(again) == dump_recipe(recipe)


def test_every_setting_is_filled_in_down_to_the_last() -> None:
    recipe = load(TINY)
    optimizer = recipe.search.trainer.settings["optimizer"]
    assert set(optimizer.settings) == set(registries["optimizers"].signature(optimizer.name).settings)
    assert recipe.search.algorithm == load(TINY + "search: {algorithm: darts_bilevel}\n").search.algorithm


def test_a_dump_is_plain_and_says_its_version() -> None:
    mapping = recipe_to_mapping(load(TINY))
    assert list(mapping)[:2] == ["version", "name"]
    assert mapping["version"] == 1
    assert mapping["data"]["type"] == "digits"
    assert isinstance(mapping["trackers"], list)


@pytest.mark.parametrize("version", ["2", "'1'", "null", "true x"])
def test_a_recipe_of_another_version_is_refused(version: str) -> None:
    (problem,) = problems(TINY + f"version: {version}\n")
    assert (problem.path, problem.rule) == ("version", "must be 1")


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
nmae: tiny
data: {type: digit}
space: {type: darts, chanels: 8, channels: -3}
device: cdua
search:
  algorithm: {type: darts_bilevel, order: 3}
  trainer:
    epochs: many
    optimizer: {typ: adam}
  augment: crop
  valid_fraction: 1
  deriver:
retrain: 3
trackers: [jsonl, 3]
"""
    told = {
        ("command line", "seed"): ("must be at least 0", "-1"),
        ("x.yaml:1:1", "nmae"): ("the recipe has no such setting", ""),
        ("x.yaml:1:1", "name"): ("must be given", ""),
        ("x.yaml:2:14", "data.type"): ("must be one of the datasets", "`digit`"),
        ("x.yaml:3:22", "space.chanels"): ("`darts` has no such setting", ""),
        ("x.yaml:3:44", "space.channels"): ("must be greater than 0", "-3"),
        ("x.yaml:4:9", "device"): ("must be one of auto, cpu, cuda, mps", "`cdua`"),
        ("x.yaml:6:43", "search.algorithm.order"): ("must be one of 1, 2", "3"),
        ("x.yaml:8:13", "search.trainer.epochs"): ("must be a positive int", "`many`"),
        ("x.yaml:9:17", "search.trainer.optimizer.typ"): ("`sgd` has no such setting", ""),
        ("x.yaml:10:12", "search.augment"): (
            "must be a list of names, or of mappings with a `type`, from augmentations",
            "`crop`",
        ),
        ("x.yaml:11:19", "search.valid_fraction"): ("must be less than 1", "1"),
        ("x.yaml:12:11", "search.deriver"): ("must be a name, or a mapping with a `type`", "null"),
        ("x.yaml:13:10", "retrain"): ("must be a mapping", "3"),
        ("x.yaml:14:19", "trackers.1"): ("must be a name, or a mapping with a `type`", "3"),
    }
    found = problems(text, "seed=-1")
    assert {(each.where, each.path): (each.rule, each.given) for each in found} == told
    assert [each.position for each in found] == sorted(each.position for each in found)


def test_the_nearest_spelling_is_advised() -> None:
    found = problems("nmae: x\ndata: digit\nspace: darts\ndevice: cdua\n")
    advice = {each.path: each.advice for each in found}
    assert advice["nmae"] == "did you mean `name`?"
    assert advice["data.type"].startswith("did you mean `digits`? available: ")
    assert advice["device"] == "did you mean `cuda`?"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("epochs: 3", "did you mean `search.trainer.epochs` or `retrain.trainer.epochs`?"),
        ("search: {trainer: {lr: 0.1}}", "did you mean `search.trainer.optimizer.lr`?"),
        ("search: {trainer: {learning_rate: 0.1}}", "did you mean `search.trainer.optimizer.lr`?"),
        ("search: {seed: 1}", "did you mean `seed` at the top of the recipe?"),
        ("retrain: {mixed_op: softmax}", "did you mean `search.mixed_op`?"),
    ],
)
def test_a_key_that_belongs_elsewhere_is_answered_with_its_place(text: str, advice: str) -> None:
    (problem,) = problems(f"{TINY}{text}\n")
    assert problem.advice == advice


def test_a_name_for_a_list_of_components_is_answered_with_the_list() -> None:
    (problem,) = problems(TINY + "export: torch_export\n")
    assert problem.advice == "write [torch_export]"


def test_what_is_nowhere_near_is_answered_with_all_there_is() -> None:
    (problem,) = problems(TINY + "report: {type: html, qqqqqq: 1}\n")
    assert problem.advice.startswith("it has ")


def test_a_missing_key_is_told_at_its_parent() -> None:
    (problem,) = problems("name: x\nspace: darts\n")
    assert (problem.where, problem.path, problem.rule) == ("x.yaml:1:1", "data", "must be given")
    assert "digits" in problem.advice


def test_a_missing_type_is_told_with_what_may_have_been_meant() -> None:
    (problem,) = problems("name: x\nspace: darts\ndata: {typ: digits}\n")
    assert (problem.where, problem.path) == ("x.yaml:3:1", "data.type")
    assert problem.advice.startswith("did you mean `type` by `typ`?")


@pytest.mark.parametrize("kind", ["3", "null", "[a]", "{a: b}"])
def test_a_type_that_is_no_name_is_a_problem(kind: str) -> None:
    (problem,) = problems(f"name: x\nspace: darts\ndata: {{type: {kind}}}\n")
    assert (problem.path, problem.rule) == ("data.type", "must be a name")


def test_settings_without_a_type_merge_into_the_default_component() -> None:
    search = load(TINY + "search: {algorithm: {order: 2}}\n").search
    assert search.algorithm.name == "darts_bilevel"
    assert search.algorithm.settings["order"] == 2


def test_another_type_starts_from_its_own_defaults(third_party: Callable[..., Path]) -> None:
    third_party("stranger", FORMS, datasets="unit_forms = Forms")
    text = TINY.replace("digits", "{type: unit_forms, one: %s}")
    assert load(text % "{warmup_epochs: 2}").data.settings["one"].settings["min_lr"] == 0.25
    assert load(text % "{type: cosine, warmup_epochs: 2}").data.settings["one"].settings["min_lr"] == 0.25
    assert load(text % "{type: step}").data.settings["one"].settings == {"milestones": (), "factor": 0.1}


def test_every_form_of_slot_is_read_and_dumped(third_party: Callable[..., Path]) -> None:
    third_party("stranger", FORMS, datasets="unit_forms = Forms")
    recipe = load(TINY.replace("digits", "unit_forms"))
    assert recipe.data.settings["optional"] is None
    assert recipe.data.settings["many"][0].settings == {"milestones": (), "factor": 0.1}
    assert recipe.data.settings["sizes"] == (1, 2)
    slots = "{optional: step, many: [constant, {type: step, factor: 0.5}], named: {a: constant}, sizes: [3]}"
    recipe = load(TINY, "data.type=unit_forms", f"data={slots}")
    settings = recipe.data.settings
    assert settings["optional"].name == "step"
    assert [each.name for each in settings["many"]] == ["constant", "step"]
    assert settings["named"]["a"].name == "constant"
    assert settings["sizes"] == (3,)
    Path("dump.yaml").write_text(dump_recipe(recipe))
    assert load_recipe("dump.yaml") == recipe


def test_problems_in_every_form_of_slot_are_told_with_their_paths(third_party: Callable[..., Path]) -> None:
    third_party("stranger", FORMS, datasets="unit_forms = Forms")
    slots = "{one: [], optional: 3, many: [stpe], named: {a: {type: step, factor: -1}}, sizes: [1, 0]}"
    found = problems(TINY.replace("digits", slots.replace("{one", "{type: unit_forms, one")))
    assert {each.path for each in found} == {
        "data.one",
        "data.optional",
        "data.many.0.type",
        "data.named.a.factor",
        "data.sizes.1",
    }


def test_the_retraining_inherits_space_and_objective() -> None:
    text = "name: x\ndata: digits\nspace: {type: darts, channels: 4, cells: 5}\n"
    recipe = load(
        text + "retrain: {space: {channels: 6}}\nobjective: {type: cross_entropy, label_smoothing: 0.1}\n"
    )
    assert (recipe.space.settings["channels"], recipe.retrain.space.settings["channels"]) == (4, 6)
    assert recipe.retrain.space.settings["cells"] == 5
    assert recipe.retrain.objective == recipe.objective
    assert load(text).retrain.space == recipe.space


def test_a_problem_of_an_inherited_value_is_told_once() -> None:
    (problem,) = problems("name: x\ndata: digits\nspace: {type: darts, channels: 0}\n")
    assert problem.path == "space.channels"


def test_a_plugin_that_fails_is_quoted_when_its_name_is_asked_for(third_party: Callable[..., Path]) -> None:
    third_party("stranger", "raise RuntimeError('no fuel')", datasets="unit_broken = X")
    assert load(TINY).name == "tiny"
    (problem,) = problems(TINY.replace("digits", "unit_broken"))
    assert problem.path == "data.type"
    assert "RuntimeError: no fuel" in problem.rule
    assert "stranger 1.0" in problem.rule


def test_a_default_that_its_own_class_refuses_is_a_problem(third_party: Callable[..., Path]) -> None:
    third_party("stranger", FORMS.replace("0.25", "-1"), datasets="unit_wrong = Forms")
    (problem,) = problems(TINY.replace("digits", "unit_wrong"))
    assert (problem.path, problem.rule) == ("data.one.min_lr", "must be at least 0")


def test_a_setting_of_an_impossible_type_is_a_problem_not_a_traceback(
    third_party: Callable[..., Path],
) -> None:
    source = "import io\ndef make(*, file: io.StringIO | None = None) -> None: ...\n"
    third_party("stranger", source, datasets="unit_odd = make")
    (problem,) = problems(TINY.replace("digits", "{type: unit_odd, file: x}"))
    assert "cannot be the type of a setting" in problem.rule


def test_a_slot_of_no_registry_or_of_no_known_form_is_the_authors_error() -> None:
    with pytest.raises(ComponentError, match="no registry"):
        slot_of(Component[int])
    with pytest.raises(ComponentError, match="components must stand alone"):
        slot_of(list[Component[Any]] | int)
    assert slot_of(tuple[int, ...]) == ("leaf", None)


def test_the_slots_of_a_recipe_are_known() -> None:
    slots = {".".join(path): (form, registry.name) for path, form, registry in slots_of_recipe()}
    assert slots["data"] == ("one", "datasets")
    assert slots["search.algorithm"] == ("one", "algorithms")
    assert slots["trackers"] == ("list", "trackers")


def test_the_settings_of_a_section_have_meanings() -> None:
    assert settings_of(Search)["trainer"].doc == "Owns the loop."


def test_long_and_odd_values_are_cut_in_messages() -> None:
    (problem,) = problems(TINY + f"seed: {'x' * 500}\n")
    assert len(problem.given) == 60
