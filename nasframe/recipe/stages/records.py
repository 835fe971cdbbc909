"""What the records of a search say besides the figures of its training."""

import math
from collections.abc import Mapping
from dataclasses import replace

from nasframe.core import Genotype, Graph, Model, Record, Space, Standing


def with_alphas(record: Record, model: Model, graphs: Mapping[str, Graph]) -> Record:
    """Add the weights of the candidates, their entropy, and the architecture that they prefer."""
    scalars, histograms, entropies = dict(record.scalars), {}, []
    for choice_id, weights in model.choice_weights().items():
        values = weights.cpu()
        histograms[f"alphas/{choice_id}"] = values
        shares = (values / values.sum()).tolist()  # of weights that need not add up to 1
        entropies.append(-sum(p * math.log(p) for p in shares if p > 0))
        for candidate, value in zip(model.choices[choice_id].candidates, values.tolist(), strict=True):
            scalars[f"alphas/{choice_id}/{candidate}"] = value
    if entropies:
        scalars["alphas/entropy"] = sum(entropies) / len(entropies)
    return replace(record, scalars=scalars, histograms=histograms, graphs=graphs)


def with_figures(record: Record, figures: Mapping[str, float]) -> Record:
    """Add figures of the search."""
    scalars = {f"search/{name}": value for name, value in figures.items()}
    return replace(record, scalars={**record.scalars, **scalars})


def graphs_of(space: Space, genotype: Genotype) -> dict[str, Graph]:
    """An architecture as the space draws it, by tag."""
    return {f"genotype/{cell}": graph for cell, graph in space.graphs(genotype).items()}


def truth(standing: Standing | None) -> dict[str, float]:
    """Where an architecture truly stands, as figures; none without a table."""
    if standing is None:
        return {}
    return {
        "true_accuracy": standing.accuracy,
        "true_rank": float(standing.rank),
        "true_percentile": standing.percentile,
    }
