"""Inside `calibrated`, batch norms have the statistics of what a model computes in evaluation mode."""

import copy

import pytest
import torch
from torch import nn

from nasframe.core import Batch, Model, calibrated


def _model():
    torch.manual_seed(0)
    drops = nn.Dropout(0.9)
    return Model(nn.Sequential(drops, nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, momentum=0.3))).double().train()


def _batches():
    images = torch.randn(3, 5, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return [Batch(1 + number * x, torch.zeros(5)) for number, x in enumerate(images)]


def test_statistics_are_means_over_the_batches_without_dropout():
    model, batches = _model(), _batches()
    _, convolution, norm = model.network
    maps = [convolution(batch.inputs).transpose(0, 1).flatten(1) for batch in batches]
    with calibrated(model, batches):
        assert torch.allclose(norm.running_mean, torch.stack([each.mean(1) for each in maps]).mean(0))
        assert torch.allclose(norm.running_var, torch.stack([each.var(1) for each in maps]).mean(0))
        assert not any(module.training for module in model.network.modules())
        deviation = (norm.running_var + norm.eps).sqrt()[:, None, None]
        want = (convolution(batches[0].inputs) - norm.running_mean[:, None, None]) / deviation
        assert torch.allclose(model(batches[0].inputs), want)


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_afterwards_what_it_was(fails):
    model, batches = _model(), _batches()
    model(batches[2].inputs)
    buffers, before = dict(model.named_buffers()), copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    try:
        with calibrated(model, batches):
            if fails:
                raise OSError
    except OSError:
        assert fails
    assert all(module.training for module in model.network.modules())
    assert model.network[2].momentum == 0.3
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_norms_that_keep_no_statistics_go_on_without():
    model = Model(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False))).double()
    (batch, *_) = _batches()
    with calibrated(model, [batch]):
        assert model(batch.inputs).mean().item() == pytest.approx(0)
