"""Inside `unmoved`, a module's buffers stay as they are."""

import pytest
import torch
from torch import nn

from nasframe.core import ExactBatchNorm2d, unmoved


class _Counter(nn.Module):
    """Adds up its inputs in a buffer, and returns what it has."""

    def __init__(self, total=None):
        super().__init__()
        self.register_buffer("total", torch.zeros(()) if total is None else total)

    def forward(self, x):
        self.total.add_(x.sum())
        return x + self.total


def _network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), ExactBatchNorm2d(4), _Counter()).double()


def _state(module):
    return [(name, id(buffer), buffer.clone()) for name, buffer in module.named_buffers()]


def test_passes_return_the_same_and_leave_the_buffers():
    network, x = _network(), torch.randn(5, 3, 4, 4, dtype=torch.float64)
    before = _state(network)
    with unmoved(network):
        inside = network(x)
        total = network[3].total.clone()
        with unmoved(network):
            network(x)
        assert torch.equal(network[3].total, total)
    after = _state(network)
    assert [entry[:2] for entry in after] == [entry[:2] for entry in before]
    assert all(torch.equal(one[2], other[2]) for one, other in zip(before, after, strict=True))
    torch.testing.assert_close(network(x), inside, rtol=0, atol=0)
    assert network[1].num_batches_tracked.item() == 1


def test_a_batch_norm_in_evaluation_mode_has_its_statistics_inside():
    network, x = _network(), torch.randn(5, 3, 4, 4, dtype=torch.float64)
    network(x)
    norm = network[1].eval()
    mean, deviation = norm.running_mean, (norm.running_var + norm.eps).sqrt()
    want = (network[0](x) - mean[:, None, None]) / deviation[:, None, None]
    with unmoved(network):
        torch.testing.assert_close(norm(network[0](x)), want, rtol=1e-12, atol=1e-12)


def test_a_shared_buffer_and_a_module_in_two_places_are_one_inside_too():
    total = torch.zeros(())
    twice = _Counter(total)
    network = nn.Sequential(twice, _Counter(total), twice)
    with unmoved(network):
        network(torch.ones(1))
        # the inputs are 1, then 1 + 1, then 2 + 3
        assert [each.total.item() for each in network] == [8.0, 8.0, 8.0]
    assert network[0].total is total
    assert total.item() == 0.0


def test_an_exception_inside_puts_the_buffers_back():
    network = _network()
    before = _state(network)
    with pytest.raises(RuntimeError, match="inside"), unmoved(network):
        raise RuntimeError("inside")
    assert [entry[:2] for entry in _state(network)] == [entry[:2] for entry in before]
