"""Contenders of the DARTS experiments: nasframe and its peers, from the same weights on the same batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

import nasframe
from nasframe.core import Batch, Model, Task
from peers import darts

CELLS = ("normal", "reduce")
_PARTS = nasframe.registries


@dataclass(frozen=True)
class Setting:
    """A DARTS supernet and its batches.

    Attributes:
        channels: Of the first cell.
        cells: Number of cells.
        batch: Images of each of the two batches, of 32x32 pixels.
        operations: Candidates of each edge.
        dtype: Of weights, alphas and images.
        clip: Norm that the weights' gradient is clipped to.
    """

    channels: int = 16
    cells: int = 8
    batch: int = 16
    operations: tuple[str, ...] = darts.ALL_OPERATIONS
    dtype: torch.dtype = torch.float32
    clip: float | None = 5.0

    def check(self) -> "Setting":
        """A small one in float64 without clipping, which the authors' virtual step leaves out."""
        return replace(self, channels=4, cells=5, batch=4, dtype=torch.float64, clip=None)


class Contender(Protocol):
    """One implementation of a search, ready to step."""

    def step(self) -> object:
        """One step of alphas and one of weights."""

    def gradients(self) -> list[torch.Tensor]:
        """The gradient of the alphas of normal and of reduction cells, E K each; changes no weight."""


def supernet(setting: Setting, *, fused: bool = True, recomputed: bool = False) -> Model:
    """The supernet that nasframe builds, the same for equal settings; everyone starts from its weights."""
    torch.manual_seed(0)
    space = _PARTS["spaces"]["darts"](
        Task(), channels=setting.channels, cells=setting.cells, operations=setting.operations
    )
    return nasframe.supernet(space, "softmax", fused=fused, recomputed=recomputed).to(setting.dtype)


def batches(setting: Setting) -> tuple[Batch, Batch]:
    """A training and a held-out batch of noise."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, setting.batch, 3, 32, 32, generator=generator).to(setting.dtype)
    classes = torch.randint(10, (2, setting.batch), generator=generator)
    return Batch(images[0], classes[0]), Batch(images[1], classes[1])


def stacked(model: Model, of_alphas: Sequence[torch.Tensor | None]) -> list[torch.Tensor]:
    """What belongs to the alphas, in the model's order, as one tensor E K for each sort of cell."""
    names = [name for name, _ in model.named_parameters_of("alpha")]
    by_name = dict(zip(names, of_alphas, strict=True))
    rows: dict[str, list[torch.Tensor]] = {cell: [] for cell in CELLS}
    for choice_id, mixed_op in model.mixed_ops.items():
        for name, alpha in mixed_op.named_parameters():
            value = by_name[f"mixed_ops.{choice_id}.{name}"]
            rows[choice_id.split("_")[0]].append(torch.zeros_like(alpha) if value is None else value.detach())
    return [torch.stack(rows[cell]) for cell in CELLS]


class Nasframe:
    """nasframe's own algorithm, with the settings that a recipe would give it.

    Args:
        setting: Supernet and batches.
        fused: The search's setting of this name.
        recomputed: The search's setting of this name.
        channels_last: The trainer's setting of this name.
        settings: Of `darts_bilevel`.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        fused: bool = True,
        recomputed: bool = False,
        channels_last: bool = True,
        **settings: Any,
    ) -> None:
        objective = _PARTS["objectives"]["cross_entropy"]()
        self.model = supernet(setting, fused=fused, recomputed=recomputed)
        self.train, self.valid = batches(setting)
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
            self.train, self.valid = map(_channels_last, (self.train, self.valid))
        optimizer = _PARTS["optimizers"]["sgd"](list(self.model.parameters_of("weight")))
        self.update = nasframe.WeightUpdate(self.model, objective, optimizer, max_grad_norm=setting.clip)
        self.algorithm = _PARTS["algorithms"]["darts_bilevel"](self.model, objective, **settings)

    def step(self) -> object:
        return self.algorithm.step(self.train, self.valid, self.update)

    def gradients(self) -> list[torch.Tensor]:
        return stacked(self.model, self.algorithm.upper_gradients(self.train, self.valid, self.update))


class Peer:
    """A search of `peers`, from nasframe's weights.

    Args:
        setting: Supernet and batches.
        search: Its class.
        settings: Of the class.
    """

    def __init__(self, setting: Setting, search: type[darts.Search] = darts.Search, **settings: Any) -> None:
        start = supernet(setting)
        self.network = darts.Network(setting.channels, setting.cells, setting.operations)
        weights, alphas = list(start.parameters_of("weight")), list(start.parameters_of("alpha"))
        self.network.load(weights, stacked(start, alphas))
        self.search = search(self.network, clip=setting.clip, **settings)
        train, valid = batches(setting)
        self.train, self.valid = (train.inputs, train.targets), (valid.inputs, valid.targets)

    def step(self) -> object:
        return self.search.step(self.train, self.valid)

    def gradients(self) -> list[torch.Tensor]:
        return self.search.gradients(self.train, self.valid)


def _channels_last(batch: Batch) -> Batch:
    return Batch(batch.inputs.contiguous(memory_format=torch.channels_last), batch.targets)
