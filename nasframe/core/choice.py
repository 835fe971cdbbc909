"""What a search decides: choices, each with named candidates."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from nasframe.errors import ComponentError

_LEGAL_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED_IDS = frozenset({"entropy"})


@dataclass(frozen=True)
class Choice:
    """A decision of the search space; sites with one id share its alpha and its outcome.

    Attributes:
        id: Letters, digits and underscores; not ``entropy`` (a TensorBoard tag).
        candidates: Names of the candidates, in the order of the alpha.
        num_chosen: How many candidates a genotype keeps.
        search_only: Candidates that stand in the supernet but are never kept (DARTS's ``none``).
    """

    id: str
    candidates: tuple[str, ...]
    num_chosen: int = 1
    search_only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _LEGAL_ID.fullmatch(self.id) or self.id in _RESERVED_IDS:
            raise ComponentError(
                f"choice id must be letters, digits and underscores, start with a letter and not be one of "
                f"{sorted(_RESERVED_IDS)}, but is `{self.id}`"
            )
        if len(set(self.candidates)) != len(self.candidates) or not self.candidates:
            raise ComponentError(
                f"choice `{self.id}` must have distinct candidates, but has {self.candidates}"
            )
        if unknown := set(self.search_only) - set(self.candidates):
            raise ComponentError(f"choice `{self.id}`: search-only {sorted(unknown)} must be candidates")
        if not 1 <= self.num_chosen <= len(self.derivable):
            raise ComponentError(
                f"choice `{self.id}` must keep between 1 and {len(self.derivable)} candidates, "
                f"but keeps {self.num_chosen}"
            )

    @property
    def derivable(self) -> tuple[str, ...]:
        """The candidates that a genotype may keep."""
        return tuple(name for name in self.candidates if name not in self.search_only)


@dataclass(frozen=True)
class LayerChoice(Choice):
    """Which layer stands at a site."""


@dataclass(frozen=True)
class InputChoice(Choice):
    """Which of several inputs reach a node; the kept ones are added up.

    Attributes:
        edges: Where each input passes through a layer choice of its own, the ids of these, in the
            order of the candidates. The supernet then adds all inputs up, without an alpha for the
            inputs, and an input is as strong as the strongest candidate of its edge (DARTS).
        weighed: Whether the supernet weighs the inputs by a mixed op of this choice also where they
            have `edges`, are all kept or are only added up (the edge normalization of PC-DARTS, Xu et al.
            2020).
    """

    edges: tuple[str, ...] = ()
    weighed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.edges and len(self.edges) != len(self.candidates):
            raise ComponentError(f"choice `{self.id}` must name one edge for each candidate")


@dataclass(frozen=True)
class ValueChoice(Choice):
    """Which number (channels, kernel size, expansion, depth) a layer is built with; one is kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(re.fullmatch(r"0|-?[1-9]\d*", name) for name in self.candidates):
            raise ComponentError(
                f"value choice `{self.id}` must have whole numbers, but has {self.candidates}"
            )
        if self.num_chosen != 1:
            raise ComponentError(f"value choice `{self.id}` must keep one value, but keeps {self.num_chosen}")

    @classmethod
    def of(cls, id: str, values: Iterable[int]) -> "ValueChoice":
        """The choice among some numbers."""
        return cls(id, tuple(map(str, values)))

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(int(name) for name in self.candidates)
