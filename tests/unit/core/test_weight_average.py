"""The average is compared with the sum that it is: of all weights so far, each with what is left of it."""

import math
from contextlib import suppress

import pytest
import torch
from torch import nn

from nasframe.core import ArchParam, Model, WeightAverage


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.alpha = ArchParam(torch.zeros(2))
        self.again = self.layers[0]  # a module with two names


def _model():
    torch.manual_seed(0)
    return Model(_Network()).double()


def _move(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
            else:
                tensor.add_(seed)


def _copy(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.95])
def test_the_average_is_the_sum_of_all_weights_by_what_is_left_of_each(decay):
    model = _model()
    seen, average = [_copy(model)], WeightAverage(model, decay)
    for step in range(1, 21):
        _move(model, step)
        average.update()
        seen.append(_copy(model))
    kept = [min(decay, (1 + step) / (10 + step)) for step in range(1, 21)]
    shares = [math.prod(kept)]
    shares += [(1 - kept[step]) * math.prod(kept[step + 1 :]) for step in range(20)]
    assert sum(shares) == pytest.approx(1)
    average.take()
    for name, found in model.state_dict().items():
        if "alpha" in name or "num_batches_tracked" in name:
            assert torch.equal(found, seen[-1][name]), name
        else:
            want = sum(share * each[name] for share, each in zip(shares, seen, strict=True))
            torch.testing.assert_close(found, want, rtol=1e-12, atol=1e-12, msg=name)


def test_inside_the_model_has_the_averages_and_then_what_it_had_bit_for_bit():
    model = _model()
    average, first = WeightAverage(model, 0.5), _copy(model)
    _move(model, 1)
    before = _copy(model)
    with suppress(ZeroDivisionError), average.in_place():
        inside = _copy(model)
        raise ZeroDivisionError
    assert all(torch.equal(tensor, before[name]) for name, tensor in _copy(model).items())
    assert torch.equal(inside["network.layers.0.weight"], first["network.layers.0.weight"])
    assert torch.equal(inside["network.alpha"], before["network.alpha"])


def test_an_average_goes_on_from_its_state():
    model, other = _model(), _model()
    one, two = WeightAverage(model, 0.8), WeightAverage(other, 0.8)
    for step in range(3):
        _move(model, step)
        one.update()
    two.load_state_dict(one.state_dict())
    for each, average in ((model, one), (other, two)):
        _move(each, 7)
        average.update()
        average.take()
    floats = {name: each for name, each in _copy(model).items() if each.is_floating_point()}
    assert all(torch.equal(each, _copy(other)[name]) for name, each in floats.items())
