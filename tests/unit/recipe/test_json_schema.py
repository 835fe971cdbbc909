"""The JSON Schema of recipes takes what the reader takes, and refuses keys and types that it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nasframe.errors import RecipeError
from nasframe.recipe import load_recipe, recipe_to_mapping
from nasframe.recipe.discovery import shipped_recipes
from nasframe.recipe.json_schema import recipe_schema
from nasframe.recipe.minimal import minimal_mapping
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.schema import slots_of_recipe
from nasframe.recipe.yaml_text import dump_yaml, read_yaml
from nasframe.registry import registries

TINY = "name: tiny\ndata: digits\nspace: darts\n"
FORMS = """
    from typing import Literal
    from nasframe.core import Dataset, OpName, Schedule, schedules
    from nasframe.registry import Component
    from nasframe.types import PositiveInt

    def Forms(
        *,
        needed: int,
        one: Component[Schedule] = schedules.component("cosine", min_lr=0.25),
        optional: Component[Schedule] | None = None,
        many: tuple[Component[Schedule], ...] = (schedules.component("step"),),
        named: dict[str, Component[Schedule]] = {"first": schedules.component("step")},
        sizes: tuple[PositiveInt, ...] = (1, 2),
        pair: tuple[int, Literal["a", "b"]] = (1, "a"),
        table: dict[str, float] = {},
        ops: tuple[OpName, ...] = (),
        either: int | str | None = None,
    ) -> Dataset:
        "Every form of setting."
"""
WRAPPED = """
    from nasframe.core import Schedule, schedules
    from nasframe.registry import Component

    def Outer(*, inner: Component[Schedule] = schedules.component("cosine")) -> Schedule: ...
    STEP = schedules.component("step")
    def Holding(*, schedule: Component[Schedule] = schedules.component("unit_outer", inner=STEP)) -> None: ...
"""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in a folder of its own."""
    monkeypatch.chdir(tmp_path)


def plain(text: str) -> Any:
    node = read_yaml(text, "x.yaml", [])
    assert node is not None
    return node.plain


def is_read(text: str) -> bool:
    Path("x.yaml").write_text(text)
    try:
        load_recipe("x.yaml", check=False)
    except RecipeError:
        return False
    return True


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_is_valid_also_complete_and_minimal(
    validator: Draft202012Validator, name: str
) -> None:
    recipe = load_recipe(name, check=False)
    validator.validate(plain(shipped_recipes()[name].read_text()))
    validator.validate(recipe_to_mapping(recipe))
    validator.validate(minimal_mapping(recipe))


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_names_the_schema_that_lies_beside_a_copy(name: str) -> None:
    first, *_ = shipped_recipes()[name].read_text().splitlines()
    assert first == "# yaml-language-server: $schema=nasframe.schema.json"


def test_each_component_in_each_slot_is_known_with_its_settings(validator: Draft202012Validator) -> None:
    for path, form, registry in slots_of_recipe(Recipe):
        for name in registry.names():
            settings = registry.signature(name).settings
            given = {key: "${seed}" for key, setting in settings.items() if setting.required}
            for value, valid in (
                ({"type": name, **given}, True),
                ({"type": name, **given, "no_such": 1}, False),
                ({"type": f"{name}x", **given}, False),
                ({"type": name, **dict.fromkeys(settings, "${seed}")}, True),
            ):
                recipe: Any = [value] if form == "list" else value
                for key in reversed(path):
                    recipe = {key: recipe}
                recipe = {**plain(TINY), **recipe}
                assert validator.is_valid(recipe) == valid, recipe


