"""The table of NAS-Bench-201: which entry is an architecture's, its rank, and what is refused."""

import json

import pytest

from nasframe.benchmarks.nas_bench_201 import NasBench201
from nasframe.core import Genotype, Task
from nasframe.errors import DataError, FormatError
from nasframe.spaces.nas_bench_201 import NasBench201 as Space

KEY = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


def test_accuracy_and_rank_are_those_of_counting(nas_bench_201_table):
    percent = json.loads(nas_bench_201_table.read_text())
    table, space = NasBench201(path=nas_bench_201_table), Space(Task(), channels=2, cells=1)
    for key in [KEY, *list(percent)[::999], max(percent, key=percent.get), min(percent, key=percent.get)]:
        standing = table.standing(space.genotype(key))
        assert standing.accuracy == pytest.approx(percent[key] / 100, abs=1e-12)
        better = sum(each > percent[key] for each in percent.values())
        assert (standing.rank, standing.count) == (better + 1, 15_625)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="must be the table of NAS-Bench-201, but is no file; write it"):
        NasBench201(path=tmp_path)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("\x80\x04", "must be JSON"),  # how a pickle begins
        ("[]", "15,625 keys of NAS-Bench-201, got list"),
        (json.dumps({KEY: 93.1}), "15,625 keys of NAS-Bench-201, got 1 of them"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, rule):
    path = tmp_path / "table.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=rule) as caught:
        NasBench201(path=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("entry", [{"mean_acc": 93.1}, True, 100.1])
def test_an_entry_that_is_no_percentage_is_refused_and_named(nas_bench_201_table, entry):
    entries = json.loads(nas_bench_201_table.read_text())
    nas_bench_201_table.write_text(json.dumps({**entries, KEY: entry}))
    with pytest.raises(FormatError, match=r"avg_pool_3x3~2\|: accuracy must be a number from 0 to 100"):
        NasBench201(path=nas_bench_201_table)


@pytest.mark.parametrize("change", [{"cell_3_2": ("sep_conv_3x3",)}, {"cell_4_0": ("none",)}])
def test_architectures_of_another_space_are_refused(nas_bench_201_table, change):
    other = Genotype({**Space(Task()).genotype(KEY).choices, **change})
    with pytest.raises(FormatError, match=r"nas_bench_201: genotype: .*; search in the space nas_bench_201"):
        NasBench201(path=nas_bench_201_table).standing(other)
