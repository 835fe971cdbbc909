"""The arithmetic of the study of `macro_proxyless`."""

import itertools
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDY = runpy.run_path(str(ROOT / "benchmarks" / "macro_study.py"), run_name="macro_study")
VALUES = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_best_of_n_is_the_mean_over_all_draws(count):
    draws = list(itertools.product(VALUES, repeat=count))
    mean = sum(map(max, draws)) / len(draws)
    assert STUDY["expected_best"](VALUES, count) == pytest.approx(mean, rel=1e-12)


def test_the_rank_correlation_counts_pairs_and_leaves_ties_out():
    other = [2.0, 2.0, 4.0, 0.0, 5.0, 4.0, 1.0]
    pairs = list(itertools.combinations(zip(VALUES, other, strict=True), 2))
    orders = [(a - c) * (b - d) for (a, b), (c, d) in pairs]
    agreement = sum(order > 0 for order in orders) - sum(order < 0 for order in orders)
    untied = [sum(one[axis] != two[axis] for one, two in pairs) for axis in (0, 1)]
    expected = agreement / (untied[0] * untied[1]) ** 0.5
    assert STUDY["kendall"](VALUES, other) == pytest.approx(expected, rel=1e-12)


def test_the_published_facts_of_the_table_come_out(nas_bench_macro_file):
    networks = STUDY["read_networks"](nas_bench_macro_file)
    every = STUDY["compare"](networks, (20, 100))
    assert (every.best.key, every.heaviest.key, every.allowed) == ("22212220", "22222222", 6561)
    assert STUDY["rank"](every.heaviest, networks) == 21
    assert round(every.kendall, 3) == 0.556
    # means of many drawn sets, so to the second decimal
    assert every.random == pytest.approx({20: 92.61, 100: 92.87}, abs=0.01)
    light = STUDY["compare"]([each for each in networks if each.multiply_adds <= 60e6], (1,))
    assert (light.best.key, light.allowed, round(light.heaviest.accuracy, 2)) == ("21220200", 4075, 90.05)


def test_the_document_has_the_tables_of_the_committed_results():
    tables = STUDY["markdown"](STUDY["read_results"]())
    assert tables in (ROOT / "docs" / "macro_study.md").read_text(encoding="utf-8")
