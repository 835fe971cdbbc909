"""Explorers do what their papers' algorithms say, on scores that are known."""

import collections
import itertools
import statistics
from collections.abc import Callable

import pytest
from torch import nn

from nasframe import testing
from nasframe.core import (
    Explorer,
    Filler,
    Genotype,
    LayerChoice,
    Space,
    architectures_of,
    explorers,
    generator_for,
)
from nasframe.errors import UnsupportedError


class Chain(Space):
    """Six layers of three candidates: 729 architectures."""

    def build(self, filler: Filler) -> nn.Module:
        choices = [LayerChoice(f"layer_{layer}", ("0", "1", "2")) for layer in range(6)]
        return nn.Sequential(*(filler.layer(choice, lambda name: nn.Identity()) for choice in choices))


@pytest.fixture
def space() -> Space:
    return Chain()


def key(genotype: Genotype) -> tuple[int, ...]:
    return tuple(int(genotype[f"layer_{layer}"][0]) for layer in range(6))


def smooth(genotype: Genotype) -> float:
    """One optimum, which single changes reach: 2 everywhere."""
    return float(sum(key(genotype)))


def changes(one: Genotype, other: Genotype) -> int:
    return sum(a != b for a, b in zip(key(one), key(other), strict=True))


def run(explorer: Explorer, score: Callable[[Genotype], float], count: int) -> list[tuple[Genotype, float]]:
    told = []
    for _ in range(count):
        genotype = explorer.ask()
        told.append((genotype, score(genotype)))
        explorer.tell(*told[-1])
    return told


def test_the_oldest_of_a_population_dies_not_the_worst(space):
    """Real et al. 2019: a parent is always one of the last P, even where a better one came before them."""
    size = 4
    explorer = explorers["regularized_evolution"](space, 0, population=size, sample=30)
    told: list[tuple[Genotype, float]] = []
    for index in range(24):
        genotype = explorer.ask()
        if index >= size:
            alive = told[-size:]
            # with 30 draws of 4, the sample misses the best with a chance of 2e-4
            parent = max(alive, key=lambda one: one[1])[0]
            assert changes(parent, genotype) == 1
        told.append((genotype, float(-index)))  # the oldest is the best of those that are alive
        explorer.tell(*told[-1])
    first = told[0][0]
    assert any(changes(first, genotype) > 1 for genotype, _ in told[10:])


def test_a_parent_is_the_best_of_a_sample_drawn_with_replacement(space):
    """With S = 2 of P = 2, the worse one is the parent where both draws hit it: a quarter of the time."""
    counts = collections.Counter()
    for seed in range(100):
        explorer = explorers["regularized_evolution"](space, seed, population=2, sample=2)
        pair = [explorer.ask()]
        explorer.tell(pair[0], 1.0)
        while True:  # another that shares no neighbor with the first
            pair[1:] = [explorer.ask()]
            if changes(*pair) > 2:
                break
        explorer.tell(pair[1], 0.0)
        child = explorer.ask()
        counts[min(range(2), key=lambda index: changes(pair[index], child))] += 1
    assert abs(counts[1] - 25) < 4 * (100 * 0.25 * 0.75) ** 0.5


def test_the_first_of_evolution_are_drawn_and_the_following_are_mutants_of_the_living(space):
    explorer = explorers["regularized_evolution"](space, 3, population=8, sample=3)
    told = run(explorer, smooth, 60)
    begin, end = (statistics.mean(score for _, score in part) for part in (told[:8], told[-8:]))
    assert end > begin + 2
    for index in range(8, 60):
        assert any(changes(parent, told[index][0]) == 1 for parent, _ in told[index - 8 : index])


def test_a_generation_has_mutants_then_children_of_the_best_then_drawn_ones(space):
    """Guo et al. 2020, Algorithm 1."""
    explorer = explorers["evolution"](
        space, 0, population=12, top=2, mutants=5, children=5, mutation_probability=0.0
    )
    told = run(explorer, smooth, 12)
    first, second = sorted(told, key=lambda one: -one[1])[:2]
    known = {genotype for genotype, _ in told}
    for _ in range(5):  # without mutations a mutant is a copy, which was asked for, so that others are drawn
        other = explorer.ask()
        assert other not in known
        explorer.tell(other, -1.0)
    for _ in range(5):
        child = explorer.ask()
        explorer.tell(child, smooth(child))
        parents = zip(key(first[0]), key(second[0]), key(child), strict=True)
        assert all(mine in (one, other) for one, other, mine in parents)


