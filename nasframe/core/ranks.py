"""Ranks: the processes of one run, which share each batch and hold the same numbers.

Each of R ranks takes an equal share of a batch, whose loss L_r is a mean; the batch's is L = Σ L_r / R.
What is linear in the loss may be averaged where it is used: its gradients, and its mixed derivatives
∇²a,w L · v with a vector v that all ranks have. A step of the weights is not linear (it clips a norm), nor
are ε = epsilon / ‖v‖ and v = Jᵀ ∇w' L, whose J depends on the gradient that is clipped. So a second-order
step averages three times as much as there are weights: ∇w L_t before the virtual step, ∇w' L_v before v and
both sides of the difference, and ∇w L_t again in the real step. All ranks then go on with the same bits, and
no weights, alphas or optimizer states need to be sent.

The group is PyTorch's default one; without it there is one rank, and nothing here does anything.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, final, overload

import torch
from torch import distributed

from nasframe.core.batch import map_tensors
from nasframe.errors import NasframeError, RankError

Value = TypeVar("Value")

_MOST_NAMED = 5


def num_ranks() -> int:
    """How many processes share each batch."""
    is_group = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if is_group else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if num_ranks() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


@overload
def averaged(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]: ...


@overload
def averaged(tensors: Sequence[torch.Tensor | None]) -> list[torch.Tensor | None]: ...


def averaged(tensors: Sequence[torch.Tensor | None]) -> Sequence[torch.Tensor | None]:
    """The means over the ranks, all in one reduction for each type; None stays None, on all ranks.

    An algorithm that takes gradients itself passes them through this, together with the loss.

    Args:
        tensors: On one device, of the same shapes and in the same order on all ranks; they stay as they are.
    """
    if num_ranks() == 1:
        return list(tensors)
    means: dict[int, torch.Tensor] = {}
    there = [(index, tensor.detach()) for index, tensor in enumerate(tensors) if tensor is not None]
    for dtype in dict.fromkeys(tensor.dtype for _, tensor in there):
        alike = [(index, tensor) for index, tensor in there if tensor.dtype == dtype]
        flat = torch.cat([tensor.reshape(-1) for _, tensor in alike])
        with _others_there():
            distributed.all_reduce(flat)
        flat /= num_ranks()
        pieces = torch.split(flat, [tensor.numel() for _, tensor in alike])
        for (index, tensor), piece in zip(alike, pieces, strict=True):
            means[index] = torch.empty_like(tensor).copy_(piece.view(tensor.shape))
    return [means[index] if tensor is not None else tensor for index, tensor in enumerate(tensors)]


def on_any(wish: bool) -> bool:
    """Whether any rank has a wish."""
    if num_ranks() == 1:
        return wish
    flag = torch.tensor(int(wish))
    with _others_there():
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag)


def gathered(value: Value) -> list[Value]:
    """What each rank gives (anything that can be pickled), in their order."""
    if num_ranks() == 1:
        return [value]
    values: list[Any] = [None] * num_ranks()
    with _others_there():
        distributed.all_gather_object(values, value)
    return values


def shared(make: Callable[[], Value]) -> Value:
    """What `make` returns on the first rank (anything that can be pickled), on all of them.

    Raises:
        RankError: The first rank could not; there it is the error itself.
    """
    if num_ranks() == 1:
        return make()
    message: list[Any] = [None, None]
    raised: NasframeError | None = None
    if is_first():
        try:
            message[0] = make()
        except NasframeError as error:
            raised, message[1] = error, str(error)
    with _others_there():
        distributed.broadcast_object_list(message)
    if raised is not None:
        raise raised
    if message[1] is not None:
        raise RankError(message[1])
    value: Value = message[0]
    return value


def check_same(where: str, values: Mapping[str, Any]) -> None:
    """Refuse to go on where ranks hold other numbers than the first.

    Args:
        where: For the message, such as ``search: step 300``.
        values: By name; nests of tensors, compared bit by bit, and plain data.

    Raises:
        RankError: Says what differs, and on which rank.
    """
    if num_ranks() == 1:
        return
    first, *others = gathered({name: _digest(value) for name, value in values.items()})
    for number, digests in enumerate(others, 1):
        if wrong := [name for name in {**first, **digests} if first.get(name) != digests.get(name)]:
            more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
            raise RankError(
                f"{where}: all ranks must hold the same numbers, but rank {number} has another "
                f"{', '.join(wrong[:_MOST_NAMED])}{more} than rank 0; some part draws from a random state of "
                "its own, or learns from what one rank alone has seen: leave it out, or run it on one rank"
            )


def _digest(value: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)

    def add(tensor: torch.Tensor) -> str:
        numbers = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(numbers.view(torch.uint8).numpy().data)
        return f"{tensor.dtype} {tuple(tensor.shape)}"

    digest.update(repr(map_tensors(add, value)).encode())  # type: ignore[arg-type]
    return digest.hexdigest()


def total(x: torch.Tensor) -> torch.Tensor:
    """The sum over the ranks. Its gradient is that of all ranks' losses together, and has gradients."""
    summed: torch.Tensor = _Total.apply(x)  # type: ignore[no-untyped-call]
    return summed


@final
class _Total(torch.autograd.Function):
    """Its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        summed = x.clone(memory_format=torch.contiguous_format)
        with _others_there():
            distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return total(grad)


def mean_loss(loss: torch.Tensor) -> torch.Tensor:
    """The mean over the ranks of a loss, bit by bit the same; its gradients are still this rank's."""
    if num_ranks() == 1:
        return loss
    (mean,) = averaged([loss])
    return mean + (loss - loss.detach())


def with_mean_gradients(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The same tensors, of one type, whose gradients are means over the ranks."""
    if num_ranks() == 1 or not tensors:
        return tuple(tensors)
    same: tuple[torch.Tensor, ...] = _MeanGradients.apply(*tensors)  # type: ignore[no-untyped-call]
    return same


@final
class _MeanGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        flat = total(torch.cat([gradient.reshape(-1) for gradient in gradients])) / num_ranks()
        pieces = torch.split(flat, [gradient.numel() for gradient in gradients])
        return tuple(piece.view_as(each) for piece, each in zip(pieces, gradients, strict=True))


@contextmanager
def _others_there() -> Iterator[None]:
    """Inside, what PyTorch raises when a rank is gone becomes an error that says so."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RankError(
            f"rank {rank()}: all {num_ranks()} ranks must take part to the end, but one is gone or waited "
            f"too long ({reason}); look at what the others say, and go on with `nasframe resume`"
        ) from error
