"""What one supernet leaves to another."""

import numpy
import pytest
import torch
from torch import nn

from nasframe.core import Filler, Model, Pruned, Space, Task, ValueChoice, supernet, take_alphas, take_weights
from nasframe.spaces.darts import Darts

TASK = Task((1, 8, 8), 3)
OPERATIONS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")


@pytest.fixture(autouse=True)
def double_precision():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _darts(channels=2):
    return Darts(TASK, channels=channels, cells=3, nodes=2, operations=OPERATIONS)


def _trained(space, mixed_op="softmax"):
    """A supernet whose alphas and batch-norm statistics are not those that it began with."""
    model = supernet(space, mixed_op)
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.copy_(torch.randn(alpha.shape))
        model(torch.randn(6, 1, 8, 8))
    return model


@pytest.mark.parametrize("mode", [True, False])
def test_with_fewer_candidates_it_computes_what_the_former_did_without_the_others(mode):
    former = _trained(_darts())
    edges = sorted(former.mixed_ops._modules)
    kept = {name: [OPERATIONS[1:], OPERATIONS[::2], OPERATIONS[3:]][i % 3] for i, name in enumerate(edges)}
    model = supernet(Pruned(_darts(), kept))
    take_weights(model, former)
    shares = {name: torch.rand(len(left)) for name, left in kept.items()}
    padded = {name: torch.zeros(4) for name in edges}
    for name, left in kept.items():
        padded[name][[OPERATIONS.index(each) for each in left]] = shares[name]
    images = torch.randn(5, 1, 8, 8)
    with model.train(mode).mixed_by(shares), former.train(mode).mixed_by(padded):
        torch.testing.assert_close(model(images), former(images), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mixed_op", ["softmax", "dirichlet"])
def test_alphas_follow_their_candidates(mixed_op):
    former = _trained(_darts(), mixed_op)
    kept = {"normal_2_0": ("none", "sep_conv_3x3"), "reduce_3_2": ("skip_connect",)}
    model = supernet(Pruned(_darts(), kept), mixed_op)
    take_alphas(model, former)
    for name, op in model.mixed_ops.items():
        left = kept.get(name, OPERATIONS)
        before = dict(zip(OPERATIONS, former.mixed_ops[name].alpha.tolist(), strict=True))
        assert op.alpha.tolist() == [before[each] for each in left]
        assert op.alpha.kind.name == "alpha"


def test_new_channels_are_copies_of_the_former_in_turn():
    former, model = _trained(_darts(2)), supernet(_darts(5))
    take_weights(model, former)
    before = {name: value.numpy() for name, value in former.network.state_dict().items()}
    for name, value in model.network.state_dict().items():
        expected = before[name]
        for axis, size in enumerate(value.shape):
            expected = expected.take(range(size), axis=axis, mode="wrap")
        numpy.testing.assert_array_equal(value.numpy(), expected)
    assert torch.isfinite(model(torch.randn(3, 1, 8, 8))).all()


def test_the_former_stays_as_it_was_and_shares_nothing():
    former, model = _trained(_darts()), supernet(_darts())
    before = {name: value.clone() for name, value in former.state_dict().items()}
    take_weights(model, former)
    take_alphas(model, former)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in former.state_dict().items())


def test_what_the_former_does_not_have_stays_new():
    former = Model(nn.Sequential(nn.Linear(2, 3), nn.Conv2d(1, 1, 3)))
    model = Model(nn.Sequential(nn.Linear(2, 3), nn.Conv2d(1, 1, 5), nn.Linear(3, 1)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    take_weights(model, former)
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {"network.1.weight", "network.2.weight", "network.2.bias"}
    assert torch.equal(model.network[0].weight, former.network[0].weight)


class _Widths(Space):
    def build(self, filler: Filler) -> nn.Module:
        return filler.value(ValueChoice.of("width", (6, 3)), lambda size: nn.Linear(4, size), pad_output=True)


def test_the_largest_value_that_is_left_takes_its_slice_of_the_former_largest():
    former = supernet(_Widths())
    model = supernet(Pruned(_Widths(), {"width": ("3",)}))
    take_weights(model, former)
    (whole,) = (weight for weight in former.parameters_of("weight") if weight.dim() == 2)
    (part,) = (weight for weight in model.parameters_of("weight") if weight.dim() == 2)
    assert torch.equal(part, whole[:3])