def test_evolution_asks_for_no_architecture_twice_and_climbs(space):
    explorer = explorers["evolution"](space, 1, population=20, top=5, mutants=8, children=8)
    told = run(explorer, smooth, 120)
    assert len({genotype for genotype, _ in told}) == 120
    generations = [
        statistics.mean(score for _, score in told[start : start + 16]) for start in range(0, 120, 20)
    ]
    assert generations[-1] > generations[0] + 1


def test_more_offspring_than_members_are_refused(space):
    with pytest.raises(UnsupportedError, match="must together be at most the population of 10, got 8 and 8"):
        explorers["evolution"](space, 0, population=10, mutants=8, children=8)


def test_local_search_asks_for_all_neighbors_and_moves_to_the_best(space):
    """White et al. 2021, Algorithm 1: here with one optimum, so that it must be reached."""
    explorer = explorers["local_search"](space, 0)
    start = explorer.ask()
    explorer.tell(start, smooth(start))
    here, scores = start, {start: smooth(start)}
    while smooth(here) < 12:
        around = set(architectures_of(space).neighbors(here, generator_for(0))) - scores.keys()
        asked = set()
        for _ in range(len(around)):
            genotype = explorer.ask()
            asked.add(genotype)
            scores[genotype] = smooth(genotype)
            explorer.tell(genotype, scores[genotype])
        assert asked == around
        here = max((each for each in scores if changes(each, here) == 1), key=smooth)
    assert key(here) == (2,) * 6
    left = set(architectures_of(space).neighbors(here, generator_for(0))) - scores.keys()
    assert {genotype for genotype, _ in run(explorer, smooth, len(left))} == left
    assert changes(explorer.ask(), here) > 1  # it starts again elsewhere


def test_a_hasty_search_moves_to_the_first_better_neighbor(space):
    explorer = explorers["local_search"](space, 0, move="first")
    told = run(explorer, smooth, 2)
    while told[-1][1] <= told[0][1]:
        told += run(explorer, smooth, 1)
    better = told[-1][0]
    (following, _), *_ = run(explorer, smooth, 1)
    assert changes(better, following) == 1
    assert len(told) < 13


def test_halving_keeps_the_best_third_on_three_times_the_budget(space):
    """Jamieson and Talwalkar 2016, with 9 architectures and η = 3."""
    explorer = explorers["successive_halving"](space, 0, count=9, eta=3)
    rungs: dict[float, list[Genotype]] = collections.defaultdict(list)
    for _ in range(9 + 3 + 1):
        genotype = explorer.ask()
        rungs[explorer.budget].append(genotype)
        explorer.tell(genotype, smooth(genotype))
    assert list(rungs) == pytest.approx([1 / 9, 1 / 3, 1])
    few, some, last = rungs.values()
    assert [len(set(rung)) for rung in (few, some, last)] == [9, 3, 1]
    ranked = sorted(few, key=lambda each: -smooth(each))
    assert [smooth(each) for each in some] == [smooth(each) for each in ranked[:3]]
    assert smooth(last[0]) == smooth(ranked[0])
    explorer.ask()
    assert explorer.budget == pytest.approx(1 / 9)


@pytest.mark.parametrize(
    ("count", "eta", "sizes"),
    [(27, 3, [27, 9, 3, 1]), (20, 2, [20, 10, 5, 2, 1]), (5, 3, [5, 1]), (1, 3, [1])],
)
def test_rungs_end_with_one_architecture_on_the_whole_budget(space, count, eta, sizes):
    explorer = explorers["successive_halving"](space, 0, count=count, eta=eta)
    budgets = []
    for _ in range(sum(sizes)):
        genotype = explorer.ask()
        budgets.append(explorer.budget)
        explorer.tell(genotype, smooth(genotype))
    assert [budgets.count(budget) for budget in dict.fromkeys(budgets)] == sizes
    assert budgets[-1] == 1


