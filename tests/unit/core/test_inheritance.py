"""A derived network with the supernet's weights computes what the supernet computed for that sample."""

import copy

import pytest
import torch
from torch import nn

from nasframe.core import (
    Genotype,
    InputChoice,
    LayerChoice,
    Space,
    Task,
    ValueChoice,
    derived,
    generator_for,
    inherit,
    sample,
    spaces,
    supernet,
)
from nasframe.errors import FormatError, UnsupportedError

TASK = Task((3, 8, 8), 5)
MOBILE = {"strides": (2, 1), "stem": "cifar", "stem_channels": 4, "first_channels": 3, "features": 8}
ELASTIC = {"kernel_sizes": (3, 5), "expansions": (3, 2), **MOBILE}
DARTS = {"channels": 2, "cells": 3, "nodes": 2, "stem_multiplier": 1}


@pytest.fixture(autouse=True)
def double_precision():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class _Zoo(Space):
    """Vectors through each kind of choice; `place` is asked twice, `inner` within a candidate of `outer`."""

    def build(self, filler):
        return _ZooNetwork(filler)


class _ZooNetwork(nn.Module):
    def __init__(self, filler):
        super().__init__()
        place = LayerChoice("place", ("linear", "tanh", "identity"))
        self.first, self.second = filler.layer(place, _layer), filler.layer(place, _layer)
        self.merge = filler.inputs(
            InputChoice("merge", ("a", "b", "c"), num_chosen=2), lambda _: nn.Linear(4, 4)
        )
        inner, outer = ValueChoice.of("inner", (2, 3, 5)), LayerChoice("outer", ("nested", "plain"))

        def hidden(size):
            return nn.Sequential(nn.Linear(4, size), nn.BatchNorm1d(size), nn.ReLU(), nn.Linear(size, 4))

        self.nested = filler.layer(
            outer, lambda name: filler.value(inner, hidden) if name == "nested" else nn.Linear(4, 4)
        )
        width = ValueChoice.of("width", (6, 3))
        self.wide = filler.value(width, lambda size: nn.Linear(4, size), pad_output=True)
        self.deep = filler.repeat(ValueChoice.of("depth", (3, 1, 2)), lambda _: _Residual(filler, width))
        self.head = filler.value(width, lambda size: nn.Linear(size, 5), narrow_input=True)

    def forward(self, x):
        x = x.flatten(1)[:, :4]
        one = self.first(x)
        return self.head(self.deep(self.wide(self.nested(self.merge([x, one, self.second(one)])))))


class _Residual(nn.Module):
    """x + tanh(W x), of a width that is chosen."""

    def __init__(self, filler, width):
        super().__init__()
        self.site = filler.value(
            width,
            lambda size: nn.Sequential(nn.Linear(size, size), nn.Tanh()),
            narrow_input=True,
            pad_output=True,
        )

    def forward(self, x):
        return x + self.site(x)


def _layer(name):
    return {
        "linear": nn.Linear(4, 4),
        "tanh": nn.Sequential(nn.Linear(4, 4), nn.Tanh()),
        "identity": nn.Identity(),
    }[name]


SPACES = {
    "zoo": _Zoo(),
    "macro": spaces["macro"](TASK, channels=2, stages=(1, 2), features=8),
    "mobile": spaces["mobile"](TASK, widths=(4, 6), depths=(2, 1), **MOBILE),
    "mobile_elastic": spaces["mobile_elastic"](
        TASK, widths=((4, 6), (8, 4)), depths=((3, 1), (1, 2)), **ELASTIC
    ),
    "mobile_stages": spaces["mobile_stages"](
        TASK,
        operations=("fused_k3_e1", "fused_k3_e2", "mb_k3_e3"),
        widths=((4, 6), (8, 4)),
        depths=((3, 1), (1, 2)),
        **MOBILE,
    ),
    "darts": spaces["darts"](
        TASK, operations=("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"), **DARTS
    ),
}


def _trained(space, mixed_op):
    """A supernet whose weights and statistics are nothing special; batch-norm parameters too."""
    model = supernet(space, mixed_op)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                if module.weight is not None:
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_()
    return model


def _samples(model):
    """Some draws, each with the genotype that it is; the most likely architecture is the drawn one."""
    generator = generator_for(1)
    for _ in range(6):
        for op in model.mixed_ops.values():
            nn.init.zeros_(op.alpha)
        model.sample(generator)
        kept = {choice.id: choice.candidates for choice in model.choices.values()}
        for name, op in model.mixed_ops.items():
            kept[name] = tuple(model.choices[name].candidates[index] for index in op.active)
            with torch.no_grad():
                op.alpha[list(op.active)] = 1.0
        yield model.genotype(kept)


X = torch.randn(4, 3, 8, 8, generator=generator_for(0), dtype=torch.float64)


def _same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["zoo", "macro", "mobile", "mobile_elastic", "mobile_stages"])
def test_a_derived_network_computes_what_the_supernet_computed_for_that_sample(name):
    model = _trained(SPACES[name], "binary_gate")
    seen = set()
    for genotype in _samples(model):
        network = inherit(derived(SPACES[name], genotype), model, genotype)
        _same(network.eval()(X), model.eval()(X))
        trained = copy.deepcopy(model)  # passes in training mode move statistics
        _same(network.train()(X), trained.train()(X))
        _same(network.eval()(X), trained.eval()(X))
        seen.add(genotype)
    assert len(seen) > 3


