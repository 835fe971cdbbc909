"""Objectives: a loss and its metrics."""

from abc import ABC, abstractmethod
from typing import Any

import torch

from nasframe.registry import Registry
from nasframe.types import Metrics


class Objective(ABC):
    """What is minimized, and what is reported; the same in search, validation and retraining."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        """The mean over the batch, a scalar, of whatever the model returned (auxiliary outputs too).

        It must be a mean, so that chunks of a batch can be put together by their sizes.
        """

    @abstractmethod
    def metrics(self, outputs: Any, targets: Any) -> Metrics:
        """Means over the batch by name, such as ``accuracy``; never the loss itself."""


objectives: Registry[Objective] = Registry("objectives", Objective)
