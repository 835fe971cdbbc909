"""What the supernet of one stage of a search leaves to that of the next."""

from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import nn

from nasframe.core.mixed_op import MixedLayer
from nasframe.core.model import Model
from nasframe.core.sharing import Resized, weights_of

_WIDTHS: Final = 2  # the dimensions of a weight that are numbers of channels


@torch.no_grad()
def take_weights(model: Model, former: Model) -> None:
    """Give a supernet the weights and statistics of a narrower one, or of one with more candidates.

    Parts are matched by their place in the network, candidates by their names. Where a tensor has more
    channels than it had, the new ones are copies of the former, in turn, as in Net2Net (Chen et al. 2016,
    arXiv 1511.05641) but not divided by the number of copies. What the other one does not have, or has
    in another form, stays as it is.

    Args:
        model: Changed in place, but for its mixed ops.
        former: Only read.
    """
    candidates: dict[nn.Module, tuple[str, ...]] = {}
    for each in (model, former):
        candidates |= {op: each.choices[name].candidates for name, op in each.mixed_ops.items()}
    for heir, source in _pairs(model.network, former.network, candidates):
        theirs = _tensors(source)
        for name, tensor in _own(heir).items():
            if name in theirs and (grown := _grown(theirs[name], tensor.shape)) is not None:
                tensor.copy_(grown)


def _pairs(
    heir: nn.Module, source: nn.Module, candidates: Mapping[nn.Module, tuple[str, ...]]
) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Modules that stand in the same place."""
    heir, source = (each.module if isinstance(each, Resized) else each for each in (heir, source))
    yield heir, source
    if isinstance(heir, MixedLayer) and isinstance(source, MixedLayer):
        former = dict(zip(candidates[source.mixed_op], source.candidates, strict=True))
        for name, candidate in zip(candidates[heir.mixed_op], heir.candidates, strict=True):
            if name in former:
                yield from _pairs(candidate, former[name], candidates)
        return
    for name, child in heir.named_children():
        if (counterpart := source._modules.get(name)) is not None:
            yield from _pairs(child, counterpart, candidates)


def _own(module: nn.Module) -> dict[str, torch.Tensor]:
    parameters = {name: each for name, each in module._parameters.items() if each is not None}
    return {**parameters, **_buffers(module)}


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's own parameters, also those that it shares, and buffers."""
    return {**weights_of(module), **_buffers(module)}


def _buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: each for name, each in module._buffers.items() if each is not None}


def _grown(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """A tensor in a shape of no fewer channels; None where the shapes differ otherwise."""
    pairs = list(zip(tensor.shape, shape, strict=False))
    is_wider = len(shape) == tensor.dim() and all(
        old <= new if dim < _WIDTHS else old == new for dim, (old, new) in enumerate(pairs)
    )
    if not is_wider:
        return None
    for dim, (old, new) in enumerate(pairs):
        if new > old:
            tensor = tensor.index_select(dim, torch.arange(new, device=tensor.device) % old)
    return tensor


@torch.no_grad()
def take_alphas(model: Model, former: Model) -> None:
    """Give the mixed ops of a supernet what another one's have for the candidates that are left.

    Args:
        model: Each parameter and buffer of its mixed ops that has an entry for each candidate is changed in
            place, and each that has the same shape in both.
        former: Its choices have all candidates of `model`; only read.
    """
    for name, op in model.mixed_ops.items():
        if name not in former.mixed_ops:
            continue
        whole = former.choices[name].candidates
        left = [whole.index(each) for each in model.choices[name].candidates]
        theirs = _tensors(former.mixed_ops[name])
        for key, tensor in _own(op).items():
            source = theirs.get(key)
            if source is not None and source.shape[:1] == (len(whole),):
                source = source[left]
            if source is not None and source.shape == tensor.shape:
                tensor.copy_(source)
