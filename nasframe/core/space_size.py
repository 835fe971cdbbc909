"""How many architectures a space has, counted exactly."""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, final

from nasframe.core.choice import Choice
from nasframe.core.space import Space, nesting_of

_Pair: TypeAlias = tuple[str, str]
_Sites: TypeAlias = frozenset[frozenset[_Pair]]
"""Where a choice is asked for: at each site the (choice, candidate) pairs around it."""


def num_architectures(space: Space) -> int:
    """The number of genotypes that a space lets a search keep.

    A choice that keeps k of n candidates counts C(n, k), what is only in the search (``none``) left out.
    A choice counts where one of its sites is in effect: the edge of an input that is kept, a block that
    the depth reaches. Genotypes are counted and not functions, so that two of them may compute the
    same. A deriver may reach fewer.

    DARTS with its two cells: (∏ C(n, 2) · 7² over n = 2 … 5 states)² = 1,037,664,180² (Liu et al. 2019).
    """
    nesting = nesting_of(space)
    sites = {name: frozenset(around) for name, around in nesting.conditions.items() if around}
    return _Counter(nesting.choices).count(_simplified(sites, nesting.choices))


@final
@dataclass(frozen=True)
class _Counter:
    """Counts by cases of the choices that others stand in; independent choices are multiplied."""

    choices: Mapping[str, Choice]
    _known: dict[frozenset[tuple[str, _Sites]], int] = field(default_factory=dict)

    def count(self, sites: Mapping[str, _Sites]) -> int:
        """The number of outcomes of choices that are still open."""
        return math.prod(self._coupled(group) for group in _groups(sites))

    def _coupled(self, sites: Mapping[str, _Sites]) -> int:
        key = frozenset(sites.items())
        if key not in self._known:
            self._known[key] = self._by_cases(sites)
        return self._known[key]

    def _by_cases(self, sites: Mapping[str, _Sites]) -> int:
        """Decide a choice that is in effect for certain: the one that most others stand in."""
        pairs = [pair for around in sites.values() for site in around for pair in site]
        certain = [name for name, around in sites.items() if frozenset() in around]
        root = max(certain, key=lambda name: sum(choice == name for choice, _ in pairs))
        choice, others = self.choices[root], {name: sites[name] for name in sites if name != root}
        matters = [name for name in choice.derivable if (root, name) in pairs]
        num_alike = len(choice.derivable) - len(matters)
        total = 0
        for count in range(min(len(matters), choice.num_chosen) + 1):
            ways = math.comb(num_alike, choice.num_chosen - count)
            if ways:
                for kept in itertools.combinations(matters, count):
                    total += ways * self.count(_decided(others, root, kept))
        return total


def _decided(sites: Mapping[str, _Sites], choice: str, kept: Iterable[str]) -> dict[str, _Sites]:
    """The choices that may still be in effect once one keeps `kept`."""
    met = {(choice, name) for name in kept}
    left = {
        name: frozenset(
            site - met for site in around if all(pair in met for pair in site if pair[0] == choice)
        )
        for name, around in sites.items()
    }
    return {name: _without_special_cases(around) for name, around in left.items() if around}


def _groups(sites: Mapping[str, _Sites]) -> list[dict[str, _Sites]]:
    """Choices that stand in each other, apart from those that do not."""
    groups = {name: [name] for name in sites}
    for name, around in sites.items():
        for outer in {choice for site in around for choice, _ in site}:
            one, other = groups[name], groups[outer]
            if one is not other:
                one.extend(other)
                groups.update(dict.fromkeys(other, one))
    unique = {id(group): group for group in groups.values()}
    return [{name: sites[name] for name in group} for group in unique.values()]


def _simplified(sites: Mapping[str, _Sites], choices: Mapping[str, Choice]) -> dict[str, _Sites]:
    """Say "in effect whatever A keeps" where a choice stands in each candidate of A.

    It does not change what is counted, but leaves few choices coupled where widths nest in widths.
    """
    simple = dict(sites)
    for name, around in simple.items():
        simple[name] = _without_special_cases(around)
        while (shorter := _merged(simple[name], simple, choices)) is not None:
            simple[name] = shorter
    return simple


def _merged(around: _Sites, sites: Mapping[str, _Sites], choices: Mapping[str, Choice]) -> _Sites | None:
    """Sites with one condition less; None where there is none to leave out."""
    for site in around:
        for outer, candidate in site:
            rest = site - {(outer, candidate)}
            covered = all(rest | {(outer, name)} in around for name in choices[outer].derivable)
            if covered and any(condition <= rest for condition in sites[outer]):
                return _without_special_cases(around | {rest})
    return None


def _without_special_cases(around: _Sites) -> _Sites:
    """Without sites that are in effect only where another one is."""
    return frozenset(site for site in around if not any(other < site for other in around))
