"""What is computed again in the backward pass is what is kept otherwise."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

import nasframe
from nasframe.core import (
    Block,
    Genotype,
    InputChoice,
    LayerChoice,
    Space,
    States,
    Task,
    WeightedSum,
    derived,
    generator_for,
    networks,
    recompute,
    sample,
    supernet,
)
from nasframe.errors import ComponentError, UnsupportedError
from nasframe.registry import BUILT_IN
from nasframe.spaces.surgery import Rule

TASK = Task(input_shape=(3, 16, 16), num_outputs=4)
SETTINGS = {
    "darts": {"channels": 2, "cells": 3, "nodes": 2},
    "macro": {"channels": 2, "stages": (1, 1), "features": 4},
    "mobile": {"widths": (4, 8), "depths": (1, 2), "strides": (1, 2), "features": 8},
    "mobile_elastic": {"widths": ((4,), (4, 8)), "depths": ((1,), (1, 2)), "strides": (1, 2), "features": 8},
    "mobile_stages": {"widths": ((4,), (4, 8)), "depths": ((1,), (1, 2)), "strides": (1, 2), "features": 8},
    "nas_bench_201": {"channels": 2, "cells": 1},
    "surgery": {
        "network": networks.component("resnet", channels=2, blocks=(1,)),
        "rules": (Rule("layer*.conv2", ("original", "sep_conv_3x3")),),
    },
}


def built_in(registry):
    names = nasframe.registries[registry].names()
    return [name for name in names if nasframe.registries[registry].origin(name) == BUILT_IN]


def space_of(name, **changes):
    return nasframe.registries["spaces"][name](TASK, **{**SETTINGS[name], **changes})


def both(make):
    """A model whose activations are kept, and one whose are not, from the same weights."""
    made = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        made.append(make(recomputed).double().to(memory_format=torch.channels_last))
    kept, again = made
    assert not any(module.recomputed for module in kept.modules() if isinstance(module, Block))
    assert any(module.recomputed for module in again.modules() if isinstance(module, Block))
    return kept, again


def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 16, 16, generator=generator, dtype=torch.float64)
    return images.contiguous(memory_format=torch.channels_last), torch.tensor([0, 1, 2, 3])


def loss_of(model):
    images, targets = batch()
    outputs = model(images)
    return functional.cross_entropy(outputs[0] if isinstance(outputs, tuple) else outputs, targets)


def pass_of(model, order=1):
    """Loss, gradients, buffers and random state after a forward and a backward pass."""
    torch.manual_seed(2)
    model.sample(torch.Generator().manual_seed(3))
    parameters = [each for each in model.parameters() if each.requires_grad]
    loss = loss_of(model)
    gradients = torch.autograd.grad(loss, parameters, create_graph=order == 2, allow_unused=True)
    assert any(each is not None and each.any() for each in gradients)
    if order == 2:
        slope = sum((each**2).sum() for each in gradients if each is not None)
        gradients += torch.autograd.grad(slope, parameters, allow_unused=True)
    return [loss, *gradients, *model.buffers(), torch.get_rng_state()]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


@pytest.mark.parametrize("mixed_op", built_in("mixed_ops"))
@pytest.mark.parametrize("space", built_in("spaces"))
def test_supernets_of_all_spaces_and_mixed_ops_are_the_same_bit_for_bit(space, mixed_op):
    kept, again = both(lambda recomputed: supernet(space_of(space), mixed_op, recomputed=recomputed))
    assert_equal(pass_of(again), pass_of(kept))


@pytest.mark.parametrize("fused", [True, False])
def test_second_derivatives_are_the_same_bit_for_bit(fused):
    kept, again = both(lambda recomputed: supernet(space_of("darts"), fused=fused, recomputed=recomputed))
    assert_equal(pass_of(again, order=2), pass_of(kept, order=2))


@pytest.mark.parametrize("space", ["darts", "mobile"])
def test_derived_networks_are_the_same_bit_for_bit_with_paths_dropped(space):
    changes = {"auxiliary": True, "drop_path": 0.5} if space == "darts" else {}
    genotype = sample(space_of(space), generator_for(0))

    def make(recomputed):
        model = derived(space_of(space, **changes), genotype, recomputed=recomputed)
        model.anneal(1.0)
        return model

    kept, again = both(make)
    assert_equal(pass_of(again), pass_of(kept))


def test_names_of_weights_and_evaluation_are_the_same():
    kept, again = both(lambda recomputed: supernet(space_of("darts"), recomputed=recomputed))
    again.load_state_dict(kept.state_dict(), strict=True)
    images, _ = batch()
    assert torch.equal(again.eval()(images), kept.eval()(images))


def test_a_copy_is_recomputed_by_its_own_weights():
    _, again = both(lambda recomputed: supernet(space_of("darts"), recomputed=recomputed))
    other = copy.deepcopy(again)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    kept, _ = both(lambda recomputed: supernet(space_of("darts"), recomputed=recomputed))
    assert_equal(pass_of(other), pass_of(kept))


def bytes_kept(model):
    seen = {}

    def pack(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(model)
    return sum(seen.values()), loss


def test_little_is_kept():
    kept, again = both(lambda recomputed: supernet(space_of("darts", cells=5), recomputed=recomputed))
    assert bytes_kept(again)[0] < 0.2 * bytes_kept(kept)[0]


class Jumpy(nn.Module):
    """Depends on its own buffer and on chance, and moves both."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return torch.tanh(x * self.weight * self.count) * torch.rand_like(x)


