import copy
import pickle
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from nasframe.core import (
    ALPHA,
    Annealed,
    ArchParam,
    Candidate,
    Choice,
    Kind,
    LayerChoice,
    Level,
    MixedLayer,
    MixedOp,
    Model,
)
from nasframe.errors import ComponentError


class Plain(MixedOp):
    """The sum of all candidates, each times its alpha."""

    makes: ClassVar[tuple[Kind, ...]] = (ALPHA,)

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.arange(1.0, 1 + len(choice.candidates)))

    def weights(self) -> torch.Tensor:
        return self.alpha / self.alpha.sum()

    def forward(self, candidates: Sequence[Candidate], *args: Any, **kwargs: Any) -> Any:
        return sum(a * each(*args, **kwargs) for a, each in zip(self.alpha, candidates, strict=True))


class Warmth(nn.Module):
    """A module that changes over a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    def anneal(self, progress: float) -> None:
        self.heard.append(progress)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def supernet(*ids: str) -> Model:
    """Two sites for each choice, one after the other."""
    torch.manual_seed(0)
    choices: dict[str, Choice] = {name: LayerChoice(name, ("a", "b")) for name in ids}
    mixed_ops: dict[str, MixedOp] = {name: Plain(choice) for name, choice in choices.items()}
    sites = [MixedLayer(mixed_ops[name], [nn.Linear(3, 3), nn.Identity()]) for name in ids for _ in range(2)]
    return Model(nn.Sequential(*sites, Warmth()), choices, mixed_ops)


def test_forward_is_the_networks() -> None:
    model, x_BC = supernet("one"), torch.randn(4, 3)
    assert torch.equal(model(x_BC), model.network(x_BC))


def test_sites_of_a_choice_share_one_alpha_that_the_model_owns_once() -> None:
    model = supernet("one", "two")
    names = [name for name, _ in model.named_parameters_of("alpha")]
    assert names == ["mixed_ops.one.alpha", "mixed_ops.two.alpha"]
    assert [name for name in model.state_dict() if "alpha" in name] == names
    (model(torch.randn(4, 3)).sum()).backward()
    assert all(alpha.grad is not None for alpha in model.parameters_of(ALPHA))


def test_kinds_and_levels_divide_all_parameters() -> None:
    model = supernet("one", "two")
    assert set(model.kinds()) == {"alpha", "weight"}
    by_kind = [id(p) for kind in model.kinds() for p in model.parameters_of(kind)]
    by_level = [id(p) for level in Level for p in model.parameters_at(level)]
    everything = sorted(id(p) for p in model.parameters())
    assert sorted(by_kind) == sorted(by_level) == everything
    assert [id(p) for _, p in model.named_parameters_at("upper")] == [
        id(p) for p in model.parameters_of("alpha")
    ]


def test_choice_weights_are_normalized_detached_and_by_choice() -> None:
    weights = supernet("one", "two").choice_weights()
    assert list(weights) == ["one", "two"]
    assert all(torch.allclose(weight, torch.tensor([1 / 3, 2 / 3])) for weight in weights.values())
    assert not any(weight.requires_grad for weight in weights.values())


@pytest.mark.parametrize("name", ["keys", "pop", "items", "forward", "training", "weight", "T"])
def test_a_choice_may_have_any_legal_id(name: str) -> None:
    model = supernet(name)
    assert name in model.mixed_ops
    assert isinstance(model.mixed_ops[name], Plain)
    assert len(model.mixed_ops) == 1
    assert list(model.choice_weights()) == [name]
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    assert model.train().training


def test_a_network_without_a_search_has_weights_alone() -> None:
    model = Model(nn.Linear(2, 2))
    assert model.kinds() == ("weight",)
    assert list(model.parameters_at("upper")) == []
    assert model.choice_weights() == {}


def test_one_kind_at_two_levels_is_refused_when_the_model_is_made() -> None:
    network = nn.ParameterList([ArchParam(torch.zeros(1), Kind("beta", level)) for level in Level])
    with pytest.raises(ComponentError, match="beta"):
        Model(network)


def test_autocast_holds_for_the_forward_pass_alone_and_can_be_turned_off() -> None:
    model, x_BC = Model(nn.Linear(3, 3)), torch.randn(2, 3)
    model.autocast(torch.bfloat16)
    assert model(x_BC).dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")
    assert torch.nn.functional.linear(x_BC, torch.ones(3, 3)).dtype == torch.float32
    model.autocast(None)
    assert model(x_BC).dtype == torch.float32


def test_every_annealed_module_hears_the_progress_once() -> None:
    model = supernet("one")
    warmth = model.network[-1]  # type: ignore[index]
    assert isinstance(warmth, Annealed)
    for progress in (0.0, 0.5):
        model.anneal(progress)
    assert warmth.heard == [0.0, 0.5]


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_its_own_alphas_which_its_own_sites_use(way: Any) -> None:
    model = supernet("one")
    twin, x_BC = way(model), torch.randn(4, 3)
    before = model(x_BC)
    assert torch.equal(twin(x_BC), before)
    with torch.no_grad():
        next(twin.parameters_of("alpha")).mul_(2)
    assert torch.equal(model(x_BC), before)
    assert not torch.equal(twin(x_BC), before)
    assert twin.kinds() == model.kinds()
    assert twin.choices == model.choices


@pytest.mark.parametrize("assign", [False, True])
def test_loaded_alphas_are_those_that_the_sites_use(assign: bool) -> None:
    model, x_BC = supernet("one"), torch.randn(4, 3)
    other = supernet("one")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    model.load_state_dict({n: t.clone() for n, t in other.state_dict().items()}, assign=assign)
    assert torch.equal(model(x_BC), other(x_BC))
    assert set(model.kinds()) == {"alpha", "weight"}
    model(x_BC).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