@pytest.mark.parametrize(
    ("halvings", "sizes"), [(2, {1 / 9: 27, 1 / 3: 9, 1: 3}), (1, {1 / 3: 27, 1: 9}), (0, {1: 27})]
)
def test_fewer_halvings_start_on_larger_budgets_and_leave_more_on_the_whole_one(space, halvings, sizes):
    """The inner loop of Hyperband (Li et al. 2018, Algorithm 1) for s = 2, 1, 0, with n = 27 and η = 3."""
    explorer = explorers["successive_halving"](space, 0, count=27, eta=3, halvings=halvings)
    budgets = []
    for _ in range(sum(sizes.values())):
        genotype = explorer.ask()
        budgets.append(explorer.budget)
        explorer.tell(genotype, smooth(genotype))
    assert list(dict.fromkeys(budgets)) == pytest.approx(list(sizes))
    assert [budgets.count(budget) for budget in dict.fromkeys(budgets)] == list(sizes.values())
    explorer.ask()
    assert explorer.budget == budgets[0]


def test_more_halvings_than_there_are_architectures_for_are_refused(space):
    with pytest.raises(UnsupportedError, match=r"halvings must be at most 2, after which none of 9 .* got 3"):
        explorers["successive_halving"](space, 0, count=9, eta=3, halvings=3)


def test_what_is_bred_comes_from_the_best_so_far_and_is_halved_with_what_was_drawn(space):
    """DEHB (Awad et al. 2021): evolution on the smallest budget, whose best go on."""
    settings = {"count": 60, "eta": 4, "halvings": 1}
    explorer = explorers["successive_halving"](space, 0, **settings, bred=40, mutation_probability=0.0)
    told = run(explorer, smooth, 20)
    drawn = explorers["successive_halving"](space, 0, **settings)
    assert [each for each, _ in told] == [each for each, _ in run(drawn, smooth, 20)]
    for _ in range(4):
        best = sorted(told, key=lambda one: -one[1])[: len(told) // 4]
        told += run(explorer, smooth, 1)
        bred, parents = told[-1][0], [one for one, _ in best]
        pairs = itertools.combinations_with_replacement(parents, 2)
        assert any(all(bred[name] in (a[name], b[name]) for name in bred.choices) for a, b in pairs)
    explorer = explorers["successive_halving"](space, 0, **settings, bred=40)
    told = run(explorer, smooth, 75)
    assert len({one for one, _ in told[:60]}) == 60
    assert [score for _, score in told[60:]] == sorted((score for _, score in told[:60]), reverse=True)[:15]


def test_breeding_on_the_smallest_budget_finds_more_than_drawing(space):
    def best(bred: int, seed: int) -> float:
        explorer = explorers["successive_halving"](space, seed, count=40, eta=4, halvings=1, bred=bred)
        return max(score for _, score in run(explorer, smooth, 40))

    assert statistics.mean(best(32, seed) for seed in range(8)) > statistics.mean(
        best(0, seed) for seed in range(8)
    )


def test_parents_must_be_drawn_first(space):
    with pytest.raises(UnsupportedError, match=r"bred must be at most 6, so that 3 of 9 are drawn, got 7"):
        explorers["successive_halving"](space, 0, count=9, bred=7)


@pytest.mark.parametrize("name", ["regularized_evolution", "evolution", "local_search"])
def test_each_guided_explorer_finds_more_than_random_search(space, name):
    settings = {
        "regularized_evolution": {"population": 10, "sample": 4},
        "evolution": {"population": 10, "top": 4, "mutants": 4, "children": 4},
        "local_search": {},
    }

    def best(explorer: str, seed: int) -> float:
        made = explorers[explorer](space, seed, **settings.get(explorer, {}))
        return max(score for _, score in run(made, smooth, 50))

    found = {each: statistics.mean(best(each, seed) for seed in range(8)) for each in (name, "random_search")}
    assert found[name] > found["random_search"]


def test_an_explorer_takes_nested_and_multiple_choices_alike():
    space = testing.example_space()
    for name in explorers.names():
        told = run(explorers[name](space, 0), lambda genotype: float(len(genotype.choices)), 30)
        assert len({genotype for genotype, _ in told}) > 5
