"""The minimal recipe loads to an equal one, and nothing can be left out of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nasframe.errors import RecipeError
from nasframe.recipe import Recipe, load_recipe
from nasframe.recipe.discovery import shipped_recipes
from nasframe.recipe.minimal import minimal_mapping
from nasframe.recipe.recipe import INHERITED_FROM
from nasframe.recipe.schema import listed_section, settings_of
from nasframe.recipe.yaml_text import dump_yaml
from nasframe.settings import Setting

TINY = "name: tiny\ndata: digits\nspace: darts\n"
NESTED = """
    from nasframe.core import Dataset, Schedule, schedules, datasets
    from nasframe.registry import Component

    def Warm(*, then: Component[Schedule] = schedules.component("cosine", min_lr=0.25), epochs: int = 3): ...

    def Nested(
        *,
        one: Component[Schedule] = schedules.component(
            "unit_warm", epochs=5, then=schedules.component("cosine", warmup_epochs=2)
        ),
        optional: Component[Schedule] | None = schedules.component("step"),
        many: tuple[Component[Schedule], ...] = (schedules.component("step"), schedules.component("cosine")),
        named: dict[str, Component[Schedule]] = {"a": schedules.component("step", factor=0.5)},
        sizes: tuple[int, ...] = (1, 2),
        share: float = 0.0,
    ) -> Dataset: ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in a folder of its own."""
    monkeypatch.chdir(tmp_path)


def load(text: str, *overrides: str) -> Recipe:
    Path("x.yaml").write_text(text)
    return load_recipe("x.yaml", overrides, check=False)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path


def without(mapping: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    key, *rest = path
    if not rest:
        return {name: value for name, value in mapping.items() if name != key}
    return {**mapping, key: without(mapping[key], tuple(rest))}


def check(recipe: Recipe) -> dict[str, Any]:
    """Whether the minimal mapping loads to the recipe, and each of its values is needed for that."""
    mapping = minimal_mapping(recipe)
    assert load(dump_yaml(mapping)) == recipe
    for path in leaves(mapping):
        try:
            other = load(dump_yaml(without(mapping, path)))
        except RecipeError:
            continue
        assert other != recipe, f"{path} need not be said"
    return mapping


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_a_shipped_recipe_is_made_minimal(name: str) -> None:
    check(load_recipe(name, check=False))


def test_nothing_but_what_has_no_default_is_left_of_a_recipe_of_defaults() -> None:
    assert check(load(TINY)) == {"name": "tiny", "data": "digits", "space": "darts"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["space.cells=5"], {"space": {"type": "darts", "cells": 5}}),
        (["space.cells=5", "retrain.space.cells=5"], {"space": {"type": "darts", "cells": 5}}),
        (
            ["space.cells=5", "retrain.space.cells=8"],
            {"space": {"type": "darts", "cells": 5}, "retrain": {"space": {"cells": 8}}},
        ),
        (["space=macro"], {"space": "macro"}),
        (["space=macro", "retrain.space=darts"], {"space": "macro", "retrain": {"space": "darts"}}),
        (["objective.label_smoothing=0.1"], {"objective": {"label_smoothing": 0.1}}),
        (
            ["objective=mean_squared_error", "retrain.objective=cross_entropy"],
            {"objective": "mean_squared_error", "retrain": {"objective": "cross_entropy"}},
        ),
        (["search.algorithm=darts_bilevel", "search.valid_fraction=0.5"], {}),
        (["trackers=[jsonl, tensorboard]"], {}),
        (["search.trainer.optimizer=adam"], {"search": {"trainer": {"optimizer": "adam"}}}),
        (
            ["search.algorithm.alpha_optimizer={type: sgd, lr: 0.5}"],
            {"search": {"algorithm": {"alpha_optimizer": {"type": "sgd", "lr": 0.5}}}},
        ),
        (["search.algorithm.alpha_optimizer.weight_decay=0"],
         {"search": {"algorithm": {"alpha_optimizer": {"weight_decay": 0.0}}}}),
        (["search.augment=[crop, {type: crop, padding: 2}]"],
         {"search": {"augment": ["crop", {"type": "crop", "padding": 2}]}}),
        (["trackers=[]"], {"trackers": []}),
        (["search.trainer.max_grad_norm=null"], {"search": {"trainer": {"max_grad_norm": None}}}),
        (["threads=1"], {"threads": 1}),
    ],
)  # fmt: skip
def test_only_what_differs_from_the_default_is_said(overrides: list[str], said: dict[str, Any]) -> None:
    assert check(load(TINY, *overrides)) == {"name": "tiny", "data": "digits", "space": "darts"} | said


@pytest.mark.parametrize(
    "settings",
    [
        "{}",
        "{one: {epochs: 3}}",
        "{one: {then: {min_lr: 0.001}}}",
        "{one: {then: {min_lr: 0.25, warmup_epochs: 0}}}",
        "{one: {type: unit_warm, epochs: 5, then: step}}",
        "{one: step}",
        "{optional: null}",
        "{optional: {factor: 0.5}}",
        "{optional: cosine}",
        "{many: []}",
        "{many: [step, {type: cosine, min_lr: 0.5}]}",
        "{many: [step, cosine]}",
        "{named: {a: {factor: 0.1}}}",
        "{named: {a: cosine, b: step}}",
        "{sizes: [], share: 0}",
        "{sizes: [1, 2], share: 1e-3}",
    ],
)
def test_every_form_of_slot_is_made_minimal(third_party: Callable[..., Path], settings: str) -> None:
    third_party("stranger", NESTED, datasets="unit_nested = Nested")
    third_party("stranger2", NESTED, schedules="unit_warm = Warm")
    check(load(TINY, "data.type=unit_nested", f"data={settings}"))


def test_what_is_inherited_and_what_inherits_have_the_same_default_of_their_own() -> None:
    # else a recipe that does not say the one would mean something else than one that says its default
    def setting_at(path: str) -> Setting:
        section: Any = Recipe
        *above, last = path.replace(".*", "").split(".")
        for key in above:
            annotation = settings_of(section)[key].annotation
            section = listed_section(annotation) or annotation
        return settings_of(section)[last]

    for target, source in INHERITED_FROM.items():
        default, own = setting_at(target).default, setting_at(source)
        assert dict(default.settings) == {}
        assert own.required or own.default == default
