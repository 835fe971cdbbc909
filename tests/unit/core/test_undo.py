"""Undo puts back all that a step changes."""

import copy

import pytest
import torch
from torch import nn

from nasframe.core import Algorithm, Model
from nasframe.core.undo import Undo

CPU = torch.device("cpu")


class _Counted(nn.Module):
    """Has buffers that its passes move, replace, and draw for."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.register_buffer("mean", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("nothing", None)

    def forward(self, x):
        self.mean = 0.9 * self.mean + torch.rand(3, dtype=torch.float64)  # another tensor each time
        return self.norm(self.layer(x)) + self.mean


class _Moving(Algorithm):
    """Its state is a number, a tensor and an optimizer's."""

    def __init__(self):
        self.steps, self.mean = 0, torch.zeros(2)

    def step(self, train, valid, update_weights):
        raise NotImplementedError

    def state_dict(self):
        return {"steps": self.steps, "mean": self.mean}

    def load_state_dict(self, state):
        self.steps, self.mean = state["steps"], state["mean"]


def _step(model, optimizer, algorithm):
    optimizer.zero_grad()
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] *= 0.5
    algorithm.steps += 1
    algorithm.mean += torch.rand(2)


def _everything(model, optimizer, algorithm):
    state = copy.deepcopy([model.state_dict(), optimizer.state_dict(), algorithm.state_dict()])
    return [*state, torch.get_rng_state()]


def _same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
        lambda parameters: torch.optim.Adam(parameters, lr=0.1, amsgrad=True),
        lambda parameters: torch.optim.Rprop(parameters, lr=0.1),
    ],
)
def test_a_step_that_is_undone_is_as_if_it_had_not_been(make, steps):
    torch.manual_seed(0)
    model, algorithm = Model(_Counted()), _Moving()
    optimizer = make(list(model.parameters()))
    undo = Undo(model, optimizer, algorithm, CPU)
    for _ in range(steps):
        undo.keep()
        _step(model, optimizer, algorithm)
    before = _everything(model, optimizer, algorithm)
    undo.keep()
    afterwards = []
    for _ in range(3):  # what is kept stays what it is, however often it is needed
        _step(model, optimizer, algorithm)
        afterwards.append(_everything(model, optimizer, algorithm))
        assert not _same(afterwards[-1], before)
        undo.undo()
        assert _same(_everything(model, optimizer, algorithm), before)
        assert all(parameter.grad is None for parameter in model.parameters())
    assert _same(afterwards[0], afterwards[1])
    assert _same(afterwards[0], afterwards[2])
