"""The weights of a supernet for one of its architectures."""

from collections.abc import Sequence
from typing import Final, NoReturn, final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from nasframe.core.batch_norm import ExactBatchNorm2d
from nasframe.core.fused import FusedSum
from nasframe.core.genotype import Genotype
from nasframe.core.mixed_op import MixedInput, MixedLayer, SumOfInputs, SumOfLayers
from nasframe.core.model import Model
from nasframe.core.sharing import Resized, weights_of
from nasframe.errors import FormatError, UnsupportedError

_STATISTICS: Final = ("running_mean", "running_var", "num_batches_tracked")


@torch.no_grad()
def inherit(model: Model, supernet: Model, genotype: Genotype) -> Model:
    """Give a derived network the weights and statistics that its architecture has in a supernet.

    It then computes what the supernet computes where that runs this architecture alone: in evaluation
    mode exactly, and in training mode exactly too. Batch norms that have parameters in the derived
    network alone (DARTS) get 1 and 0. Those that have running statistics in the derived network alone keep
    theirs, so that only its training mode is the supernet's.

    Args:
        model: From ``derived(space, genotype)``; its weights change in place.
        supernet: Of the same space, with any mixed op; only read.
        genotype: The architecture.

    Returns:
        `model`.

    Raises:
        FormatError: The genotype leaves a choice open, or keeps what the choice does not have.
        UnsupportedError: The space builds a part otherwise in a derived network, so that there are no
            such weights; `model` is as it was.
    """
    will = _Will(supernet, genotype)
    will.leave(model.network, supernet.network, "network")
    for heir, inheritance in will.bequests:
        heir.copy_(inheritance)
    return model


@final
class _Will:
    """Who gets what: pairs of tensors, of the derived network and of the supernet."""

    def __init__(self, supernet: Model, genotype: Genotype) -> None:
        self._choices = {op: supernet.choices[name] for name, op in supernet.mixed_ops.items()}
        self._genotype = genotype
        self.bequests: list[tuple[torch.Tensor, torch.Tensor]] = []

    def leave(self, heir: nn.Module, source: nn.Module, where: str) -> None:
        """Pair the tensors of a module with those of its counterpart in the supernet."""
        if isinstance(source, Resized):
            self.leave(heir, source.module, where)
        elif isinstance(source, MixedLayer):
            self._leave_kept(heir, source, where)
        elif isinstance(source, (FusedSum, MixedInput, SumOfInputs)) and isinstance(heir, SumOfInputs):
            branches = [source.branches[index] for index in heir.indices]
            self._leave_all(list(heir.branches), branches, f"{where}.branches")
        else:
            self._leave_own(heir, source, where)
            for name, child in heir.named_children():
                self.leave(child, source.get_submodule(name), f"{where}.{name}")

    def _leave_kept(self, heir: nn.Module, source: MixedLayer, where: str) -> None:
        choice = self._choices[source.mixed_op]
        kept = self._genotype.choices.get(choice.id, ())
        heirs = list(heir.layers) if isinstance(heir, SumOfLayers) and len(kept) > 1 else [heir]
        if len(kept) != len(heirs) or set(kept) - set(choice.candidates):
            raise FormatError(
                f"genotype: choice `{choice.id}` must keep {len(heirs)} of {choice.candidates}, "
                f"got {list(kept)}; give the genotype that the network was derived from"
            )
        candidates = [source.candidates[choice.candidates.index(name)] for name in kept]
        self._leave_all(heirs, candidates, where)

    def _leave_all(self, heirs: Sequence[nn.Module], sources: Sequence[nn.Module], where: str) -> None:
        for index, (heir, source) in enumerate(zip(heirs, sources, strict=True)):
            self.leave(heir, source, f"{where}.{index}")

    def _leave_own(self, heir: nn.Module, source: nn.Module, where: str) -> None:
        if _kind_of(heir) is not _kind_of(source) or heir._modules.keys() != source._modules.keys():
            raise UnsupportedError(
                f"inherit: `{where}` must be the same in the supernet and in the derived network, but is "
                f"{_spelled(source)} there and {_spelled(heir)} here; train the derived network from new "
                "weights, or let the space build both alike"
            )
        theirs = _tensors(source)
        for name, tensor in _tensors(heir).items():
            whole = theirs.pop(name, None)
            if whole is None and isinstance(heir, _NormBase) and name in ("weight", "bias"):
                whole = torch.full_like(tensor, float(name == "weight"))
            if whole is None and isinstance(heir, _NormBase) and name in _STATISTICS:
                continue
            if whole is None or whole.shape != tensor.shape:
                self._refuse(f"{where}.{name}", tensor, whole)
            self.bequests.append((tensor, whole))
        for name, whole in theirs.items():
            self._refuse(f"{where}.{name}", None, whole)

    def _refuse(self, where: str, heir: torch.Tensor | None, source: torch.Tensor | None) -> NoReturn:
        here, there = ("none" if tensor is None else tuple(tensor.shape) for tensor in (heir, source))
        raise UnsupportedError(
            f"inherit: `{where}` must have one shape in the supernet and in the derived network, but has "
            f"{there} there and {here} here; give the space the same settings, and the genotype that the "
            "network was derived from"
        )


def _kind_of(module: nn.Module) -> type[nn.Module]:
    """The class that says what a module computes: an exact batch norm is one like others."""
    return nn.BatchNorm2d if isinstance(module, ExactBatchNorm2d) else type(module)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's own parameters and buffers by name."""
    buffers = {name: buffer for name, buffer in module._buffers.items() if buffer is not None}
    return {**weights_of(module), **buffers}


def _spelled(module: nn.Module) -> str:
    return f"{type(module).__name__} of {len(module._modules)} modules"
