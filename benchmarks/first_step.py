"""A plugin that says when a run takes its first step, and ends it there (``--plugin``)."""

from nasframe.core import Algorithm, Batch, Model, Objective, WeightUpdate, algorithms
from nasframe.types import Metrics

MARK = "first step"


@algorithms.register("first_step")
class FirstStep(Algorithm):
    """Prints a line, then interrupts the run as Ctrl-C would."""

    def __init__(self, model: Model, objective: Objective) -> None:
        pass

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        print(MARK, flush=True)
        raise KeyboardInterrupt
