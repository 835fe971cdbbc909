"""What autograd saves of a computation, computed again when it is asked for.

By saved-tensor hooks: the graph is that of the first pass, so that whatever the computation reads from
outside of it has its gradient, and gradients have theirs.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, final

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from nasframe.core.batch import map_tensors, tensors_of
from nasframe.core.batch_norm import reads_no_statistics
from nasframe.core.random_state import get_random_state, kept_random_state, set_random_state
from nasframe.core.swapped import copied_once
from nasframe.errors import ComponentError

_Packed = int | torch.Tensor  # a number among what is computed again, or a tensor that is there anyway


@final
class Again:
    """A computation, of which only the inputs are kept for the backward pass.

    The second pass has the parameters, buffers, random numbers and autocast of the first, and moves none.

    Args:
        modules: All that take part.
        compute: Takes nests of tensors.
        args: Its positional arguments.
        kwargs: Its arguments by name.
        measured: Told the bytes of what a second pass has made.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        compute: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        measured: Callable[[int], None],
    ) -> None:
        self._compute, self._measured = compute, measured
        self._arguments = _renewed((args, kwargs))
        self._held = _Held(modules)
        inputs = tensors_of(self._arguments)
        self._read = [*inputs, *self._held.parameters()]
        self._there = {id(tensor) for tensor in (*self._read, *self._held.unread)}
        self._versions = [tensor._version for tensor in self._read]
        self._device = inputs[0].device if inputs else torch.device("cpu")
        self._random_state = get_random_state(self._device)
        kinds = {"cpu", self._device.type}
        self._autocast = [(k, torch.get_autocast_dtype(k), torch.is_autocast_enabled(k)) for k in kinds]
        self._shapes: list[torch.Size] = []
        self._made: dict[int, torch.Tensor] = {}

    def first(self) -> Any:
        """What `compute` returns."""
        args, kwargs = _renewed(self._arguments)
        with saved_tensors_hooks(self._pack, self._unpack):
            return self._compute(*args, **kwargs)

    def _pack(self, tensor: torch.Tensor) -> _Packed:
        if id(tensor) in self._there:
            return tensor
        self._shapes.append(tensor.shape)
        return len(self._shapes) - 1

    def _unpack(self, packed: _Packed) -> torch.Tensor:
        if isinstance(packed, torch.Tensor):
            return packed
        if packed not in self._made:  # or it was taken before, by another backward pass
            self._made = dict(enumerate(self._second()))
        return self._made.pop(packed)

    def _second(self) -> list[torch.Tensor]:
        """What the first pass saved, in order."""
        if [tensor._version for tensor in self._read] != self._versions:
            raise ComponentError(
                "recomputed: inputs and parameters of a block must stay as they are until its backward pass, "
                "but some were written into; write into copies"
            )
        saved: list[torch.Tensor] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) in self._there:
                return tensor
            saved.append(tensor.detach())
            return saved[-1]

        args, kwargs = _renewed(self._arguments)
        with ExitStack() as stack:
            for kind, dtype, enabled in self._autocast:
                stack.enter_context(torch.autocast(kind, dtype, enabled))
            stack.enter_context(kept_random_state(self._device))
            set_random_state(self._random_state, self._device)
            stack.enter_context(self._held.restored())
            stack.enter_context(torch.enable_grad())
            stack.enter_context(saved_tensors_hooks(pack, lambda tensor: tensor))
            self._compute(*args, **kwargs)
        if [tensor.shape for tensor in saved] != self._shapes:
            raise ComponentError(
                "recomputed: a block must compute the same in the backward pass, but tensors of other shapes "
                "were saved; let what its modules count be a buffer, and leave them in training until then"
            )
        self._measured(num_bytes(saved))
        return saved


def num_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the storages of some tensors, each storage once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@final
class _Held:
    """What modules hold now: their parameters, and copies of the buffers that they read.

    Attributes:
        unread: The other buffers.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._parameters: list[tuple[dict[str, Any], str, torch.Tensor]] = []
        self._buffers: list[tuple[dict[str, torch.Tensor | None], dict[str, torch.Tensor | None]]] = []
        self.unread: list[torch.Tensor] = []
        copies: dict[int, torch.Tensor] = {}  # several modules may share a buffer
        for module in modules:
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    self._parameters.append((module._parameters, name, parameter))
            if held := module._buffers:
                if reads_no_statistics(module):
                    self._buffers.append((held, dict.fromkeys(held)))
                    self.unread += [each for each in held.values() if each is not None]
                else:
                    self._buffers.append(
                        (held, {name: copied_once(each, copies) for name, each in held.items()})
                    )

    def parameters(self) -> list[torch.Tensor]:
        """With repetitions."""
        return [parameter for _, _, parameter in self._parameters]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Inside, the modules hold this; what happens to buffers happens to copies."""
        moved = [(held, name, held[name]) for held, name, own in self._parameters if held[name] is not own]
        before = {id(held): (held, dict(held)) for held, _ in self._buffers}
        copies: dict[int, torch.Tensor] = {}
        try:
            for held, name, own in self._parameters:
                held[name] = own
            for held, kept in self._buffers:
                held.update({name: copied_once(each, copies) for name, each in kept.items()})
            yield
        finally:
            for held, name, other in moved:
                held[name] = other
            for held, others in before.values():
                held.update(others)


def _renewed(nest: Any) -> Any:
    """The same tensors in new lists, to which nobody adds, and who remember nothing of another pass."""
    return map_tensors(lambda tensor: tensor, nest)
