"""The rule by which FairDARTS reads an architecture off the gates."""

from typing import final

from nasframe.core import Deriver, Genotype, InputChoice, Model, derivers, finite_weights, strengths_of
from nasframe.types import Probability


@derivers.register("threshold")
@final
class Threshold(Deriver):
    """Keeps the strongest candidates as far as their weights reach a threshold (Chu et al. 2020).

    A choice keeps its `num_chosen` strongest candidates, as by the rule of DARTS, but those below the
    threshold only where nothing else would be left. An input of a node is as strong as the largest weight
    of its edge among candidates that may be kept; a kept edge keeps its strongest one. Of equal ones the
    first wins. (FairDARTS, arXiv 1911.12126, in its authors' code ``threshold_sparse``.) Weights that
    are not finite are a TrainingError.

    Departure: there a node may lose all of its inputs; here it keeps the strongest, for a genotype
    decides each choice that its network asks for.

    Args:
        threshold: The least weight that is kept; with weights that share 1, such as those of a softmax,
            much less than the default.
    """

    def __init__(self, *, threshold: Probability = 0.85) -> None:
        self._threshold = threshold

    def derive(self, model: Model) -> Genotype:
        weights = finite_weights(model, "threshold")
        kept: dict[str, tuple[str, ...]] = {}
        for choice in model.choices.values():
            strengths = strengths_of(choice, model.choices, weights)
            names = sorted(strengths, key=lambda name: -strengths[name])[: choice.num_chosen]
            if choice.id in weights or (isinstance(choice, InputChoice) and choice.edges):
                names = [name for name in names if strengths[name] >= self._threshold] or names[:1]
            kept[choice.id] = tuple(names)
        return model.genotype(kept)
