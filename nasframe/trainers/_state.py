"""What changes while a stage trains: kept in checkpoints, compared among ranks, undone."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, final

import torch

from nasframe.core import (
    Algorithm,
    Batch,
    BatchStream,
    Guard,
    Model,
    WeightAverage,
    WeightUpdate,
    get_random_state,
    map_tensors,
    set_random_state,
)
from nasframe.core.finite import non_finite
from nasframe.core.undo import Undo
from nasframe.errors import NonFiniteError
from nasframe.types import Metrics


@final
@dataclass
class SoFar:
    """What the steps of an epoch came to so far."""

    steps: int = 0
    skipped: int = 0
    unreadable: int = 0
    examples: int = 0
    seconds: float = 0.0
    lr: float = 0.0
    totals: dict[str, float | torch.Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, metrics: Metrics, examples: int, seconds: float, lr: float) -> None:
        """Count one step; the learning rate of an epoch is that of its first."""
        self.lr = float(lr) if self.steps == 0 else self.lr
        self.steps, self.examples, self.seconds = (
            self.steps + 1,
            self.examples + examples,
            self.seconds + seconds,
        )
        for name, value in metrics.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1  # some come in some steps alone

    @property
    def speed(self) -> float:
        """Examples a second."""
        return self.examples / self.seconds

    def means(self) -> dict[str, float]:
        """Each figure's mean over the steps that had it, learning rate and speed."""
        means = {name: float(total) / self.counts[name] for name, total in self.totals.items()}
        return {**means, "lr": self.lr, "images_per_second": self.speed}


@final
@dataclass
class State:
    """All that changes while a stage trains."""

    device: torch.device
    model: Model
    optimizer: torch.optim.Optimizer
    algorithm: Algorithm
    update: WeightUpdate
    train: BatchStream
    valid: BatchStream | None
    num_steps: int
    guard: Guard | None
    average: WeightAverage | None = field(default=None)
    step: int = field(default=0)
    epoch: int = field(default=0)
    so_far: SoFar = field(default_factory=SoFar)
    best_loss: float = field(default=math.inf)
    best_epoch: int = field(default=0)

    def __post_init__(self) -> None:
        self.undo = Undo(self.model, self.optimizer, self.algorithm, self.device)
        self._upper = dict(self.model.named_parameters_at("upper"))

    @property
    def chunks(self) -> list[int] | None:
        """Pieces of a batch in the weights' passes, and in the algorithm's own; None if that takes none."""
        return None if self.algorithm.chunks is None else [self.update.chunks, self.algorithm.chunks]

    @chunks.setter
    def chunks(self, pieces: list[int]) -> None:
        self.update.chunks, self.algorithm.chunks = pieces

    def finite_step(self, train: Batch, valid: Batch) -> Metrics:
        """A step of the algorithm.

        Raises:
            NonFiniteError: Its figures or the upper-level parameters after it are not finite.
        """
        metrics = self.algorithm.step(train, valid, self.update)
        if wrong := non_finite(metrics, self._upper):
            raise NonFiniteError(", ".join(wrong))
        return metrics

    def note_loss(self, valid_loss: float | None) -> None:
        """Remember which epoch had the lowest validation loss."""
        if valid_loss is not None and self.is_lowest(valid_loss):
            self.best_loss, self.best_epoch = valid_loss, self.epoch

    def is_lowest(self, valid_loss: float | None) -> bool:
        """Whether no epoch that is counted had a lower validation loss."""
        return valid_loss is not None and valid_loss <= self.best_loss

    def numbers(self) -> dict[str, Any]:
        """All that ranks must hold alike, by name."""
        return {
            **self.model.state_dict(),
            "state of the weight optimizer": self.optimizer.state_dict(),
            "state of the algorithm": self.algorithm.state_dict(),
            "state of the guard": None if self.guard is None else self.guard.state_dict(),
            "average of the weights": None if self.average is None else self.average.state_dict(),
            "random state": get_random_state(self.device),
            "place": [self.step, self.epoch, self.chunks, self.model.precision],
        }

    def valid_batches(self) -> Iterator[Batch] | None:
        """Batches for the upper level; which ones depends on the step alone."""
        return None if self.valid is None else self.valid.forever(self.step)

    def copy_upper(self) -> dict[str, Any]:
        """The upper-level parameters and the algorithm's state."""
        state = {"parameters": self._upper, "algorithm": self.algorithm.state_dict()}
        copied: dict[str, Any] = map_tensors(lambda tensor: tensor.detach().clone(), state)
        return copied

    @torch.no_grad()
    def put_back(self, upper: dict[str, Any]) -> None:
        """What `copy_upper` returned; weights and their optimizer stay."""
        for name, parameter in self._upper.items():
            parameter.copy_(upper["parameters"][name])
        self.algorithm.load_state_dict(map_tensors(torch.clone, upper["algorithm"]))

    def to_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "epoch": self.epoch,
            "so_far": asdict(self.so_far),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "algorithm": self.algorithm.state_dict(),
            "random": get_random_state(self.device),
            "precision": self.model.precision,
            "chunks": self.chunks,
            "guard": None if self.guard is None else self.guard.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "best": [self.best_loss, self.best_epoch],
        }

    def load_dict(self, saved: dict[str, Any]) -> None:
        self.step, self.epoch, self.so_far = saved["step"], saved["epoch"], SoFar(**saved["so_far"])
        self.load_weights(saved)
        self.best_loss, self.best_epoch = saved.get("best", (math.inf, 0))
        self.optimizer.load_state_dict(saved["optimizer"])
        self.algorithm.load_state_dict(saved["algorithm"])
        set_random_state(saved["random"], self.device)
        if saved.get("chunks") is not None:
            self.chunks = saved["chunks"]
        if self.guard is not None and saved.get("guard") is not None:
            self.guard.load_state_dict(saved["guard"])
        if "precision" in saved:
            self.model.autocast(torch.bfloat16 if saved["precision"] == "bfloat16" else None)

    def load_weights(self, saved: dict[str, Any]) -> None:
        """Those of a checkpoint, and their average."""
        self.model.load_state_dict(saved["model"])
        if self.average is not None and saved.get("average") is not None:
            self.average.load_state_dict(saved["average"])
