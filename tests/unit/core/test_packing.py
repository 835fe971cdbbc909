import copy
import io

import torch
from torch import nn

from nasframe.core.packing import pack, unpack


def _state():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.randn(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    return {
        "step": 3,
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "odd": [
            torch.tensor(1.5, dtype=torch.float64),
            (torch.ones(2), "in a tuple"),
            torch.zeros(0, 3),
            torch.arange(12.0).view(3, 4).t(),
            torch.randn(200, 200),
            None,
        ],
    }


def _leaves(value):
    if isinstance(value, dict):
        return [each for item in value.values() for each in _leaves(item)]
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in _leaves(item)]
    return [value]


def _same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.stride() == other.stride() and torch.equal(one, other)
    return one == other


def _structure(value):
    if isinstance(value, dict):
        return type(value), [(key, _structure(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [_structure(item) for item in value]
    return type(value) is nn.Parameter or type(value)


def test_what_was_packed_and_written_comes_back_bit_for_bit_in_its_memory_format():
    state = _state()
    file = io.BytesIO()
    torch.save(pack(state), file)
    file.seek(0)
    back = unpack(torch.load(file, weights_only=True))
    assert _structure(back) == _structure(state)
    assert all(_same(one, other) for one, other in zip(_leaves(back), _leaves(state), strict=True))
    assert back["model"]._metadata == state["model"]._metadata


def test_packing_leaves_the_state_as_it_is():
    state = _state()
    before = copy.deepcopy(state)
    pack(state)
    assert _structure(state) == _structure(before)
    assert all(_same(one, other) for one, other in zip(_leaves(state), _leaves(before), strict=True))


def test_small_tensors_become_one_vector_for_each_type_of_number():
    packed = pack(_state())
    assert set(packed["vectors"]) == {"torch.float32", "torch.float64", "torch.int64"}
    left = [each.shape for each in _leaves(packed["rest"]) if isinstance(each, torch.Tensor)]
    # one in a tuple, one that is transposed, and a large one
    assert left == [(2,), (4, 3), (200, 200)]


def test_what_comes_back_shares_no_memory():
    back = unpack(pack({"one": torch.zeros(2), "other": torch.zeros(2)}))
    back["one"].fill_(1)
    assert back["other"].tolist() == [0, 0]
