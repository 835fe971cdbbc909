"""Networks: whole modules of one's own, that a search may change."""

from typing import Any, Protocol, runtime_checkable

from nasframe.registry import Registry


@runtime_checkable
class Network(Protocol):
    """Any module that maps inputs of the task's shape to its outputs."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of a batch."""


networks: Registry[Network] = Registry("networks", Network, given=("task",))
