"""One of several augmentations."""

from typing import ClassVar, final

import torch

from nasframe.core import Augmentation, Batch, augmentations
from nasframe.errors import UnsupportedError
from nasframe.registry import Component

_MIXES = (augmentations.component("mixup"), augmentations.component("cutmix"))


@augmentations.register("one_of")
@final
class OneOf(Augmentation):
    """Sends each batch through one of some augmentations, each as likely, such as mixup and cutmix.

    Args:
        of: The augmentations; each must work on images before normalization.
    """

    mixes_targets: ClassVar[bool] = True  # perhaps; the others take what may be mixed as well

    def __init__(self, *, of: tuple[Component[Augmentation], ...] = _MIXES) -> None:
        self._of = [component() for component in of]
        if not self._of:
            raise UnsupportedError("augmentation `one_of`: must have some to choose from, got none; add some")
        for component, made in zip(of, self._of, strict=True):
            if made.after_normalization:
                raise UnsupportedError(
                    f"augmentation `one_of`: each must work before normalization, but `{component.name}` "
                    "works after it; name it in `augment` itself"
                )

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        return self._of[_index(len(self._of), generator)](batch, generator)


def _index(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator, device=generator.device))
