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
    known = dict(model.named_parameters()) if parameters else {}
    if unknown := set(parameters) - set(known):
        raise ComponentError(f"swapped: the model must have the parameters {sorted(unknown)}, but has not")
    other = {id(known[name]): tensor for name, tensor in parameters.items()}
    other |= {id(buffer): buffer.clone() for buffer in model.buffers()}
    places: list[tuple[dict[str, Any], str, torch.Tensor]] = [
        (held, name, tensor)
        for module in model.modules()
        for held in (module._parameters, module._buffers)
        for name, tensor in held.items()
        if tensor is not None and id(tensor) in other
    ]
    try:
        for held, name, tensor in places:
            held[name] = other[id(tensor)]
        yield
    finally:
        for held, name, tensor in places:
            held[name] = tensor
