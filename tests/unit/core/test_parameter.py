"""Kinds of parameters are disjoint, complete, and stay with their parameters."""

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as distributed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasframe.core import (
    ALPHA,
    WEIGHT,
    ArchParam,
    Kind,
    Level,
    Model,
    keep_kinds_on_load,
    kind_of,
    kinds,
    named_parameters_at,
    named_parameters_of,
)
from nasframe.errors import ComponentError

BETA = Kind("beta", Level.UPPER)
MASK = Kind("mask", Level.LOWER)


class Everything(nn.Module):
    """Parameters of four kinds, in each of the containers of PyTorch, some shared."""

    def __init__(self) -> None:
        super().__init__()
        self.own = ArchParam(torch.zeros(2))
        self.listed = nn.ParameterList([ArchParam(torch.zeros(3)), nn.Parameter(torch.zeros(3))])
        self.named = nn.ParameterDict(
            {"beta": ArchParam(torch.ones(2), BETA), "weight": nn.Parameter(torch.ones(1))}
        )
        self.mask = ArchParam(torch.ones(1), MASK)
        self.left, self.right = nn.Linear(2, 2), nn.Linear(2, 2)
        self.left.gate = self.right.gate = ArchParam(torch.tensor(1.0))
        self.alpha_but_a_weight = nn.Parameter(torch.zeros(1))

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        total = sum(parameter.sum() for parameter in self.parameters())
        return self.left(x_BC) + self.right(x_BC) + total


KINDS_BY_NAME = {
    "own": "alpha",
    "listed.0": "alpha",
    "left.gate": "alpha",
    "named.beta": "beta",
    "mask": "mask",
    "listed.1": "weight",
    "named.weight": "weight",
    "left.weight": "weight",
    "left.bias": "weight",
    "right.weight": "weight",
    "right.bias": "weight",
    "alpha_but_a_weight": "weight",
}


UNTIED = {**KINDS_BY_NAME, "right.gate": "alpha"}
"""After ``assign=True``, by which PyTorch gives each name a parameter of its own."""


def kinds_by_name(module: nn.Module, prefix: str = "") -> dict[str, str]:
    """Kind of each name, read through `named_parameters_of`."""
    found = [
        (name.removeprefix(prefix), kind)
        for kind in kinds(module)
        for name, _ in named_parameters_of(module, kind)
    ]
    assert len(dict(found)) == len(found), "a parameter must have one kind"
    return dict(found)


def test_kind_is_what_was_declared_whatever_the_name_says() -> None:
    assert kinds_by_name(Everything()) == KINDS_BY_NAME


def test_undeclared_parameters_are_weights() -> None:
    assert kind_of(nn.Parameter(torch.zeros(1))) == WEIGHT
    assert kind_of(ArchParam(torch.zeros(1))) == ALPHA
    assert kinds(nn.Linear(2, 2)) == ("weight",)
    assert kinds(nn.ReLU()) == ()


def test_levels_divide_the_parameters() -> None:
    upper = {name for name, _ in named_parameters_at(Everything(), "upper")}
    lower = {name for name, _ in named_parameters_at(Everything(), Level.LOWER)}
    assert upper == {name for name, kind in KINDS_BY_NAME.items() if kind in ("alpha", "beta")}
    assert lower == KINDS_BY_NAME.keys() - upper


def test_an_unknown_level_is_an_error_and_an_unknown_kind_is_empty() -> None:
    with pytest.raises(ValueError, match="middle"):
        list(named_parameters_at(Everything(), "middle"))
    assert list(named_parameters_of(Everything(), "gamma")) == []


def test_one_name_with_two_levels_is_refused() -> None:
    module = nn.ParameterList([ArchParam(torch.zeros(1), Kind("mask", level)) for level in Level])
    with pytest.raises(ComponentError, match="mask"):
        kinds(module)


