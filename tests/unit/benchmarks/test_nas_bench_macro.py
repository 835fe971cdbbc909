"""The table of NAS-Bench-Macro: which entry is an architecture's, its rank, and what is refused."""

import itertools
import json

import pytest

from nasframe.benchmarks.nas_bench_macro import NasBenchMacro
from nasframe.core import Genotype, Standing, Task
from nasframe.errors import DataError, FormatError
from nasframe.spaces.macro import Macro

KEYS = ["".join(digits) for digits in itertools.product("012", repeat=8)]
BLOCKS = {"0": "identity", "1": "mb_k3_e3", "2": "mb_k5_e6"}  # Su et al. 2021, section 4


def test_the_key_of_each_architecture_is_its_blocks_layer_by_layer(macro_table):
    table, space = NasBenchMacro(path=macro_table), Macro(Task())
    for key in KEYS:
        genotype = Genotype({f"layer_{layer}": (BLOCKS[digit],) for layer, digit in enumerate(key)})
        assert (table.key(genotype), space.key(genotype)) == (key, key)


def test_accuracy_and_rank_of_all_architectures_are_those_of_counting(macro_table):
    percent = {key: entry["mean_acc"] for key, entry in json.loads(macro_table.read_text()).items()}
    assert len(set(percent.values())) < len(percent)  # some are equally accurate
    table, space = NasBenchMacro(path=macro_table), Macro(Task())
    ordered = sorted(percent.values(), reverse=True)
    for key in KEYS:
        standing = table.standing(space.genotype(key))
        assert standing.accuracy == pytest.approx(percent[key] / 100, abs=1e-12)
        assert (standing.rank, standing.count) == (ordered.index(percent[key]) + 1, 6561)


@pytest.mark.parametrize(("rank", "percentile"), [(1, 100.0), (65, 100 * 6497 / 6561), (6561, 100 / 6561)])
def test_the_percentile_counts_the_architectures_that_are_no_better(rank, percentile):
    assert Standing(0.5, rank, 6561).percentile == pytest.approx(percentile, rel=1e-12)


def test_the_published_table_has_its_known_standings(nas_bench_macro_file):
    table, space = NasBenchMacro(path=nas_bench_macro_file), Macro(Task())
    published = [("22212220", 0.9313, 1), ("22222222", 0.9295, 21), ("00000000", 0.4536, 6561)]
    for key, accuracy, rank in published:
        standing = table.standing(space.genotype(key))
        assert (round(standing.accuracy, 4), standing.rank) == (accuracy, rank)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="must be the table of NAS-Bench-Macro, but is no file"):
            NasBenchMacro(path=path)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must be JSON"),
        ("\x00\xff", "must be JSON"),
        ("[" * 200_000, "must be JSON"),
        ("[]", "6,561 keys of NAS-Bench-Macro, got list"),
        ("{}", "6,561 keys of NAS-Bench-Macro, got 0 of them"),
        ('{"00000000": {"mean_acc": NaN}}', "NaN is no number"),
        ('{"00000000": {"mean_acc": -Infinity}}', "-Infinity is no number"),
        ('{"a": 1, "a": 2}', "a key occurs twice"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, rule):
    path = tmp_path / "table.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=rule) as caught:
        NasBenchMacro(path=path)
    assert str(path) in str(caught.value)


def test_a_truncated_table_is_refused(macro_table):
    macro_table.write_text(macro_table.read_text()[:100_000])
    with pytest.raises(FormatError, match="must be JSON"):
        NasBenchMacro(path=macro_table)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path):
    path = tmp_path / "table.json"
    with path.open("wb") as file:
        file.truncate(2**34)  # a hole: takes no space
    with pytest.raises(FormatError, match=r"must have at most 16,777,216 bytes"):
        NasBenchMacro(path=path)


def test_all_architectures_and_no_others_must_be_there(macro_table):
    entries = json.loads(macro_table.read_text())
    lacking = {key: entry for key, entry in entries.items() if key != "21012012"}
    for wrong, found in ((lacking, "6560"), ({**entries, "33333333": {"mean_acc": 1.0}}, "6561")):
        macro_table.write_text(json.dumps(wrong))
        with pytest.raises(
            FormatError, match=f"exactly the 6,561 keys of NAS-Bench-Macro, got {found} of them"
        ):
            NasBenchMacro(path=macro_table)


@pytest.mark.parametrize("entry", [{}, [], 93.1, {"mean_acc": "93"}, {"mean_acc": True}, {"mean_acc": None},
                                   {"mean_acc": -0.1}, {"mean_acc": 100.1}])  # fmt: skip
def test_an_entry_without_an_accuracy_is_refused_and_named(macro_table, entry):
    entries = json.loads(macro_table.read_text())
    macro_table.write_text(json.dumps({**entries, "21012012": entry}))
    with pytest.raises(FormatError, match="21012012: mean_acc must be a number from 0 to 100"):
        NasBenchMacro(path=macro_table)


def test_a_number_that_overflows_is_refused(macro_table):
    text = macro_table.read_text()
    macro_table.write_text(text.replace('{"mean_acc": ', '{"mean_acc": 1e999, "was": ', 1))
    with pytest.raises(FormatError, match="must be JSON: 1e999 is too large for a number"):
        NasBenchMacro(path=macro_table)


@pytest.mark.parametrize(
    "change",
    [{"layer_7": None}, {"layer_8": ("identity",)}, {"layer_3": ("mb_k7_e6",)}, {"layer_3": ()},
     {"layer_3": ("identity", "mb_k3_e3")}],
)  # fmt: skip
def test_architectures_of_another_space_are_refused(macro_table, change):
    choices = {**Macro(Task()).genotype("00000000").choices, **change}
    other = Genotype({name: kept for name, kept in choices.items() if kept is not None})
    with pytest.raises(FormatError, match="nas_bench_macro: "):
        NasBenchMacro(path=macro_table).standing(other)
