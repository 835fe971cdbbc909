"""How components stand in a recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nasframe.core  # noqa: F401 (declares the registries)
from nasframe.recipe import load_recipe
from nasframe.recipe.usage import fragment_of, partners_of, slots_for
from nasframe.recipe.yaml_text import dump_yaml
from nasframe.registry import registries

COMPONENTS = [
    (registry, name)
    for registry in registries
    if registry
    not in ("layers", "readers", "executors")  # named by rules of `surgery`, data sets, and `--on`
    for name in registries[registry]
]
BASE = {"name": "mine", "data": "digits", "space": "darts"}


@pytest.mark.parametrize(("registry", "name"), COMPONENTS)
def test_the_fragment_of_every_component_loads_and_has_it(tmp_path: Path, registry: str, name: str) -> None:
    fragment = fragment_of(registries[registry], name)
    slots = slots_for(registries[registry])
    assert fragment is not None
    path = tmp_path / "x.yaml"
    path.write_text(dump_yaml({**BASE, **fragment}))
    recipe = load_recipe(path, check=False)
    found: Any = recipe
    for key in slots[0].path:
        found = found.settings[key] if hasattr(found, "settings") else getattr(found, key)
    named = [found] if slots[0].form in ("one", "optional") else list(found)
    assert name in [getattr(each, "name", each) for each in named]


@pytest.mark.parametrize(
    ("registry", "first"),
    [
        ("algorithms", "search.algorithm"),
        ("optimizers", "search.trainer.optimizer"),
        ("schedules", "search.trainer.schedule"),
        ("augmentations", "search.augment"),
        ("datasets", "data"),
        ("ops", "space.operations"),
        ("trackers", "trackers"),
    ],
)
def test_the_best_slot_comes_first(registry: str, first: str) -> None:
    assert ".".join(slots_for(registries[registry])[0].path) == first


def test_all_slots_are_found_also_in_default_components() -> None:
    optimizers = {".".join(slot.path) for slot in slots_for(registries["optimizers"])}
    assert optimizers == {
        "search.trainer.optimizer", "retrain.trainer.optimizer", "search.algorithm.alpha_optimizer"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("registry", "name", "other", "fitting", "unfitting"),
    [
        ("algorithms", "darts_bilevel", "mixed_ops", "softmax", "binary_gate"),
        ("algorithms", "proxyless", "mixed_ops", "binary_gate", "softmax"),
        ("mixed_ops", "binary_gate", "algorithms", "proxyless", "darts_bilevel"),
        ("costs", "flops", "algorithms", "proxyless", "weights_only"),
        ("benchmarks", "nas_bench_macro", "spaces", "macro", "darts"),
        ("spaces", "darts", "benchmarks", None, "nas_bench_macro"),
    ],
)
def test_what_a_component_works_with_is_told(
    registry: str, name: str, other: str, fitting: str | None, unfitting: str
) -> None:
    found = {each.registry: each for each in partners_of(registries[registry], name)}
    assert unfitting in found[other].unfitting
    assert (fitting in found[other].fitting) if fitting else not found[other].fitting


def test_where_everything_works_nothing_is_told() -> None:
    assert partners_of(registries["trackers"], "jsonl") == []
    assert partners_of(registries["schedules"], "cosine") == []


def test_a_fragment_has_what_the_component_needs_beside_it() -> None:
    fragment = fragment_of(registries["mixed_ops"], "binary_gate")
    assert fragment is not None
    assert fragment["search"]["algorithm"] == "proxyless"
    fragment = fragment_of(registries["benchmarks"], "nas_bench_macro")
    assert fragment is not None
    assert fragment["space"] == "macro"
    assert fragment["search"]["benchmark"]["path"] == "..."


FOREIGN = """
    from nasframe.core import Cost, Schedule
    from nasframe.registry import Component
    class Mine(Schedule):
        def __init__(self, *, then: dict[str, Component[Schedule]], factor: float) -> None: ...
        def __call__(self, base_lr, epoch, num_epochs): return base_lr
"""


def test_what_a_third_party_must_be_given_stands_as_dots(third_party: Callable[..., Path]) -> None:
    third_party("stranger", FOREIGN, schedules="unit_mine = Mine")
    fragment = fragment_of(registries["schedules"], "unit_mine")
    assert fragment is not None
    assert fragment["search"]["trainer"]["schedule"] == {"type": "unit_mine", "then": "...", "factor": "..."}


def test_broken_components_are_not_imported(third_party: Callable[..., Path]) -> None:
    third_party(
        "stranger", "raise SystemExit('imported')", mixed_ops="unit_broken = X", spaces="unit_broken = X"
    )
    without = {("mixed_ops", "unit_broken"), ("spaces", "unit_broken")}
    (partners,) = partners_of(registries["algorithms"], "darts_bilevel", without)
    assert "unit_broken" not in [*partners.fitting, *partners.unfitting]
    assert fragment_of(registries["algorithms"], "proxyless", without) is not None
    assert fragment_of(registries["ops"], "skip_connect", without) is not None
