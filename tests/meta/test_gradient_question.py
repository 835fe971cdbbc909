"""The study of second-order gradients: its statistics, its ways to the product, and its document."""

import importlib
import itertools
from pathlib import Path

import pytest
import torch

import nasframe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmarks, which are scripts and no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


# Statistics -------------------------------------------------------------------------------------------

# a population of three batches, each with a vector of two sorts
ONE = torch.tensor([[1.0, 2.0], [0.0, -1.0], [5.0, 1.0]], dtype=torch.float64)
TRUTH = torch.tensor([[2.0, 2.0], [1.0, -3.0], [3.0, 4.0]], dtype=torch.float64)


def mean_over_samples(load, figure, size=3):
    """The mean of a figure over all equally likely samples of independent draws."""
    draws = load("between_batches").Draws
    samples = [list(each) for each in itertools.product(range(3), repeat=size)]
    values = [figure(draws({"one": ONE[each], "truth": TRUTH[each]})) for each in samples]
    return float(torch.stack(values).mean())


def test_products_have_no_bias_from_noise(load):
    got = mean_over_samples(load, lambda each: each.product("one", "truth"))
    assert got == pytest.approx(float(ONE.mean(0) @ TRUTH.mean(0)), rel=1e-12)
    squared = mean_over_samples(load, lambda each: each.product("one", "one"))
    assert squared == pytest.approx(float(ONE.mean(0).square().sum()), rel=1e-12)


def between(one, other, counts):
    """The mean product over ordered pairs of different batches, each pair as often as it is drawn."""
    pairs = list(itertools.permutations(range(len(counts)), 2))
    total = sum(counts[i] * counts[j] * float(one[i] @ other[j]) for i, j in pairs)
    return total / sum(counts[i] * counts[j] for i, j in pairs)


@pytest.mark.parametrize("counts", [[1, 1, 1], [2, 1, 3]])
def test_figures_are_those_of_their_definitions(load, counts):
    draws = load("between_batches").Draws({"one": ONE, "truth": TRUTH}, torch.tensor([counts]))
    square, along, length = (between(a, b, counts) for a, b in ((ONE, ONE), (ONE, TRUTH), (TRUTH, TRUTH)))
    assert float(draws.cosine("one", "truth")) == pytest.approx(along / (square * length) ** 0.5, rel=1e-12)
    assert float(draws.share("one", "truth")) == pytest.approx(along / length, rel=1e-12)
    difference = between(ONE - TRUTH, ONE - TRUTH, counts)
    assert float(draws.bias("one", "truth")) == pytest.approx(difference / length, rel=1e-12)
    squares = sum(c * float(each.square().sum()) for c, each in zip(counts, ONE, strict=True)) / sum(counts)
    off = (squares - 2 * along + length) / length
    assert float(draws.error("one", "truth")) == pytest.approx(off, rel=1e-12)
    cosines = 0.0
    for i, count in enumerate(counts):
        others = [(counts[j], TRUTH[j]) for j in range(3) if j != i]
        truth = sum(c * each for c, each in others) / sum(c for c, _ in others)
        cosines += count * float(ONE[i] @ truth / ONE[i].norm()) / sum(counts)
    assert float(draws.single_cosine("one", "truth")) == pytest.approx(cosines / length**0.5, rel=1e-12)


def test_an_interval_is_open_where_noise_hides_the_length(load):
    statistics = load("between_batches")
    around_zero = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    draws = statistics.Draws({"one": around_zero, "truth": around_zero})
    found = statistics.estimate(draws, lambda each: each.share("one", "truth"))
    assert (found.value, found.lower, found.upper) == (None, None, None)


def test_the_interval_of_a_mean_holds_it_and_narrows(load):
    mean_of = load("between_batches").mean_of
    few, many = mean_of([1.0, 3.0] * 4), mean_of([1.0, 3.0] * 64)
    assert few.value == many.value == 2
    assert few.lower < many.lower < 2 < many.upper < few.upper


# Products ---------------------------------------------------------------------------------------------


@pytest.fixture
def point(load, tmp_path):
    """Two steps of a tiny search on digits."""
    question = load("gradient_question")
    tiny = ["space.channels=4", "space.cells=2", "space.nodes=2", "search.trainer.batch_size=4"]
    recipe = nasframe.load_recipe("digits_darts", tiny, check=False)
    point = question.Point(recipe, recipe.data(), 2, tmp_path)
    point.reach()
    return point


def test_the_parts_add_up_to_what_the_algorithm_gives(load, point):
    look = load("gradient_question").close_look(point)
    assert max(look["interface"].values()) < 1e-12


def test_without_kinks_all_ways_lead_to_one_product(load, point):
    gradients = load("alpha_gradients")
    search, pair = point.search(fused=False), point.pair(0)
    with gradients.smoothed():
        product = gradients.AlphaGradients(search, *pair).product
        exact = product.exact()
        length = float(exact.norm())
        assert float((product.central(1e-4) - exact).norm()) < 1e-5 * length
        assert float((product.one_sided(1e-6) - exact).norm()) < 1e-4 * length
        direction = exact / length
        assert product.by_alphas(direction, 1e-4) == pytest.approx(length, rel=1e-5)


def test_kinks_are_counted_between_both_sides(load, point):
    product = load("alpha_gradients").AlphaGradients(point.search(fused=False), *point.pair(0)).product
    assert product.crossed(1e-13) == {"relu": 0, "max_pool": 0}
    near, far = product.crossed(0.01), product.crossed(1.0)
    assert all(0 < near[kind] < far[kind] < 1 for kind in near)


def test_a_search_goes_on_as_if_it_had_not_been_stopped(load, point, tmp_path):
    question = load("gradient_question")
    at_once = question.Point(point.recipe, point.data, 3, tmp_path / "other")
    in_two = question.Point(point.recipe, point.data, 3, tmp_path)
    at_once.reach()
    in_two.reach()
    one, other, before = (each.search(torch.float32).model.state_dict() for each in (at_once, in_two, point))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert any(not torch.equal(value, before[name]) for name, value in one.items())


# The document -----------------------------------------------------------------------------------------


def test_the_document_has_the_tables_of_the_committed_results(load):
    question = load("gradient_question")
    tables = question.markdown(question.read_results()).strip().split("\n\n")
    document = (ROOT / "docs" / "second_order.md").read_text(encoding="utf-8")
    assert len(tables) == 3
    assert [table for table in tables if table not in document] == []
