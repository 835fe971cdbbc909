"""Small tensors as a few vectors, because each tensor takes longer to write than a thousand numbers."""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import torch

_MOST_BYTES: Final = 2**16  # a larger tensor is left as it is: it need not be copied
Path: TypeAlias = tuple[str | int, ...]


def pack(state: dict[str, Any]) -> dict[str, Any]:
    """Put the small tensors in nested dicts and lists together, one vector for each type of number.

    Returns:
        Plain data and tensors, for `unpack`; `state` stays as it is.
    """
    layout: list[tuple[Path, str, list[int], bool]] = []
    pieces: dict[str, list[torch.Tensor]] = {}
    for path, tensor in _small_tensors(state):
        dtype, channels_last = str(tensor.dtype), not tensor.is_contiguous()
        layout.append((path, dtype, list(tensor.shape), channels_last))
        tensor = tensor.detach().cpu()
        pieces.setdefault(dtype, []).append(
            (tensor.permute(0, 2, 3, 1) if channels_last else tensor).reshape(-1)
        )
    rest = _copied(state)
    for path, *_ in layout:
        _holder(rest, path)[path[-1]] = None
    return {
        "rest": rest,
        "layout": json.dumps(layout),
        "vectors": {dtype: torch.cat(vectors) for dtype, vectors in pieces.items()},
    }


def unpack(packed: dict[str, Any]) -> dict[str, Any]:
    """What was packed, tensors in the memory format that they had, on the CPU."""
    state: dict[str, Any] = packed["rest"]
    begin = dict.fromkeys(packed["vectors"], 0)
    for path, dtype, shape, channels_last in json.loads(packed["layout"]):
        stored = [shape[axis] for axis in (0, 2, 3, 1)] if channels_last else shape
        count = torch.Size(shape).numel()
        values = packed["vectors"][dtype][begin[dtype] : begin[dtype] + count].clone().view(stored)
        begin[dtype] += count
        _holder(state, path)[path[-1]] = values.permute(0, 3, 1, 2) if channels_last else values
    return state


def _small_tensors(value: Any, path: Path = ()) -> Iterator[tuple[Path, torch.Tensor]]:
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, (str, int)):
                yield from _small_tensors(item, (*path, key))
    elif type(value) in (torch.Tensor, torch.nn.Parameter) and _fits(value):
        yield path, value


def _fits(tensor: torch.Tensor) -> bool:
    dense = tensor.layout == torch.strided and (
        tensor.is_contiguous()
        or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    )
    return dense and tensor.nbytes <= _MOST_BYTES and not tensor.is_meta


def _copied(value: Any) -> Any:
    """Dicts and lists anew, with the attributes that they have, and what lies in them as it is."""
    if not isinstance(value, (dict, list)):
        return value
    new = copy.copy(value)
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        new[key] = _copied(item)
    return new


def _holder(state: Any, path: Path) -> Any:
    """The dict or list that holds what stands at a path."""
    for key in path[:-1]:
        state = state[key]
    return state
