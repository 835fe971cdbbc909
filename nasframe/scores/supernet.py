"""What a path of the trained supernet reaches."""

from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import ClassVar, final

from torch.nn.modules.batchnorm import _BatchNorm

from nasframe.core import (
    Genotype,
    Model,
    Score,
    Testbed,
    calibrated,
    figure_of,
    inherit,
    normalized_by_batch,
    scores,
)
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
        calibration_batches: Training batches that the statistics are of; 0 leaves those of the supernet, and
            where some of its batch norms have none, all normalize by the batch.
        batch_size: Examples of one of these.
    """

    trains_supernet: ClassVar[bool] = True
    inherits: ClassVar[bool] = True
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
        norms = (each for each in testbed.supernet.modules() if isinstance(each, _BatchNorm))
        self._has_statistics = all(norm.running_mean is not None for norm in norms)

    @property
    def figure(self) -> str:
        return self._metric

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        model = inherit(self._testbed.network(genotype), self._supernet, genotype).eval()
        with self._normalized(model):
            return figure_of(self._testbed.evaluate(model), self._metric, "supernet")

    def _normalized(self, model: Model) -> AbstractContextManager[None]:
        """Statistics that are the path's own, or those that the supernet keeps, or of the batch itself."""
        if self._num_batches:
            batches = self._testbed.batches(self._batch_size).forever()
            return calibrated(model, islice(batches, self._num_batches))
        return nullcontext() if self._has_statistics else normalized_by_batch(model)
