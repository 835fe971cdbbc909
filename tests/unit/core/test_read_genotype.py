"""An architecture is read from a file as JSON, or as its field writes it."""

import pytest

from nasframe.core import (
    Genotype,
    Task,
    choices_of,
    generator_for,
    networks,
    read_genotype,
    sample,
    spaces,
)
from nasframe.errors import FormatError

IMAGES = Task((3, 8, 8), 3)
CELL = "[('skip_connect', 0), ('sep_conv_3x3', 1)]"
DARTS = f"Genotype(normal={CELL}, normal_concat=[2], reduce={CELL}, reduce_concat=range(2, 3))"
NOTATIONS = {
    "nas_bench_201": (
        {"channels": 2, "cells": 1},
        "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|none~1|avg_pool_3x3~2|",
        {"cell_2_1": ("nor_conv_1x1",), "cell_3_2": ("avg_pool_3x3",)},
    ),
    "macro": ({"channels": 2, "stages": (1, 2)}, "201", {"layer_1": ("identity",)}),
    "darts": ({"channels": 2, "cells": 3, "nodes": 1}, DARTS, {"normal_2_1": ("sep_conv_3x3",)}),
}


@pytest.mark.parametrize("name", NOTATIONS)
def test_the_notation_of_the_space_and_json_are_read_alike(name, tmp_path):
    settings, text, some = NOTATIONS[name]
    space, path = spaces[name](IMAGES, **settings), tmp_path / "found"
    path.write_text(f"{text}\n")
    read = read_genotype(path, space)
    assert read.choices.items() >= some.items()
    read.save(path)
    assert read_genotype(path, space) == read
    any_one = sample(space, generator_for(0, "here"))
    assert any_one.choices.keys() <= choices_of(space).keys()
    any_one.save(path)
    assert read_genotype(path, space) == any_one


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "|none~0|", "22", "Genotype(1)", "\x00", "|none~0|+|x~0|y~1|"]
)
@pytest.mark.parametrize("name", [*NOTATIONS, "surgery"])
def test_what_is_neither_is_refused_and_named(name, text, tmp_path):
    settings = {"network": networks.component("resnet", channels=2, blocks=(1,))}
    space = spaces[name](IMAGES, **(NOTATIONS[name][0] if name in NOTATIONS else settings))
    (tmp_path / "found").write_text(text)
    with pytest.raises(FormatError, match=f"^{tmp_path / 'found'}: "):
        read_genotype(tmp_path / "found", space)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "found").write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match="found: "):
        read_genotype(tmp_path / "found", spaces["macro"](IMAGES))


def test_the_json_of_another_space_is_left_to_who_builds_it(tmp_path):
    Genotype({"other": ("0",)}).save(tmp_path / "found")
    assert "other" in read_genotype(tmp_path / "found", spaces["macro"](IMAGES)).choices