def test_a_shared_parameter_occurs_once_under_its_first_name() -> None:
    names = [name for name, _ in named_parameters_of(Everything(), ALPHA)]
    assert names == ["own", "listed.0", "left.gate"]


def test_arch_param_is_a_parameter_in_every_other_respect() -> None:
    frozen = ArchParam(torch.ones(2), requires_grad=False)
    assert isinstance(frozen, nn.Parameter)
    assert not frozen.requires_grad
    live = ArchParam(torch.tensor([1.0, 2.0]))
    (live**2).sum().backward()
    assert torch.equal(live.grad, torch.tensor([2.0, 4.0]))
    assert type(live * 2) is torch.Tensor
    assert type(live.detach()) is not ArchParam or not live.detach().requires_grad


def test_deepcopy_keeps_kinds_sharing_freezing_and_layout() -> None:
    module = Everything()
    module.own.requires_grad_(False)
    module.kernel = ArchParam(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    twin = copy.deepcopy(module)
    assert kinds_by_name(twin) == {**KINDS_BY_NAME, "kernel": "alpha"}
    assert twin.left.gate is twin.right.gate
    assert twin.left.gate is not module.left.gate
    assert not twin.own.requires_grad
    assert twin.kernel.is_contiguous(memory_format=torch.channels_last)
    assert kind_of(copy.deepcopy(module.named["beta"])) == BETA


def test_deepcopy_shares_no_memory() -> None:
    module = Everything()
    twin = copy.deepcopy(module)
    with torch.no_grad():
        twin.own.add_(1)
    assert torch.equal(module.own, torch.zeros(2))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_keeps_kinds_and_values(protocol: int) -> None:
    module = Everything()
    with torch.no_grad():
        module.own.fill_(3.0)
    twin = pickle.loads(pickle.dumps(module, protocol))
    assert kinds_by_name(twin) == KINDS_BY_NAME
    assert torch.equal(twin.own, module.own)
    assert kind_of(twin.named["beta"]) == BETA


def test_torch_save_keeps_kinds_of_a_module_and_writes_a_state_that_loads_safely() -> None:
    module, whole, state = Everything(), io.BytesIO(), io.BytesIO()
    torch.save(module, whole)
    whole.seek(0)
    assert kinds_by_name(torch.load(whole, weights_only=False)) == KINDS_BY_NAME
    torch.save(module.state_dict(), state)
    state.seek(0)
    assert torch.load(state, weights_only=True).keys() == module.state_dict().keys()


@pytest.mark.parametrize("assign", [False, True])
def test_loading_keeps_kinds_takes_values_and_keeps_frozen(assign: bool) -> None:
    module = Everything()
    module.named["beta"].requires_grad_(False)
    keep_kinds_on_load(module)
    state = {name: torch.full_like(tensor, 7.0) for name, tensor in module.state_dict().items()}
    module.load_state_dict(state, assign=assign)
    assert kinds_by_name(module) == (UNTIED if assign else KINDS_BY_NAME)
    assert all(bool((parameter == 7).all()) for parameter in module.parameters())
    assert not module.named["beta"].requires_grad


@pytest.mark.parametrize("assign", [False, True])
def test_loading_into_a_copy_and_into_a_part_keeps_kinds(assign: bool) -> None:
    module = Everything()
    keep_kinds_on_load(module)
    twin = copy.deepcopy(module)
    twin.load_state_dict(module.state_dict(), assign=assign)
    assert kinds_by_name(twin) == (UNTIED if assign else KINDS_BY_NAME)
    assert kinds_by_name(module) == KINDS_BY_NAME
    twin.left.load_state_dict({n: t.clone() for n, t in module.left.state_dict().items()}, assign=assign)
    assert kind_of(twin.left.gate) == ALPHA


def test_assigning_twice_keeps_kinds_and_adds_no_second_hook() -> None:
    module = Everything()
    for _ in range(3):
        keep_kinds_on_load(module)
        state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        module.load_state_dict(state, assign=True)
    assert kinds_by_name(module) == UNTIED
    assert len(module._load_state_dict_post_hooks) == 1


def test_conversions_keep_kinds() -> None:
    module = Everything().to(torch.float64).half().float().requires_grad_(False)
    assert kinds_by_name(module) == KINDS_BY_NAME


def test_the_meta_device_keeps_kinds() -> None:
    with torch.device("meta"):
        assert kinds_by_name(Everything()) == KINDS_BY_NAME


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_kinds_are_seen_through_ddp() -> None:
    wrapped = nn.parallel.DistributedDataParallel(Everything())
    assert kinds_by_name(wrapped, "module.") == KINDS_BY_NAME
    wrapped(torch.ones(1, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in wrapped.parameters())


def test_kinds_are_seen_through_compile() -> None:
    wrapped: Any = torch.compile(Everything(), backend="eager")
    assert kinds_by_name(wrapped, "_orig_mod.") == KINDS_BY_NAME


def test_a_compiled_network_reaches_the_gradient_of_its_alphas() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alpha = ArchParam(torch.tensor([1.0, 2.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.alpha**2 * x).sum()

    network = Small()
    torch.compile(network, backend="eager")(torch.tensor([1.0, 10.0])).backward()
    assert torch.equal(network.alpha.grad, torch.tensor([2.0, 40.0]))


ANY_KIND = st.sampled_from([ALPHA, WEIGHT, BETA, MASK])


@st.composite
def modules(draw: st.DrawFn) -> tuple[nn.Module, dict[int, Kind]]:
    """A nest of containers over a few parameters, shared at random, and the kind of each by id."""
    made = [
        nn.Parameter(torch.zeros(1)) if kind is WEIGHT else ArchParam(torch.zeros(1), kind)
        for kind in draw(st.lists(ANY_KIND, min_size=1, max_size=5))
    ]
    root = nn.Module()
    used: dict[int, Kind] = {}
    for index, pick in enumerate(draw(st.lists(st.sampled_from(made), max_size=8))):
        place = draw(st.sampled_from(["own", "list", "dict", "child"]))
        if place == "own":
            root.register_parameter(f"p{index}", pick)
        elif place == "list":
            root.add_module(f"p{index}", nn.ParameterList([pick, pick]))
        elif place == "dict":
            root.add_module(f"p{index}", nn.ParameterDict({"alpha": pick}))
        else:
            child = nn.Module()
            child.register_parameter("weight", pick)
            root.add_module(f"p{index}", nn.Sequential(child))
        used[id(pick)] = kind_of(pick)
    return root, used


@settings(max_examples=60, deadline=None)
@given(modules())
def test_kinds_are_disjoint_and_together_complete(drawn: tuple[nn.Module, dict[int, Kind]]) -> None:
    module, used = drawn
    by_kind = {kind: [id(p) for _, p in named_parameters_of(module, kind)] for kind in kinds(module)}
    flat = [key for keys in by_kind.values() for key in keys]
    assert len(flat) == len(set(flat))
    assert set(flat) == {id(parameter) for parameter in module.parameters()} == set(used)
    for kind, keys in by_kind.items():
        assert all(used[key].name == kind for key in keys)
    levels = [id(p) for level in Level for _, p in named_parameters_at(module, level)]
    assert sorted(levels) == sorted(flat)
    assert kinds_by_name(copy.deepcopy(module)) == kinds_by_name(module)
    assert kinds_by_name(pickle.loads(pickle.dumps(module))) == kinds_by_name(module)


def test_making_a_model_of_the_meta_device_real_keeps_kinds():
    with torch.device("meta"):
        both = [ArchParam(torch.zeros(2)), torch.nn.Parameter(torch.zeros(3))]
        model = Model(torch.nn.ParameterList(both))
    model.to_empty(device="cpu")
    assert [p.shape for p in model.parameters_of("alpha")] == [(2,)]
    assert [p.shape for p in model.parameters_of("weight")] == [(3,)]