@pytest.mark.parametrize("name", ["macro", "mobile", "mobile_elastic", "mobile_stages", "darts"])
def test_it_is_the_softmax_supernet_at_the_corner_of_an_architecture(name):
    model = _trained(SPACES[name], "softmax")
    genotype = sample(SPACES[name], generator_for(0))
    with torch.no_grad():
        for choice, op in model.mixed_ops.items():
            candidates = model.choices[choice].candidates
            (kept,) = genotype.choices.get(choice, ("none",) if "none" in candidates else candidates[:1])
            # the softmax is exactly one-hot: exp(-1000) is 0
            op.alpha.fill_(-1000.0)[candidates.index(kept)] = 0.0
    network = inherit(derived(SPACES[name], genotype), model, genotype)
    _same(network.eval()(X), model.eval()(X))


def test_every_weight_and_statistic_is_the_supernet_s():
    model = _trained(SPACES["mobile_elastic"], "softmax")
    genotype = sample(SPACES["mobile_elastic"], generator_for(0))
    networks = [derived(SPACES["mobile_elastic"], genotype) for _ in range(2)]
    with torch.no_grad():
        for value in networks[1].parameters():
            value.fill_(7.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for network in networks:
        assert inherit(network, model, genotype) is network
    one, other = (network.state_dict() for network in networks)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_statistics_that_the_supernet_does_not_keep_stay_those_of_the_new_network():
    space = spaces["nas_bench_201"](TASK, channels=2, cells=1, track_running_stats=False)
    kept = ("nor_conv_1x1", "nor_conv_3x3", "skip_connect", "avg_pool_3x3", "nor_conv_3x3", "nor_conv_1x1")
    genotype = space.genotype("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*kept))
    model = supernet(space, "uniform_path")
    model.take(genotype)
    network = inherit(derived(space, genotype), model, genotype)
    _same(network.train()(X), model.train()(X))
    fresh = {
        id(norm): (norm.running_mean.clone(), norm.num_batches_tracked.item())
        for norm in network.modules()
        if isinstance(norm, nn.BatchNorm2d)
    }
    assert inherit(network, model, genotype) is network  # moved by the pass, and left alone now
    for norm in (each for each in network.network.cells.modules() if isinstance(each, nn.BatchNorm2d)):
        mean, count = fresh[id(norm)]
        assert torch.equal(norm.running_mean, mean)
        assert norm.num_batches_tracked.item() == count == 1


def test_inherited_weights_are_copies():
    model = _trained(SPACES["macro"], "softmax")
    genotype = sample(SPACES["macro"], generator_for(0))
    network = inherit(derived(SPACES["macro"], genotype), model, genotype)
    before = model.state_dict()["network.head.classifier.weight"].clone()
    nn.init.zeros_(network.network.head.classifier.weight)
    assert torch.equal(model.network.head.classifier.weight, before)


def test_a_part_that_derived_networks_have_otherwise_is_refused_and_nothing_changes():
    space = spaces["darts"](TASK, operations=("max_pool_3x3",), **DARTS)
    model, genotype = supernet(space), sample(space, generator_for(0))
    network = derived(space, genotype)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(
        UnsupportedError, match=r"is Sequential of 2 modules there and MaxPool2d of 0 modules here"
    ):
        inherit(network, model, genotype)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_networks_of_other_settings_are_refused():
    model, genotype = supernet(SPACES["macro"]), sample(SPACES["macro"], generator_for(0))
    wider = derived(spaces["macro"](TASK, channels=3, stages=(1, 2), features=8), genotype)
    with pytest.raises(UnsupportedError, match=r"has \(2, 3, 3, 3\) there and \(3, 3, 3, 3\) here"):
        inherit(wider, model, genotype)


def test_a_layer_that_lost_its_bias_is_refused():
    class Plain(Space):
        def __init__(self, bias):
            self._bias = bias

        def build(self, filler):
            return filler.layer(LayerChoice("layer", ("one",)), lambda _: nn.Linear(3, 3, bias=self._bias))

    genotype = Genotype({"layer": ("one",)})
    with pytest.raises(UnsupportedError, match=r"bias` .* has \(3,\) there and none here"):
        inherit(derived(Plain(False), genotype), supernet(Plain(True)), genotype)
    with pytest.raises(UnsupportedError, match=r"bias` .* has none there and \(3,\) here"):
        inherit(derived(Plain(True), genotype), supernet(Plain(False)), genotype)


@pytest.mark.parametrize("kept", [(), ("mb_k9_e9",), ("identity", "mb_k3_e3")])
def test_a_genotype_of_another_network_is_refused(kept):
    model, genotype = supernet(SPACES["macro"]), sample(SPACES["macro"], generator_for(0))
    other = Genotype({**genotype.choices, "layer_0": kept})
    with pytest.raises(FormatError, match="choice `layer_0` must keep 1 of"):
        inherit(derived(SPACES["macro"], genotype), model, other)
