"""Undo: a step that went wrong is as if it had not been."""

from collections.abc import Iterable
from typing import Any, NamedTuple, final

import torch

from nasframe.core.algorithm import Algorithm
from nasframe.core.batch import map_tensors
from nasframe.core.model import Model
from nasframe.core.random_state import get_random_state, set_random_state


class _Group(NamedTuple):
    """Tensors of one device and type, which are copied by one call."""

    live: list[torch.Tensor]
    copies: list[torch.Tensor]


@final
class Undo:
    """Everything that a step changes, as it was when `keep` was called.

    That is parameters and buffers of the model, the weight optimizer's state, the algorithm's, and the
    global random state. Copies go to memory of their own, on the same device, which is used again: for some
    hundreds of tensors about a millisecond.

    Args:
        model: Is trained.
        optimizer: Of the weights.
        algorithm: Has a state of its own.
        device: Whose random state is kept besides the host's.
    """

    def __init__(
        self, model: Model, optimizer: torch.optim.Optimizer, algorithm: Algorithm, device: torch.device
    ) -> None:
        self._optimizer, self._algorithm, self._device = optimizer, algorithm, device
        self._parameters = list(model.parameters())
        self._places = [
            (module._buffers, name)
            for module in model.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        self._live: list[torch.Tensor] = []
        self._groups: list[_Group] = []

    def keep(self) -> None:
        """Copy all of it, in place of what was kept before."""
        self._buffers = [held[name] for held, name in self._places]
        self._of_optimizer = {
            parameter: {name: _apart(value) for name, value in entries.items()}
            for parameter, entries in self._optimizer.state.items()
        }
        self._settings = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self._optimizer.param_groups
        ]
        self._of_algorithm = map_tensors(torch.clone, self._algorithm.state_dict())
        self._random = get_random_state(self._device)
        self._copy([*self._parameters, *self._buffers, *self._optimized()])

    def _optimized(self) -> Iterable[torch.Tensor]:
        entries = (value for each in self._of_optimizer.values() for value in each.values())
        return (value for value in entries if isinstance(value, torch.Tensor))

    def _copy(self, live: list[Any]) -> None:
        live = [tensor for tensor in live if tensor is not None]
        if len(live) != len(self._live) or any(a is not b for a, b in zip(live, self._live, strict=True)):
            self._live, self._groups = live, _grouped(live)
        with torch.no_grad():
            for group in self._groups:
                torch._foreach_copy_(group.copies, group.live)

    def undo(self) -> None:
        """Put back what was kept, bit for bit; gradients are dropped."""
        with torch.no_grad():
            for group in self._groups:
                torch._foreach_copy_(group.live, group.copies)
        for parameter in self._parameters:
            parameter.grad = None
        for (held, name), buffer in zip(self._places, self._buffers, strict=True):
            held[name] = buffer
        self._optimizer.state.clear()
        self._optimizer.state.update(
            {
                parameter: {name: _apart(value) for name, value in entries.items()}
                for parameter, entries in self._of_optimizer.items()
            }
        )
        for options, before in zip(self._optimizer.param_groups, self._settings, strict=True):
            options.update(before)
        self._algorithm.load_state_dict(map_tensors(torch.clone, self._of_algorithm))
        set_random_state(self._random, self._device)


def _apart(value: Any) -> Any:
    """A tensor itself, which `Undo` copies with all others; a nest of them as a copy."""
    return value if isinstance(value, torch.Tensor) else map_tensors(torch.clone, value)


def _grouped(live: list[torch.Tensor]) -> list[_Group]:
    groups: dict[tuple[torch.device, torch.dtype], _Group] = {}
    for tensor in live:
        group = groups.setdefault((tensor.device, tensor.dtype), _Group([], []))
        group.live.append(tensor)
        group.copies.append(torch.empty_like(tensor, requires_grad=False))
    return list(groups.values())