@pytest.mark.parametrize(
    "text",
    [
        "seed: 1e3",
        "version: 1",
        "search: {trainer: {epochs: '${seed}', optimizer: {lr: 1}}}\nseed: 3",
        "search: {trainer: '${retrain.trainer}'}\nretrain: {trainer: {epochs: 3}}",
        "search: '${retrain}'\nretrain: {valid_fraction: 0.2}",
        "search: {augment: '${retrain.augment}'}\nretrain: {augment: [crop, {type: flip}]}",
        "search: {augment: ['${retrain.augment.0}', flip]}\nretrain: {augment: [crop]}",
        "search: {trainer: {optimizer: '${report.type}'}}\nreport: {type: html}",
        "search: {trainer: {optimizer: {type: '${retrain.trainer.optimizer.type}', betas: [0.5, 0.9]}}}\n"
        "retrain: {trainer: {optimizer: {type: adam}}}",
        "device: c${search.mixed_op.type}\nsearch: {mixed_op: {type: softmax}}",
        "search: {algorithm: {alpha_optimizer: {lr: 0.1, betas: [0.5, '${.lr}']}}}",
        "retrain: {space: {type: macro, stages: [1]}}",
        "search: {cost: null, benchmark: null}\nthreads: null\ngenotype: x.json",
        "search: {trainer: {max_grad_norm: null, max_steps: 3}}",
    ],
)
def test_what_is_read_is_valid(validator: Draft202012Validator, text: str) -> None:
    given = TINY + text
    # some of them refer to what the reader then refuses for its value; editors must not mark them
    assert validator.is_valid(plain(given))


@pytest.mark.parametrize(
    "text",
    [
        "name: x\ndata: digits\nspace: {type: macro, stages: [1]}\nretrain: {space: {channels: 4}}\n",
        "include: digits_darts\n",
        "include: [digits_darts]\nspace: {channels: 4}\nsearch: {algorithm: {alpha_optimizer: {lr: 0.2}}}\n",
        "include: digits_proxyless\nsearch: {algorithm: {num_samples: 3}, mixed_op: {temperature: 2}}\n",
    ],
)
def test_a_type_may_be_missing_where_it_is_inherited_or_included(
    validator: Draft202012Validator, text: str
) -> None:
    assert is_read(text)
    assert validator.is_valid(plain(text))


BROKEN = [
    "nmae: x",
    "seed: '3'",
    "seed: 1.5",
    "seed: -1",
    "seed: true",
    "seed: null",
    "seed: [1]",
    "version: 2",
    "device: gpu",
    "threads: 0",
    "export: torch_export",
    "export: [3]",
    "search: 3",
    "search: null",
    "search: [a]",
    "search: {valid_fraction: 1}",
    "search: {algorithm: {order: 3}}",
    "search: {algorithm: {order: '1'}}",
    "search: {algorithm: {type: darts_bilevl}}",
    "search: {algorithm: {typ: darts_bilevel}}",
    "search: {algorithm: {update: two_paths}}",
    "search: {algorithm: null}",
    "search: {cost: {bias: true}}",
    "search: {trainer: {epoch: 3}}",
    "search: {trainer: {channels_last: 1}}",
    "search: {trainer: {optimizer: {type: adam, momentum: 0.9}}}",
    "search: {trainer: {optimizer: {betas: [0.9, 0.999]}}}",
    "search: {algorithm: {alpha_optimizer: {betas: [0.9, a]}}}",
    "search: {algorithm: {alpha_optimizer: {momentum: 0.9}}}",
    "search: {augment: crop}",
    "search: {augment: [{padding: 3}]}",
    "search: {benchmark: nas_bench_macro}",
    "search: {benchmark: {type: nas_bench_macro}}",
    "search: {trainer: {epochs: 'x${seed}'}}\nseed: 1",
    "search: {trainer: {epochs: '${seed'}}\nseed: 1",
    "retrain: {space: {chanels: 4}}",
    "retrain: {space: {type: darts, stages: [1]}}",
]


@pytest.mark.parametrize("text", BROKEN)
def test_keys_and_types_that_the_reader_refuses_are_invalid(
    validator: Draft202012Validator, text: str
) -> None:
    assert not is_read(TINY + text)
    assert not validator.is_valid(plain(TINY + text))


@pytest.mark.parametrize(
    "text",
    [
        "name: x\ndata: digits\n",
        "name: x\nspace: darts\n",
        "name: x\ndata: {test_fraction: 0.2}\nspace: darts\n",
        "name: x\ndata: digits\nspace: {type: darts, operations: [sep_conv]}\n",
        "[]",
        "null",
    ],
)
def test_what_misses_something_is_invalid(validator: Draft202012Validator, text: str) -> None:
    assert not is_read(text)
    assert not validator.is_valid(plain(text))


