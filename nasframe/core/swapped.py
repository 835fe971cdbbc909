"""A model with other parameters for a while, and with copies of its buffers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nasframe.errors import ComponentError


@contextmanager
def swapped(model: nn.Module, parameters: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Inside, `model` computes with `parameters` in place of those of these names.

    Buffers are copies inside, so that batch-norm statistics of the model do not move. A tensor that
    several modules share, or a module with several names, is swapped everywhere. Backward passes
    belong inside too: a checkpointed module runs forward again in them. Not by
    ``torch.func.functional_call``, which leaves its tensors in a module that has two names.

    Args:
        model: Looks as before afterwards, also after an exception.
        parameters: By qualified name, as ``named_parameters`` gives them.

    Raises:
        ComponentError: A name is not that of a parameter; nothing would be swapped.
    """
    other: dict[int, torch.Tensor] = {}
    if parameters:
        named = dict(model.named_parameters(remove_duplicate=False))
        if unknown := set(parameters) - set(named):
            raise ComponentError(
                f"swapped: the model must have the parameters {sorted(unknown)}, but has not"
            )
        other = {id(named[name]): tensor for name, tensor in parameters.items()}
    places: list[tuple[dict[str, Any], str, torch.Tensor, torch.Tensor]] = []
    for module in model.modules():
        if parameters:
            places += [
                (module._parameters, name, old, other[id(old)])
                for name, old in module._parameters.items()
                if id(old) in other and old is not None
            ]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                if id(buffer) not in other:
                    other[id(buffer)] = buffer.clone()
                places.append((module._buffers, name, buffer, other[id(buffer)]))
    try:
        for held, name, _, new in places:
            held[name] = new
        yield
    finally:
        for held, name, old, _ in places:
            held[name] = old
