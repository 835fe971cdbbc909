"""Costs: what a network costs, by name."""

from abc import ABC, abstractmethod

from nasframe.core.model import Model
from nasframe.core.task import Task
from nasframe.registry import Registry


class Cost(ABC):
    """A figure of a network that is better small."""

    @abstractmethod
    def of(self, model: Model, task: Task) -> float:
        """The cost of a derived network."""


costs: Registry[Cost] = Registry("costs", Cost)
