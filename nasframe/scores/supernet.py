"""What a path of the trained supernet reaches."""

from contextlib import nullcontext
from itertools import islice
from typing import ClassVar, final

from nasframe.core import Genotype, Score, Testbed, calibrated, figure_of, inherit, scores
from nasframe.errors import UnsupportedError
from nasframe.types import NonNegativeInt, PositiveInt


@scores.register("supernet")
@final
class Supernet(Score):
    """Measures a path of the trained supernet on held-out examples (SPOS, Guo et al. 2020, arXiv 1904.00420).

    The path is a network of its own that has the weights of the supernet. Its batch norms get the mean
    statistics of some training batches first (section 3.4 there), because those of the supernet are of many
    paths.

    Args:
        metric: What is measured: a metric of the objective, or `loss` for its negative.
        calibration_batches: Training batches that the statistics are of; 0 leaves those of the supernet.
        batch_size: Examples of one of these.
    """

    trains_supernet: ClassVar[bool] = True
    uses_valid: ClassVar[bool] = True

    def __init__(
        self,
        testbed: Testbed,
        *,
        metric: str = "accuracy",
        calibration_batches: NonNegativeInt = 20,
        batch_size: PositiveInt = 64,
    ) -> None:
        if testbed.supernet is None:
            raise UnsupportedError(
                "score supernet: testbed must have a trained supernet, but has none; train one first"
            )
        self._testbed, self._supernet, self._metric = testbed, testbed.supernet, metric
        self._num_batches, self._batch_size = calibration_batches, batch_size

    @property
    def figure(self) -> str:
        return self._metric

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        model = inherit(self._testbed.network(genotype), self._supernet, genotype).eval()
        batches = islice(self._testbed.batches(self._batch_size).forever(), self._num_batches)
        with calibrated(model, batches) if self._num_batches else nullcontext():
            return figure_of(self._testbed.evaluate(model), self._metric, "supernet")
