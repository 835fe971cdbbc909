"""Scores: how good an architecture is, told to an explorer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, final

import torch

from nasframe.core.batch_stream import BatchStream
from nasframe.core.dataset import Preprocess, Split
from nasframe.core.genotype import Genotype
from nasframe.core.model import Model
from nasframe.core.objective import Objective
from nasframe.core.random_state import kept_random_state, seed_for
from nasframe.core.space import Space, derived
from nasframe.core.task import Task
from nasframe.errors import UnsupportedError
from nasframe.registry import Registry
from nasframe.types import Metrics


class TrainNetwork(Protocol):
    """Trains a network as the search's trainer does."""

    def __call__(
        self, model: Model, genotype: Genotype, *, budget: float = 1.0, examples: float = 1.0
    ) -> Metrics:
        """Train it in place, from where an interrupted run left off with the same arguments.

        Args:
            model: On any device, with new weights.
            genotype: Its architecture.
            budget: Share of the trainer's epochs, above 0 to 1.
            examples: Share of the training examples, above 0 to 1.

        Returns:
            ``loss`` and metrics of the held-out examples.
        """


@final
@dataclass(frozen=True)
class Testbed:
    """What a score may look at.

    Attributes:
        space: Where is searched.
        task: Shapes of inputs and outputs.
        objective: Loss and metrics.
        train: Examples for weights.
        preprocess: From raw inputs to network inputs.
        seed: The run's seed.
        device: Where networks run.
        evaluate: ``loss`` and metrics of a network on the held-out examples.
        train_network: Trains a network.
        supernet: The trained one, on the device, where a score `trains_supernet`.
    """

    __test__: ClassVar[bool] = False  # its name is no test's

    space: Space
    task: Task
    objective: Objective
    train: Split
    preprocess: Preprocess
    seed: int
    device: torch.device
    evaluate: Callable[[Model], Metrics]
    train_network: TrainNetwork
    supernet: Model | None = None

    def network(self, genotype: Genotype) -> Model:
        """A network of the space with new weights, on the device: the same each time."""
        with kept_random_state(torch.device("cpu")):
            torch.manual_seed(seed_for(self.seed, "score", "init"))
            return derived(self.space, genotype).to(self.device)

    def batches(self, batch_size: int) -> BatchStream:
        """Training batches without augmentation: the same each time."""
        return BatchStream(
            self.train,
            self.preprocess,
            batch_size=batch_size,
            device=self.device,
            training=True,
            seed=self.seed,
            purpose=("score", "train"),
        )


class Score(ABC):
    """Tells how good architectures are; the higher the better.

    It follows from the architecture, the budget and what it was made of alone, not from what was scored
    before. Whatever is drawn at random is drawn from a state that is the same for each architecture.

    Attributes:
        trains_supernet: Whether a supernet must be trained first.
        inherits: Whether it gives networks of the space the weights of that supernet (see `inherit`).
        uses_valid: Whether it needs held-out examples.
        takes_budgets: Whether a smaller share of the whole budget costs less.
    """

    trains_supernet: ClassVar[bool] = False
    inherits: ClassVar[bool] = False
    uses_valid: ClassVar[bool] = False
    takes_budgets: ClassVar[bool] = False

    @property
    def figure(self) -> str | None:
        """The figure of held-out examples that a score is: a metric's name, or ``loss`` for its negative.

        None, as here, for anything else.
        """
        return None

    @abstractmethod
    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        """The score of an architecture.

        Args:
            genotype: One of the space.
            budget: Share of the whole budget; 1 unless the score `takes_budgets`.

        Raises:
            TrainingError: It has none, because its numbers are not finite; it then counts as the worst.
        """


scores: Registry[Score] = Registry("scores", Score, given=("testbed",))


def figure_of(metrics: Metrics, name: str, where: str) -> float:
    """A metric, or ``loss`` for its negative: the higher the better.

    Raises:
        UnsupportedError: The objective has no such metric.
    """
    if name not in metrics:
        known = ", ".join(each for each in metrics if each != "loss")
        raise UnsupportedError(
            f"{where}: metric must be `loss` or one of the objective ({known or 'which has none'}), got "
            f"`{name}`; set `metric`"
        )
    value = float(metrics[name])
    return -value if name == "loss" else value