def test_an_including_recipe_may_miss_things_but_not_say_unknown_ones(
    validator: Draft202012Validator,
) -> None:
    for text in ("seed: x", "search: {trainer: {epoch: 3}}", "space: {chanels: 3}", "include: 3"):
        assert not validator.is_valid(
            plain(f"include: digits_darts\n{text}" if "include" not in text else text)
        )


def test_an_editor_offers_to_include_where_nothing_is_included_yet() -> None:
    assert "include" in recipe_schema()["else"]["properties"]


def test_settings_have_their_meaning_range_and_default() -> None:
    schema = recipe_schema()
    epochs = schema["$defs"]["trainers.standard"]["properties"]["epochs"]
    setting = registries["trainers"].signature("standard").settings["epochs"]
    assert (epochs["description"], epochs["default"]) == (setting.doc, setting.default)
    number, reference = epochs["anyOf"]
    assert (number["type"], number["exclusiveMinimum"]) == ("integer", 0)
    assert reference == {"$ref": "#/$defs/reference"}
    algorithm = schema["$defs"]["algorithms.darts_bilevel"]
    assert algorithm["description"] == registries["algorithms"].signature("darts_bilevel").summary
    assert algorithm["properties"]["order"]["anyOf"][0]["enum"] == [1, 2]


def test_every_form_of_setting_of_a_third_party_is_described(third_party: Callable[..., Path]) -> None:
    third_party("stranger", FORMS, datasets="unit_forms = Forms")
    validator = Draft202012Validator(recipe_schema())
    for settings, valid in (
        ("needed: 1", True),
        ("needed: '${seed}'", True),
        ("one: step", False),  # `needed` is missing
        ("needed: 1, one: {min_lr: 0.5}", True),
        ("needed: 1, one: {factor: 0.5}", False),
        ("needed: 1, one: {type: step, factor: 0.5}", True),
        ("needed: 1, optional: null", True),
        ("needed: 1, optional: {factor: 0.5}", False),
        ("needed: 1, many: [cosine, {type: step}, '${data.many.0}']", True),
        ("needed: 1, many: [{factor: 0.5}]", False),
        ("needed: 1, named: {first: {factor: 0.5}, other: cosine}", True),
        ("needed: 1, named: {other: {factor: 0.5}}", False),
        ("needed: 1, sizes: [1, '${seed}']", True),
        ("needed: 1, sizes: [0]", False),
        ("needed: 1, pair: [1, b]", True),
        ("needed: 1, pair: [1, c]", False),
        ("needed: 1, pair: [1]", False),
        ("needed: 1, table: {a: 1, b: '${seed}'}", True),
        ("needed: 1, table: {a: b}", False),
        ("needed: 1, ops: [skip_connect]", True),
        ("needed: 1, ops: [skip_conect]", False),
        ("needed: 1, either: x", True),
        ("needed: 1, either: [x]", False),
    ):
        text = f"seed: 2\n{TINY.replace('digits', '{type: unit_forms, ' + settings + '}')}"
        assert validator.is_valid(plain(text)) == valid, settings
        assert is_read(text) == valid, settings
        if valid:
            assert validator.is_valid(recipe_to_mapping(load_recipe("x.yaml", check=False)))


def test_the_defaults_of_a_default_component_are_those_of_its_slots(third_party: Callable[..., Path]) -> None:
    third_party("stranger", WRAPPED, datasets="unit_holding = Holding")
    third_party("stranger2", WRAPPED, schedules="unit_outer = Outer")
    validator = Draft202012Validator(recipe_schema())
    for inner, valid in (("factor: 0.5", True), ("min_lr: 0.5", False)):
        text = TINY.replace("digits", f"{{type: unit_holding, schedule: {{inner: {{{inner}}}}}}}")
        assert is_read(text) == valid
        assert validator.is_valid(plain(text)) == valid


def test_components_that_cannot_be_used_are_left_out(third_party: Callable[..., Path]) -> None:
    third_party("stranger", "raise RuntimeError('imported')", schedules="unit_broken = X")
    third_party(
        "stranger2", "import io\ndef make(*, file: io.StringIO) -> None: ...\n", schedules="unit_odd = make"
    )
    third_party("stranger3", FORMS, datasets="unit_forms = Forms")
    text = dump_yaml(recipe_schema({("schedules", "unit_broken")}))
    assert "unit_broken" not in text
    assert "unit_odd" not in text
    assert "unit_forms" in text
