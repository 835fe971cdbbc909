"""Jacobian covariance: how differently a network treats different inputs."""

from typing import Final, final

import torch

from nasframe.core import Genotype, Score, Testbed, scores, tensors_of
from nasframe.errors import UnsupportedError
from nasframe.types import PositiveInt

_K: Final = 1e-5


@scores.register("jacob_cov")
@final
class JacobCov(Score):
    """−Σ (log(v + k) + 1 / (v + k)) at initialization (Mellor et al. 2020, arXiv 2006.04647v1).

    v are the eigenvalues of the correlations between the gradients of the summed outputs in each input of one
    batch, k = 1e-5. The less the gradients resemble each other, the nearer all v are to 1, where the score
    is largest.

    Args:
        batch_size: Training examples of the batch.
    """

    def __init__(self, testbed: Testbed, *, batch_size: PositiveInt = 64) -> None:
        self._testbed, self._batch_size = testbed, batch_size

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        model = self._testbed.network(genotype).train()
        inputs = next(self._testbed.batches(self._batch_size).epoch(0)).inputs
        if not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point():
            raise UnsupportedError(
                "jacob_cov: inputs must be one tensor of floating-point numbers, to be differentiated in; "
                "choose another search.score"
            )
        inputs = inputs.requires_grad_()
        (jacobian,) = torch.autograd.grad(tensors_of(model(inputs))[0].sum(), inputs)
        correlations_BB = torch.corrcoef(jacobian.flatten(1).double())
        if not correlations_BB.isfinite().all():
            return -torch.inf  # some input does not reach the output
        v_B = torch.linalg.eigvalsh(correlations_BB.cpu()) + _K
        return -float((v_B.log() + 1 / v_B).sum())
