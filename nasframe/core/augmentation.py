"""Augmentations: random changes of training batches, on the device."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from nasframe.core.batch import Batch
from nasframe.registry import Registry


class Augmentation(ABC):
    """A random change of a training batch; validation and test never see it.

    Attributes:
        after_normalization: Whether it works on normalized inputs (then 0 is the mean color).
        mixes_targets: Whether it may mix the targets of examples. Class labels then come as shares of the
            classes, of shape B K; nobody else in the batch's way minds these.
    """

    after_normalization: ClassVar[bool] = False
    mixes_targets: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A changed batch of the same size; all randomness comes from `generator`, on its device."""


augmentations: Registry[Augmentation] = Registry("augmentations", Augmentation)
