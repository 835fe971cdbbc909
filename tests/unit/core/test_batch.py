from collections import namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasframe.core import Batch, map_tensors


@given(size=st.integers(1, 30), count=st.integers(1, 40))
def test_chunks_are_the_batch_in_order_none_empty_and_of_nearly_equal_size(size, count):
    batch = Batch(torch.arange(2 * size).view(size, 2), torch.arange(size))
    pieces = batch.chunk(count)
    assert len(pieces) == min(size, count)
    lengths = [len(piece) for piece in pieces]
    assert min(lengths) >= 1
    assert max(lengths) - min(lengths) <= 1
    assert torch.equal(torch.cat([piece.inputs for piece in pieces]), batch.inputs)
    assert torch.equal(torch.cat([piece.targets for piece in pieces]), batch.targets)


def test_nested_inputs_and_targets_are_chunked_together():
    batch = Batch({"a": torch.arange(5), "b": (torch.arange(5) * 10,)}, [torch.arange(5), torch.ones(5, 3)])
    first, second = batch.chunk(2)
    assert len(batch) == 5
    assert [len(first), len(second)] == [2, 3]
    assert second.inputs["a"].tolist() == [2, 3, 4]
    assert second.inputs["b"][0].tolist() == [20, 30, 40]
    assert second.targets[1].shape == (3, 3)


def test_a_batch_moves_with_all_its_tensors():
    moved = Batch((torch.ones(2), {"x": torch.ones(2)}), torch.ones(2)).to(torch.device("meta"))
    assert moved.inputs[0].device.type == moved.inputs[1]["x"].device.type == "meta"
    assert moved.targets.device.type == "meta"


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_nest_keeps_its_types_and_what_is_no_tensor(kind):
    nest = kind([torch.ones(1), {"k": Point(torch.ones(1), "text")}, 3, None])
    doubled = map_tensors(lambda tensor: tensor * 2, nest)
    assert type(doubled) is kind
    assert doubled[0].item() == doubled[1]["k"].x.item() == 2
    assert isinstance(doubled[1]["k"], Point)
    assert doubled[1]["k"].y == "text"
    assert doubled[2:] == kind([3, None])
