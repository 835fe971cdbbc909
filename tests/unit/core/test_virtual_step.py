"""What the weight optimizer would do, against what it does, and autograd through it written out."""

import copy

import pytest
import torch
from torch import nn

from nasframe.core import VirtualStep
from nasframe.errors import UnsupportedError

SETTINGS = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.4},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"momentum": 0.5, "dampening": 0.3, "weight_decay": 0.2, "maximize": True},
]
SHAPES = {"a": (3, 2), "b": (4,)}
CLIP_EPS = 1e-6


def _tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in SHAPES.items()
    }


def _prepared(settings, steps_before, max_grad_norm):
    """Weights and an optimizer of two groups that has made some steps already."""
    weights = {name: nn.Parameter(value) for name, value in _tensors(0).items()}
    groups = [{"params": [weights["a"]]}, {"params": [weights["b"]], "lr": 0.02}]
    optimizer = torch.optim.SGD(groups, lr=0.1, **settings)
    for step in range(steps_before):
        _real_step(optimizer, weights, _tensors(10 + step), max_grad_norm)
    return weights, optimizer


def _real_step(optimizer, weights, gradients, max_grad_norm):
    for name, weight in weights.items():
        gradient = gradients.get(name)
        weight.grad = None if gradient is None else gradient.clone()
    if max_grad_norm is not None:
        nn.utils.clip_grad_norm_(weights.values(), max_grad_norm)
    optimizer.step()


def _update(name, gradients, weights, optimizer, max_grad_norm):
    """U for one weight as the documentation of SGD has it, differentiable in the gradients."""
    group = optimizer.param_groups["ab".index(name)]
    norm = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()
    scale = 1.0 if max_grad_norm is None else (max_grad_norm / (norm + CLIP_EPS)).clamp(max=1)
    d = scale * gradients[name] * (-1 if group["maximize"] else 1) + group["weight_decay"] * weights[name]
    buffer = optimizer.state[weights[name]].get("momentum_buffer") if optimizer.state else None
    if group["momentum"]:
        moving = d if buffer is None else group["momentum"] * buffer + (1 - group["dampening"]) * d
        d = d + group["momentum"] * moving if group["nesterov"] else moving
    return group["lr"] * d


@pytest.mark.parametrize("max_grad_norm", [None, 0.5, 100.0])
@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("settings", SETTINGS)
def test_it_is_the_step_that_the_optimizer_makes(settings, steps_before, max_grad_norm):
    weights, optimizer = _prepared(settings, steps_before, max_grad_norm)
    virtual = VirtualStep(optimizer, weights, _tensors(1), max_grad_norm)
    _real_step(optimizer, weights, _tensors(1), max_grad_norm)
    for name, weight in weights.items():
        torch.testing.assert_close(virtual.weights[name], weight.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("max_grad_norm", [None, 0.5, 100.0])
@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("settings", SETTINGS)
def test_its_transpose_is_that_of_autograd(settings, steps_before, max_grad_norm):
    weights, optimizer = _prepared(settings, steps_before, max_grad_norm)
    vectors = _tensors(2)
    transposed = VirtualStep(optimizer, weights, _tensors(1), max_grad_norm).transpose(vectors)
    fixed = {name: weight.detach() for name, weight in weights.items()}
    buffers = copy.deepcopy(optimizer)
    buffers.state = {fixed[name]: optimizer.state[weights[name]] for name in weights} if steps_before else {}
    gradients = {name: gradient.requires_grad_() for name, gradient in _tensors(1).items()}
    total = sum(
        (_update(name, gradients, fixed, buffers, max_grad_norm) * vectors[name]).sum() for name in SHAPES
    )
    expected = torch.autograd.grad(total, list(gradients.values()))
    for name, each in zip(gradients, expected, strict=True):
        torch.testing.assert_close(transposed[name], each, rtol=1e-9, atol=1e-14)


def test_it_changes_nothing():
    weights, optimizer = _prepared({"momentum": 0.9}, 1, None)
    gradients, vectors = _tensors(1), _tensors(2)
    before = copy.deepcopy((dict(weights), optimizer.state_dict(), gradients, vectors))
    step = VirtualStep(optimizer, weights, gradients, 0.1)
    step.transpose(vectors)
    for name in SHAPES:
        assert torch.equal(weights[name], before[0][name])
        assert torch.equal(gradients[name], before[2][name])
        assert torch.equal(vectors[name], before[3][name])
    for key, state in optimizer.state_dict()["state"].items():
        assert torch.equal(state["momentum_buffer"], before[1]["state"][key]["momentum_buffer"])


def test_reading_an_optimizer_that_has_not_stepped_leaves_its_state_empty():
    weights, optimizer = _prepared({"momentum": 0.9}, 0, None)
    VirtualStep(optimizer, weights, _tensors(1), None)
    assert len(optimizer.state) == 0


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_a_weight_without_gradient_stays_and_does_not_count_in_the_norm(max_grad_norm):
    weights, optimizer = _prepared({"weight_decay": 0.1, "momentum": 0.9}, 1, max_grad_norm)
    gradients = {**_tensors(1), "b": None}
    step = VirtualStep(optimizer, weights, gradients, max_grad_norm)
    assert torch.equal(step.weights["b"], weights["b"])
    assert set(step.transpose(_tensors(2))) == {"a"}
    _real_step(optimizer, weights, gradients, max_grad_norm)
    torch.testing.assert_close(step.weights["a"], weights["a"].detach(), rtol=1e-12, atol=1e-14)


def test_a_loss_that_does_not_depend_on_a_moved_weight_counts_as_zero():
    weights, optimizer = _prepared({}, 0, None)
    step = VirtualStep(optimizer, weights, _tensors(1), None)
    assert set(step.transpose({"a": None, "b": _tensors(2)["b"]})) == {"b"}
    clipped = VirtualStep(optimizer, weights, _tensors(1), 0.5)
    zero = torch.zeros(SHAPES["a"], dtype=torch.float64)
    missing, given = (clipped.transpose({"a": each, "b": _tensors(2)["b"]}) for each in (None, zero))
    assert all(torch.equal(missing[name], given[name]) for name in SHAPES)


def test_a_zero_gradient_is_not_divided_by():
    weights, optimizer = _prepared({}, 0, None)
    zeros = {name: torch.zeros_like(value) for name, value in weights.items()}
    step = VirtualStep(optimizer, weights, zeros, 0.5)
    assert all(torch.equal(step.weights[name], weights[name]) for name in SHAPES)
    assert all(value.isfinite().all() for value in step.transpose(_tensors(2)).values())


class _OtherSGD(torch.optim.SGD):
    pass


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, _OtherSGD])
def test_any_other_optimizer_is_refused(make):
    weights = {name: nn.Parameter(value) for name, value in _tensors(0).items()}
    with pytest.raises(UnsupportedError, match=f"must be sgd .* got {make.__name__}; use sgd, or order 1"):
        VirtualStep(make(weights.values(), lr=0.1), weights, _tensors(1), None)
