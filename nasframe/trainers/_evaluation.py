"""Figures of a model, over all examples of a split."""

from collections.abc import Callable, Iterable

from nasframe.core import Batch, Model, Objective
from nasframe.core.ranks import gathered
from nasframe.types import Metrics


def means(
    model: Model, objective: Objective, batches: Iterable[Batch], laid_out: Callable[[Batch], Batch]
) -> Metrics:
    """Loss and metrics, over all examples of all ranks that can be read.

    Args:
        model: In evaluation mode.
        objective: Loss and metrics.
        batches: This rank's share.
        laid_out: Gives a batch the memory format that the network wants.
    """
    totals: dict[str, float] = {}
    count = 0
    for batch in batches:
        outputs = model(laid_out(batch).inputs)
        values = {"loss": objective.loss(outputs, batch.targets)}
        values.update(objective.metrics(outputs, batch.targets))  # type: ignore[arg-type]
        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(batch)
        count += len(batch)
    parts = gathered((totals, count))
    num_examples = sum(count for _, count in parts)
    names = dict.fromkeys(name for totals, _ in parts for name in totals)
    return {name: sum(each.get(name, 0.0) for each, _ in parts) / num_examples for name in names}
