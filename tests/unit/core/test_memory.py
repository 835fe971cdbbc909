"""Errors that say that there is no memory, and those that do not."""

import pytest
import torch

from nasframe.core.memory import give_back_memory, is_out_of_memory


def test_what_the_allocator_and_python_raise_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**62, dtype=torch.uint8)
    with pytest.raises(MemoryError) as of_python:
        bytearray(2**62)
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(of_python.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as of_shapes:
        torch.zeros(2) + torch.zeros(3)
    assert not is_out_of_memory(of_shapes.value)
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator"))


def test_giving_back_on_a_device_without_a_cache_does_nothing():
    give_back_memory(torch.device("cpu"))
