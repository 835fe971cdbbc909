"""A model with other parameters for a while, or whose buffers stay as they are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

from nasframe.core.batch_norm import reads_no_statistics
from nasframe.errors import ComponentError

_STATISTICS: Final = ("running_mean", "running_var")
_COUNT: Final = "num_batches_tracked"  # stays, because DistributedDataParallel wants to find some buffer


@contextmanager
def swapped(model: nn.Module, parameters: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Inside, `model` computes with `parameters` in place of those of these names.

    Its buffers stay as they are, see `unmoved`. A tensor that
    several modules share, or a module with several names, is swapped everywhere. Backward passes
    belong inside too: a checkpointed module runs forward again in them. Not by
    ``torch.func.functional_call``, which leaves its tensors in a module that has two names.

    Args:
        model: Looks as before afterwards, also after an exception.
        parameters: By qualified name, as ``named_parameters`` gives them.

    Raises:
        ComponentError: A name is not that of a parameter; nothing would be swapped.
    """
    known = dict(model.named_parameters(remove_duplicate=False)) if parameters else {}
    if unknown := set(parameters) - set(known):
        raise ComponentError(f"swapped: the model must have the parameters {sorted(unknown)}, but has not")
    other = {id(known[name]): tensor for name, tensor in parameters.items()}
    places = [
        (module._parameters, name, old, other[id(old)])
        for module in (_modules(model) if parameters else ())
        for name, old in module._parameters.items()
        if old is not None and id(old) in other
    ]
    try:
        for held, name, _, new in places:
            held[name] = new  # type: ignore[assignment]
        with unmoved(model):
            yield
    finally:
        for held, name, old, _ in places:
            held[name] = old


@contextmanager
def unmoved(module: nn.Module) -> Iterator[None]:
    """Inside, passes leave the buffers of `module` as they are.

    Batch norms in training, which need no statistics but those of their batch, have no others inside, and
    count their batches in one number that is dropped; all other buffers are copies.
    """
    copies: dict[int, torch.Tensor] = {}
    before: dict[int, tuple[dict[str, torch.Tensor | None], dict[str, torch.Tensor | None]]] = {}
    count: torch.Tensor | None = None
    try:
        for each in _modules(module):
            held = each._buffers
            if not held or id(held) in before:
                continue
            before[id(held)] = held, dict(held)
            if reads_no_statistics(each):
                count = copied_once(held[_COUNT], copies) if count is None else count
                held.update({**dict.fromkeys(_STATISTICS), _COUNT: count})
            else:
                held.update({name: copied_once(buffer, copies) for name, buffer in held.items()})
        yield
    finally:
        for held, kept in before.values():
            held.update(kept)


@contextmanager
def normalized_by_batch(module: nn.Module) -> Iterator[None]:
    """Inside, batch norms normalize by the statistics of their batch in evaluation too, and move none."""
    norms = [each._buffers for each in _modules(module) if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    before = {id(held): (held, {name: held.get(name) for name in _STATISTICS}) for held in norms}
    try:
        for held in norms:
            held.update(dict.fromkeys(_STATISTICS))
        yield
    finally:
        for held, kept in before.values():
            held.update(kept)


def copied_once(buffer: torch.Tensor | None, copies: dict[int, torch.Tensor]) -> torch.Tensor | None:
    """The one copy of a buffer, which several modules may share."""
    if buffer is None:
        return None
    if id(buffer) not in copies:
        copies[id(buffer)] = buffer.clone()
    return copies[id(buffer)]


def _modules(module: nn.Module) -> list[nn.Module]:
    """`module` and those in it, faster than ``module.modules()``; one with two names comes twice."""
    found = [module]
    for each in found:  # grows meanwhile
        found.extend(child for child in each._modules.values() if child is not None)
    return found
