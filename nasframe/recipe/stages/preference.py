"""Which architecture a search prefers, for people."""

from collections.abc import Callable
from typing import TypeAlias, final

from nasframe.core import Genotype

Prefer: TypeAlias = Callable[[str], None]
"""Hears which architecture a search prefers, in one line, when that changes."""


@final
class Preference:
    """Tells of an architecture, unless it is that of before.

    Args:
        prefer: Is told, if anyone.
    """

    def __init__(self, prefer: Prefer | None) -> None:
        self._prefer = prefer
        self._told: Genotype | None = None

    def hear(self, genotype: Genotype) -> None:
        """Take what the search prefers now."""
        if self._prefer is not None and genotype != self._told:
            self._told = genotype
            self._prefer(genotype.summary)
