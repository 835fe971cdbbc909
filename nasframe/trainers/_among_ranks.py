"""What several ranks cannot do, and what a reader must know of them."""

import sys

import torch
from torch import nn

from nasframe.core import Algorithm, Model
from nasframe.core.ranks import num_ranks
from nasframe.errors import UnsupportedError


def check_ranks(model: Model, algorithm: Algorithm, *, batch_size: int, skips_unreadable: bool) -> None:
    """Refuse what several ranks cannot do.

    Raises:
        UnsupportedError: Says what to choose instead.
    """
    if num_ranks() == 1:
        return
    ranks = f"where there are {num_ranks()} ranks"
    if not algorithm.knows_ranks:
        raise UnsupportedError(
            f"standard: the algorithm must know of ranks (`knows_ranks`) {ranks}, but "
            f"{type(algorithm).__name__} does not, and its own gradients would be those of one; run it "
            "on one"
        )
    if batch_size % num_ranks():
        raise UnsupportedError(
            f"standard: batch_size must be a multiple of the {num_ranks()} ranks, so that they share it "
            f"equally, got {batch_size}; change it, or the number of ranks"
        )
    if skips_unreadable:
        raise UnsupportedError(
            f"standard: on_unreadable must be stop {ranks}, got skip, which would make their shares "
            "unequal; remove what cannot be read, or run on one rank"
        )
    for name, module in model.named_modules():
        if isinstance(module, nn.parallel.DistributedDataParallel) or _is_sharded(module):
            raise UnsupportedError(
                f"standard: the network must not be wrapped {ranks}, but `{name}` is a "
                f"{type(module).__name__}: gradients are averaged here, and steps that look through the "
                "next one replace all weights, which sharded ones cannot be; leave the wrapper out"
            )


def told_of_ranks(stage: str, batch_size: int, *, synchronized: bool) -> str:
    """What a reader of the result must know of ranks."""
    norms = "the whole batch" if synchronized else "the share of their rank"
    return (
        f"{stage}: {num_ranks()} ranks shared each batch of {batch_size} examples, "
        f"{batch_size // num_ranks()} each, at the learning rate of the recipe; batch norms saw {norms}"
    )


def _is_sharded(module: nn.Module) -> bool:
    """Whether it holds its parameters in part, as FSDP leaves them; whoever uses that has imported it."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return (fsdp is not None and isinstance(module, fsdp.FullyShardedDataParallel)) or any(
        type(parameter.data) is not torch.Tensor for parameter in module.parameters(recurse=False)
    )
