"""The rule by which P-DARTS restricts skip connections."""

import math
import re
from collections.abc import Mapping
from typing import Final, final

from nasframe.core import Choice, Deriver, Genotype, Model, OpName, derivers, finite_weights, strengths_of
from nasframe.types import NonNegativeInt

_SKIPS: Final = {"skip_connect": 2}


@derivers.register("limited")
@final
class Limited(Deriver):
    """Keeps the strongest candidates, but of some no more in a cell than they may be (Chen et al. 2019).

    The rule of DARTS is applied; where a cell has more of a candidate than its limit, the one of the
    smallest weight is taken out of its edge and the cell is derived again, perhaps with other inputs, until
    none is over its limit (P-DARTS, arXiv 1904.12760, section 3.3). An edge that has no other candidate
    keeps it. A cell is made of the choices whose ids differ in their numbers alone. Weights that are not
    finite are a TrainingError.

    Departure: the authors' code restricts the normal cell alone; here each cell is, as in the paper.

    Args:
        limits: How many times a cell may have a candidate, by its name.
    """

    def __init__(self, *, limits: dict[OpName, NonNegativeInt] = _SKIPS) -> None:
        self._limits = limits

    def derive(self, model: Model) -> Genotype:
        weights = finite_weights(model, "limited")
        while True:
            kept = {
                choice.id: _strongest(choice, model.choices, weights) for choice in model.choices.values()
            }
            genotype = model.genotype(kept)
            surplus = self._surplus(genotype, model.choices, weights)
            if surplus is None:
                return genotype
            choice_id, name = surplus
            weights[choice_id][model.choices[choice_id].candidates.index(name)] = -math.inf

    def _surplus(
        self, genotype: Genotype, choices: Mapping[str, Choice], weights: Mapping[str, list[float]]
    ) -> tuple[str, str] | None:
        """The weakest candidate that some cell has too many of, and its choice."""
        found: dict[tuple[str, str], list[tuple[float, str]]] = {}
        for choice_id, names in genotype.choices.items():
            for name in self._limits.keys() & set(names) if choice_id in weights else ():
                weight = weights[choice_id][choices[choice_id].candidates.index(name)]
                found.setdefault((_cell_of(choice_id), name), []).append((weight, choice_id))
        over = [
            (*each, name)
            for (_, name), sites in found.items()
            if len(sites) > self._limits[name]
            for each in sites
            if each[0] > -math.inf
        ]
        return None if not over else min(over)[1:]


def _strongest(
    choice: Choice, choices: Mapping[str, Choice], weights: Mapping[str, list[float]]
) -> tuple[str, ...]:
    strength = strengths_of(choice, choices, weights)
    return tuple(sorted(strength, key=lambda name: -strength[name])[: choice.num_chosen])


def _cell_of(choice_id: str) -> str:
    """``normal`` of ``normal_3_0``."""
    return re.sub(r"(_\d+)+$", "", choice_id)
