"""What a path of the trained supernet reaches."""

from contextlib import nullcontext
from itertools import islice
from typing import ClassVar, final

import torch
from torch import nn

from nasframe.core import Genotype, Model, Score, Testbed, figure_of, inherit, normalized_by_batch, scores
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
        self._has_statistics = all(norm.running_mean is not None for norm in _norms(testbed.supernet))

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        model = inherit(self._testbed.network(genotype), self._supernet, genotype).eval()
        if self._num_batches:
            self._calibrate(model)
        with nullcontext() if self._num_batches or self._has_statistics else normalized_by_batch(model):
            return figure_of(self._testbed.evaluate(model), self._metric, "supernet")

    @torch.no_grad()
    def _calibrate(self, model: Model) -> None:
        """Give batch norms the mean statistics of some batches; nothing else is in training mode."""
        norms = _norms(model)
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # PyTorch's word for the mean of all batches
            norm.train()
        for batch in islice(self._testbed.batches(self._batch_size).forever(), self._num_batches):
            model(batch.inputs)
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.eval()


def _norms(model: Model) -> list[nn.modules.batchnorm._BatchNorm]:
    return [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