class Counting(WeightedSum):
    """Counts its passes in a buffer, which its mixture depends on."""

    def __init__(self, choice):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def weights(self):
        return torch.tensor([0.25, 0.75])

    def mixture(self):
        self.passes += 1
        return self.weights() * self.passes


class Cell(nn.Module):
    """A cell that is no block, whose nodes read one growing list of states."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes = nn.ModuleList(nodes)

    def forward(self, x):
        states = States([x[:, :1], x[:, 1:2]])
        for node in self.nodes:
            states.append(node(states))
        return (states[2] + states[3]).flatten(1)[:, :4]


class Foreign(Space):
    def build(self, filler):
        def edge(node, state):
            choice = LayerChoice(f"edge_{node}_{state}", ("a", "b"))
            pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(1, affine=False))
            return filler.layer(choice, lambda name: Jumpy() if name == "a" else pool)

        def node(index):
            edges = tuple(f"edge_{index}_{state}" for state in range(index))
            choice = InputChoice(f"node_{index}", tuple(map(str, range(index))), num_chosen=2, edges=edges)
            return filler.inputs(choice, lambda state: edge(index, state))

        return Cell([node(2), node(3)])


@pytest.mark.parametrize("fused", [True, False])
def test_a_foreign_space_is_recomputed_site_by_site_with_the_buffers_and_draws_of_the_first_pass(fused):
    kept, again = both(lambda recomputed: supernet(Foreign(), Counting, fused=fused, recomputed=recomputed))
    assert_equal(pass_of(again), pass_of(kept))
    assert {int(module.passes) for module in again.modules() if isinstance(module, Counting)} == {1}
    assert_equal(pass_of(again), pass_of(kept))


def test_a_second_backward_pass_gives_the_same_and_moves_nothing():
    _, again = both(lambda recomputed: supernet(Foreign(), Counting, recomputed=recomputed))
    loss, parameters = loss_of(again), list(again.parameters())
    before = [buffer.clone() for buffer in again.buffers()]
    first = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    assert_equal(torch.autograd.grad(loss, parameters, allow_unused=True), first)
    assert_equal(again.buffers(), before)


def test_parameters_swapped_for_the_forward_pass_are_those_of_the_backward_pass():
    kept, again = both(lambda recomputed: supernet(space_of("darts"), recomputed=recomputed))
    found = []
    for model in (kept, again):
        moved = {name: (2 * p).detach().requires_grad_() for name, p in model.named_parameters_of("weight")}
        with nasframe.core.swapped(model, moved):
            loss = loss_of(model)
        found.append(torch.autograd.grad(loss, list(moved.values()), allow_unused=True))
    assert_equal(found[1], found[0])


def test_gates_compute_again_what_was_drawn_at_first():
    kept, again = both(lambda recomputed: supernet(space_of("macro"), "binary_gate", recomputed=recomputed))
    for seed in range(3):
        for model in (kept, again):
            model.sample(torch.Generator().manual_seed(seed))
        assert_equal(
            torch.autograd.grad(loss_of(again), list(again.parameters()), allow_unused=True),
            torch.autograd.grad(loss_of(kept), list(kept.parameters()), allow_unused=True),
        )


def calls_in_a_pass(model):
    """How often each cell is computed in a forward and a backward pass."""
    calls = [0] * len(model.network.cells)

    def count(index):
        calls[index] += 1

    handles = [
        cell.preprocess[0].register_forward_hook(lambda *_, index=index: count(index))
        for index, cell in enumerate(model.network.cells)
    ]
    passed = pass_of(model)
    for handle in handles:
        handle.remove()
    return calls, passed


def test_the_last_blocks_are_kept_as_far_as_they_take_no_more_than_a_recomputed_one():
    kept, again = both(lambda recomputed: supernet(space_of("darts", cells=5), recomputed=recomputed))
    first, passed = calls_in_a_pass(again)
    assert_equal(passed, pass_of(kept))
    second, passed = calls_in_a_pass(again)
    assert_equal(passed, pass_of(kept))
    assert first == [2] * 5
    num_recomputed = second.count(2)
    assert 0 < num_recomputed < 5
    assert second == [2] * num_recomputed + [1] * (5 - num_recomputed)

    sizes = []  # of what each cell would keep, its parameters included
    for cell in kept.network.cells:
        cell.register_forward_pre_hook(lambda *_: sizes.append(0))
    storages = set()

    def pack(tensor):
        storage = tensor.untyped_storage()
        if sizes and storage.data_ptr() not in storages and not isinstance(tensor, nn.Parameter):
            storages.add(storage.data_ptr())
            sizes[-1] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(kept)
    assert sum(sizes[num_recomputed:]) < 1.2 * max(sizes[:num_recomputed])
    assert sum(sizes[num_recomputed - 1 :]) > max(sizes[: num_recomputed - 1])
    del loss


class Lines(Block):
    """A line through its input, whose slope is read from outside and whose parts may be changed."""

    def __init__(self, slope, layer):
        super().__init__()
        self.slope, self.layer = [slope], layer

    def compute(self, x):
        return torch.tanh(self.layer(x) * self.slope[0]) * 3


def test_a_tensor_that_is_read_from_outside_has_its_gradient():
    found = []
    for recomputed in (False, True):
        alpha = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        block = Lines(torch.softmax(alpha, 0), nn.Identity())
        block.recomputed = recomputed
        x = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
        found.append(torch.autograd.grad(block(x).sum(), [alpha, x]))
    assert_equal(found[1], found[0])


def test_autocast_is_that_of_the_forward_pass():
    found = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        block = Lines(torch.tensor(1.0), nn.Linear(3, 3))
        block.recomputed = recomputed
        with torch.autocast("cpu", torch.bfloat16):
            out = block(torch.ones(2, 3))
        found.append(torch.autograd.grad(out.float().sum(), list(block.parameters())))
    assert_equal(found[1], found[0])


@pytest.mark.parametrize("written", ["input", "parameter"])
def test_an_input_or_parameter_that_was_written_into_is_refused(written):
    block = Lines(torch.tensor(1.0), nn.Linear(2, 2))
    block.recomputed = True
    x = torch.ones(1, 2)
    out = block(x)
    with torch.no_grad():
        (x if written == "input" else block.layer.weight).add_(1)
    with pytest.raises(ComponentError, match="recomputed: inputs and parameters of a block must stay"):
        out.sum().backward()


def test_a_block_that_computes_something_else_the_second_time_is_refused():
    class Growing(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return torch.exp(x).repeat(self.calls)

    block = Lines(torch.tensor(1.0), Growing())
    block.recomputed = True
    out = block(torch.ones(2, requires_grad=True))
    with pytest.raises(ComponentError, match="must compute the same in the backward pass"):
        out.sum().backward()


def test_only_the_outermost_blocks_are_recomputed():
    model = supernet(space_of("darts"), recomputed=True)
    found = [
        name for name, module in model.named_modules() if isinstance(module, Block) and module.recomputed
    ]
    assert found == ["network.cells.0", "network.cells.1", "network.cells.2"]


def test_a_network_without_blocks_is_refused():
    class Plain(Space):
        def build(self, filler):
            choice = LayerChoice("only", ("a", "b"))
            return filler.layer(choice, lambda name: nn.Linear(3, 4))

    with pytest.raises(UnsupportedError, match="recomputed: the network must have a block"):
        derived(Plain(), Genotype({"only": ("a",)}), recomputed=True)
    assert recompute(nn.Linear(3, 4)) == 0
