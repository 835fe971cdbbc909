"""Where values come from, and how recipes differ."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from nasframe.recipe.discovery import shipped_recipes
from nasframe.recipe.loading import load_with_places
from nasframe.recipe.provenance import Sourced, differences, sourced_values
from nasframe.recipe.schema import recipe_to_mapping
from nasframe.recipe.tree import KeyPath, Place

BASE = """\
name: base
data: digits
space: {type: darts, cells: 5}
search:
  trainer:
    epochs: 3
    optimizer: {lr: 0.5}
"""
OWN = """\
include: base.yaml
name: run-${seed}
seed: ${search.trainer.epochs}
search:
  augment: [crop, {type: cutout, length: 2}]
retrain:
  trainer: ${search.trainer}
  space: {channels: 4}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in a folder of its own, with two recipes."""
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)
    Path("own.yaml").write_text(OWN)


def values(recipe: str, overrides: Sequence[str] = ()) -> dict[KeyPath, Sourced]:
    return sourced_values(*load_with_places(recipe, overrides, check=False))


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("name", "run-3", "own.yaml:2:7"),
        ("data.type", "digits", "base.yaml:2:7"),
        ("data.test_fraction", 0.2, None),
        ("space.cells", 5, "base.yaml:3:29"),
        ("space.channels", 16, None),
        ("retrain.space.type", "darts", "base.yaml:3:15"),  # inherited
        ("retrain.space.cells", 5, "base.yaml:3:29"),
        ("retrain.space.channels", 4, "own.yaml:8:21"),
        ("seed", 3, "base.yaml:6:13"),  # where the reference leads
        ("retrain.trainer.epochs", 3, "base.yaml:6:13"),
        ("retrain.trainer.optimizer.lr", 0.5, "base.yaml:7:21"),
        ("retrain.trainer.optimizer.type", "sgd", None),
        ("search.augment.0.type", "crop", "own.yaml:5:13"),
        ("search.augment.0.padding", 4, None),
        ("search.augment.1.length", 2, "own.yaml:5:42"),
        ("search.cost", None, None),
        ("retrain.augment", [], None),
        ("trackers.1.type", "tensorboard", None),
        ("threads", 2, "command line"),
        ("search.mixed_op.type", "softmax", "command line"),
        ("version", 1, None),
    ],
)
def test_each_value_is_told_with_its_place(path: str, value: object, place: str | None) -> None:
    found = values("own.yaml", ["threads=2", "search.mixed_op=softmax"])
    sourced = found[tuple(int(key) if key.isdecimal() else key for key in path.split("."))]
    assert sourced.value == value
    assert sourced.place.is_default == (place is None)
    if place is not None:
        assert str(sourced.place) == place


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_the_values_are_those_of_the_complete_recipe_and_none_is_left_out(name: str) -> None:
    recipe, places = load_with_places(name, check=False)
    told: dict[str, object] = {}
    for path, sourced in sourced_values(recipe, places).items():
        into: object = told
        for key, following in zip(path, [*path[1:], None], strict=True):
            new: object = [] if isinstance(following, int) else {}
            new = sourced.value if following is None else new
            if isinstance(into, dict):
                into = into.setdefault(key, new)
            elif isinstance(into, list):
                into.extend([new] * (int(key) == len(into)))
                into = into[int(key)]
    assert told == recipe_to_mapping(recipe)


def test_recipes_differ_where_their_values_do() -> None:
    changed = ["search.trainer.epochs=4", "search.trainer.optimizer=adam", "~space.cells"]
    found = {each.path: each for each in differences(values("base.yaml"), values("base.yaml", changed))}
    epochs = found["search", "trainer", "epochs"]
    assert epochs.left == Sourced(3, Place("base.yaml", 6, 13))
    assert epochs.right == Sourced(4, Place())
    cells = found["space", "cells"].right
    assert cells is not None
    assert (cells.value, cells.place.is_default) == (8, True)
    optimizer = {
        path[3]: each for path, each in found.items() if path[:3] == ("search", "trainer", "optimizer")
    }
    assert list(optimizer) == [
        "type",
        "lr",
        "betas",
        "eps",
        "momentum",
        "weight_decay",
        "nesterov",
        "dampening",
    ]
    assert optimizer["momentum"].right is None
    assert optimizer["betas"].left is None
    assert ("retrain", "space", "cells") in found  # inherited
    assert len(found) == len(optimizer) + 3


def test_a_recipe_does_not_differ_from_itself() -> None:
    assert list(differences(values("own.yaml"), values("own.yaml"))) == []
