"""Memory that ran out: how it is told from other errors, and given back."""

import gc
from typing import Final

import torch

_WORDS: Final = (
    "DefaultCPUAllocator",  # on the CPU it is a plain RuntimeError
    "std::bad_alloc",
    "MPS backend out of memory",
    "ALLOC_FAILED",  # of CUDA's libraries
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, had no memory left."""
    is_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return is_memory or (isinstance(error, RuntimeError) and any(each in str(error) for each in _WORDS))


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether so many bytes may be held by a device: on CUDA, a quarter of what is free at most."""
    return device.type == "cuda" and num_bytes <= torch.cuda.mem_get_info(device)[0] // 4


def give_back_memory(device: torch.device) -> None:
    """Free what nobody holds any more; to be called when the error itself is gone, for it holds a step."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
