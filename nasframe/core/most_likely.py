"""The most likely architecture that costs no more than it may, found exactly."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from nasframe.core.choice import Choice, InputChoice
from nasframe.core.genotype import Genotype
from nasframe.core.prices import Prices
from nasframe.errors import UnsupportedError

_Kept: TypeAlias = Mapping[str, tuple[str, ...]]
_Term: TypeAlias = tuple[frozenset[tuple[str, str]], float]

_SMALLEST: Final = math.ulp(0.0)  # stands for a weight of 0, so that it has a logarithm
_ROUNDING: Final = 1e-9  # relative; sums of costs in another order may differ by less


def most_likely(
    choices: Mapping[str, Choice],
    weights: Mapping[str, Sequence[float]],
    prices: Prices,
    max_cost: float,
) -> Genotype:
    """The genotype with the largest product of the weights of what it keeps, among those it may be.

    Each choice keeps as many candidates as it says, none that is `search_only`; an input choice with
    edges keeps inputs, and each edge of these one candidate, so that without a limit this is the rule
    of DARTS. Choices inside a candidate count whether or not it is kept: where it is not, they
    keep their strongest. A weight of 0 counts as the smallest positive number.

    Exact, by dynamic programming over sets of outcomes that nothing dominates (as cheap and as likely):
    choices that no price couples are solved apart, coupled ones by cases of one of them. Of
    equally likely ones the cheapest wins, then the first.

    Args:
        choices: Those of the space, by id.
        weights: Of each candidate, by choice id; choices without them take all candidates for equal.
        prices: Those of the space.
        max_cost: What `prices` may say of the genotype.

    Raises:
        UnsupportedError: Even the cheapest architecture costs more, or `prices` are of other choices.
    """
    _check_priced(prices, choices)
    logs = {
        name: dict(zip(choices[name].candidates, map(_log, values), strict=True))
        for name, values in weights.items()
    }
    cases = _Cases(choices, logs)
    fronts = cases.fronts(tuple(choices), list(_terms(prices)))
    front = _cheap_enough(fronts, max_cost)
    for index in reversed(range(len(front.costs))):  # the most likely is the dearest of a front
        genotype = cases.genotype(front.kept(index))
        if prices.of(genotype) <= max_cost:
            return genotype
    cost = prices.of(cheapest(choices, prices))
    raise UnsupportedError(
        f"budget: an architecture must cost at most {max_cost:g}, but the cheapest costs {cost:g}; "
        "allow more, or give the space cheaper candidates"
    )


def cheapest(choices: Mapping[str, Choice], prices: Prices) -> Genotype:
    """The architecture that costs least; the first of several."""
    return most_likely(choices, {}, prices, math.inf)


def dearest(choices: Mapping[str, Choice], prices: Prices) -> Genotype:
    """The architecture that costs most; the first of several."""
    return cheapest(choices, _negated(prices))


def _negated(prices: Prices) -> Prices:
    choices = {
        choice: {name: _negated(inner) for name, inner in candidates.items()}
        for choice, candidates in prices.choices.items()
    }
    return Prices(-prices.fixed, choices, prices.prunable)


def _check_priced(prices: Prices, choices: Mapping[str, Choice]) -> None:
    for name, candidates in prices.choices.items():
        own = choices[name].candidates if name in choices else ()
        if tuple(candidates) != own:
            raise UnsupportedError(
                f"prices: choice `{name}` must have the candidates {list(own)} of the search space, got "
                f"{list(candidates)}; let `retrain.space` have the choices of `space`"
            )
        for inner in candidates.values():
            _check_priced(inner, choices)


def _log(weight: float) -> float:
    return math.log(max(weight, _SMALLEST))


def _terms(prices: Prices, kept: frozenset[tuple[str, str]] = frozenset()) -> Iterator[_Term]:
    """The cost as a sum: each part with the (choice, candidate) pairs that must be kept for it to count."""
    yield kept, prices.fixed
    for choice, candidates in prices.choices.items():
        for name, inner in candidates.items():
            yield from _terms(inner, kept | {(choice, name)})


@final
@dataclass(frozen=True)
class _Front:
    """Outcomes of which none is dominated, by rising cost and so by rising log-likelihood.

    Attributes:
        costs: Of shape F.
        scores: Log-likelihoods, of shape F.
        kept: What each choice keeps in the outcome of an index.
    """

    costs: NDArray[np.float64]
    scores: NDArray[np.float64]
    kept: Callable[[int], _Kept]

    def plus(self, other: "_Front", max_cost: float = math.inf) -> "_Front":
        """Each outcome of one with each of the other, as far as they cost at most `max_cost`."""
        costs = np.add.outer(self.costs, other.costs).ravel()
        scores = np.add.outer(self.scores, other.scores).ravel()
        size = len(other.costs)
        return _undominated(
            costs,
            scores,
            lambda index: {**self.kept(index // size), **other.kept(index % size)},
            max_cost,
        )


def _undominated(
    costs: NDArray[np.float64],
    scores: NDArray[np.float64],
    kept: Callable[[int], _Kept],
    max_cost: float = math.inf,
) -> _Front:
    affordable = np.flatnonzero(costs <= max_cost)
    order = affordable[np.lexsort((-scores[affordable], costs[affordable]))]
    best = np.maximum.accumulate(scores[order])
    better = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
    chosen = order[better]
    return _Front(costs[chosen], scores[chosen], lambda index: kept(int(chosen[index])))


def _one(cost: float, score: float, kept: _Kept) -> _Front:
    return _Front(np.array([cost]), np.array([score]), lambda index: kept)


def _cheap_enough(fronts: Sequence[_Front], max_cost: float) -> _Front:
    """All fronts together, as far as they can still cost at most `max_cost`."""
    rest = sum(float(front.costs[0]) for front in fronts)
    total = _one(0.0, 0.0, {})
    for front in fronts:
        rest -= float(front.costs[0])
        total = total.plus(front, max_cost - rest + _ROUNDING * abs(max_cost))
    return total


@final
@dataclass(frozen=True)
class _Cases:
    """The outcomes of choices, by cases.

    Attributes:
        choices: All choices by id.
        logs: Log-weights by choice and candidate.
    """

    choices: Mapping[str, Choice]
    logs: Mapping[str, Mapping[str, float]]

    def fronts(self, open_ids: Sequence[str], terms: Sequence[_Term]) -> list[_Front]:
        """A front for each group of coupled choices among those still open, and what is certain."""
        certain = math.fsum(cost for conditions, cost in terms if not conditions)
        found = [_one(certain, 0.0, {})]
        for group in self._groups(open_ids, terms):
            members = set(group)
            own = [term for term in terms if any(choice in members for choice, _ in term[0])]
            found.append(self._front(group, own))
        return found

    def _front(self, group: Sequence[str], terms: Sequence[_Term]) -> _Front:
        """The front of coupled choices, by cases of the one that is coupled with most others."""
        root = max(self._roots(group), key=lambda name: len(self._coupled(name, terms)))
        parts = []
        for score, decided in self._outcomes(root):
            left = [name for name in group if name not in decided]
            given = self.fronts(left, list(_given(terms, decided)))
            parts.append(reduce(_Front.plus, given, _one(0.0, score, decided)))
        return _union(parts)

    def _roots(self, group: Sequence[str]) -> Iterable[str]:
        """The choices of a group that can be decided next: edges only after their input choice."""
        waiting = {edge for name in group for edge in self._edges(name)}
        return [name for name in group if name not in waiting]

    def _coupled(self, name: str, terms: Sequence[_Term]) -> set[str]:
        priced = (conditions for conditions, _ in terms if any(choice == name for choice, _ in conditions))
        return {choice for conditions in priced for choice, _ in conditions} | set(self._edges(name))

    def _edges(self, name: str) -> tuple[str, ...]:
        choice = self.choices[name]
        return choice.edges if isinstance(choice, InputChoice) else ()

    def _outcomes(self, name: str) -> Iterator[tuple[float, _Kept]]:
        """What a choice can keep, each with its log-likelihood, and the edges that it then drops."""
        choice, logs = self.choices[name], self.logs.get(name, {})
        edges = dict(zip(choice.candidates, self._edges(name), strict=False))
        for kept in itertools.combinations(choice.derivable, choice.num_chosen):
            dropped = {edge: () for candidate, edge in edges.items() if candidate not in kept}
            yield sum(logs.get(candidate, 0.0) for candidate in kept), {**dropped, name: kept}

    def _groups(self, open_ids: Sequence[str], terms: Sequence[_Term]) -> list[list[str]]:
        """Open choices that a price, or an input choice and its edges, couple with each other."""
        groups = {name: [name] for name in open_ids}
        together = [[choice for choice, _ in conditions] for conditions, _ in terms]
        together += [[name, *self._edges(name)] for name in open_ids]
        for names in together:
            for name in names[1:]:
                one, other = groups[names[0]], groups[name]
                if one is not other:
                    one.extend(other)
                    groups.update(dict.fromkeys(other, one))
        return list({id(group): group for group in groups.values()}.values())

    def genotype(self, kept: _Kept) -> Genotype:
        """The genotype of a complete outcome; what a choice keeps comes strongest first."""
        strength = {name: dict(logs) for name, logs in self.logs.items()}
        for name in self.choices:
            for candidate, edge in zip(self.choices[name].candidates, self._edges(name), strict=False):
                own = self.logs.get(edge, {})
                strength.setdefault(name, {})[candidate] = max(
                    (own.get(each, 0.0) for each in kept[edge]), default=0.0
                )
        return Genotype(
            {
                name: tuple(sorted(names, key=lambda each: -strength.get(name, {}).get(each, 0.0)))
                for name, names in kept.items()
                if names
            }
        )


def _given(terms: Iterable[_Term], decided: _Kept) -> Iterator[_Term]:
    """The terms that may still count, without the conditions that are met."""
    for conditions, cost in terms:
        if all(name in decided.get(choice, (name,)) for choice, name in conditions):
            yield frozenset(pair for pair in conditions if pair[0] not in decided), cost


def _union(fronts: Sequence[_Front]) -> _Front:
    sizes = [len(front.costs) for front in fronts]
    owners = np.repeat(np.arange(len(fronts)), sizes)
    within = np.concatenate([np.arange(size) for size in sizes])
    return _undominated(
        np.concatenate([front.costs for front in fronts]),
        np.concatenate([front.scores for front in fronts]),
        lambda index: fronts[owners[index]].kept(int(within[index])),
    )
