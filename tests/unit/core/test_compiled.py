"""Compiled passes are those of the model, in one graph each; what cannot be compiled is refused."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasframe.algorithms.darts_bilevel import DartsBilevel
from nasframe.core import (
    Batch,
    Filler,
    InputChoice,
    LayerChoice,
    Model,
    Space,
    WeightUpdate,
    derived,
    mixed_ops,
    supernet,
)
from nasframe.core.compiled import check_compiles, compiled
from nasframe.core.finite import source_of_non_finite
from nasframe.errors import UnsupportedError
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.ops.drop_path import DropPath
from nasframe.ops.skip_dropout import SkipDropout
from nasframe.optimizers.sgd import sgd

PARTS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
    "skip": lambda: SkipDropout(0.5),
    "pool": lambda: nn.AvgPool2d(3, 1, 1),
}


class _Network(nn.Module):
    """Two sites of one layer choice and an input choice."""

    def __init__(self, filler: Filler, dropped: float) -> None:
        super().__init__()
        parts = {**PARTS, "skip": lambda: SkipDropout(dropped)}
        choice = LayerChoice("op", tuple(parts))
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.one, self.two = (filler.layer(choice, lambda name: parts[name]()) for _ in range(2))
        self.join = filler.inputs(InputChoice("join", ("0", "1", "2"), num_chosen=2), lambda _: nn.Identity())
        self.drop = DropPath(dropped)
        self.head = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.stem(images)
        second = self.one(first)
        joined = self.drop(self.join([first, second, self.two(second)]))
        return self.head(joined.mean((2, 3)))


class _Space(Space):
    def __init__(self, dropped: float = 0.0) -> None:
        self._dropped = dropped

    def build(self, filler: Filler) -> nn.Module:
        return _Network(filler, self._dropped)


class _Counting:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.num_graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.num_graphs += 1
        return graph.forward  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.compiler.reset()


def _batch(seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 3, 8, 8, generator=generator)
    return Batch(images, torch.randint(3, (4,), generator=generator))


def _supernet(mixed_op: str = "softmax", dropped: float = 0.0) -> Model:
    torch.manual_seed(0)
    model = supernet(_Space(dropped), mixed_op)
    model.sample(torch.Generator().manual_seed(0))
    return model


def _pass(model: Model) -> list[torch.Tensor]:
    """Loss, gradients and buffers of a pass."""
    torch.manual_seed(2)
    batch = _batch()
    loss = functional.cross_entropy(model(batch.inputs), batch.targets)
    gradients = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True, allow_unused=True)
    return [loss.detach(), *gradients, *(buffer.clone() for buffer in model.buffers())]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's, of itself
@pytest.mark.parametrize("name", sorted(set(mixed_ops) - {"binary_gate"}))
def test_a_supernet_is_one_graph(name: str) -> None:
    backend, model, plain = _Counting(), _supernet(name), _supernet(name)
    with compiled(model, backend):
        torch.testing.assert_close(_pass(model), _pass(plain), rtol=0, atol=1e-12)
        assert backend.num_graphs == 1
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_temperatures_and_chances_of_dropping_are_not_compiled_into_a_pass() -> None:
    model = _supernet("concrete", dropped=0.3)
    with compiled(model, backend := _Counting()):
        for progress in (0.0, 0.2, 0.4, 0.6):
            model.anneal(progress)
            _pass(model)
    assert backend.num_graphs == 2  # with and without dropped paths


def test_a_derived_network_is_one_graph() -> None:
    kept = {"op": ("conv",), "join": ("0", "2")}
    torch.manual_seed(0)
    model = derived(_Space(), _supernet().genotype(kept))
    with compiled(model, backend := _Counting()):
        after = _pass(model)
    assert backend.num_graphs == 1
    torch.manual_seed(0)
    torch.testing.assert_close(
        after, _pass(derived(_Space(), _supernet().genotype(kept))), rtol=0, atol=1e-12
    )


def _algorithm(**settings: Any) -> tuple[Model, DartsBilevel, WeightUpdate]:
    model, objective = _supernet(), CrossEntropy()
    update = WeightUpdate(model, objective, sgd(list(model.parameters_at("lower"))), max_grad_norm=5.0)
    return model, DartsBilevel(model, objective, order=2, **settings), update


def test_steps_of_second_order_are_those_of_a_model_that_is_not_compiled() -> None:
    ends, backend = [], _Counting()
    for is_compiled in (False, True):
        model, algorithm, update = _algorithm()
        with compiled(model, backend) if is_compiled else nullcontext():
            for seed in (3, 4):
                algorithm.step(_batch(seed), _batch(seed + 10), update)
        ends.append(model.state_dict())
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-9)
    assert backend.num_graphs == 4  # ∇w L_t, at w', at w ± εv without gradients for weights, the weights' own


def test_the_exact_product_is_not_left_to_a_compiler_that_cannot_differentiate_twice() -> None:
    model, algorithm, update = _algorithm(hessian="exact")
    expected = algorithm.upper_gradients(_batch(3), _batch(13), update)
    with compiled(model, "aot_eager"):
        found = algorithm.upper_gradients(_batch(3), _batch(13), update)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_the_source_of_what_is_not_finite_is_found_in_a_compiled_network() -> None:
    model = _supernet()
    with torch.no_grad():
        model.network.head.weight.fill_(1e308)
    with compiled(model, _Counting()):
        model(_batch().inputs)
        assert source_of_non_finite(model, 100 * _batch().inputs) == "the output of network.head (Linear)"


def test_a_model_is_as_before_also_after_an_error() -> None:
    model = _supernet()
    with pytest.raises(KeyError), compiled(model, _Counting()):
        raise KeyError("anything")
    assert model.network._compiled_call_impl is None


def test_a_compiler_that_fails_is_an_error_that_says_what_to_do() -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise OSError("no C++ compiler")

    model = _supernet()
    with (
        pytest.raises(UnsupportedError, match=r"no C\+\+ compiler.*set compile=false"),
        compiled(model, broken),
    ):
        model(_batch().inputs)


@pytest.mark.parametrize("name", ["binary_gate", "uniform_path"])
def test_drawn_paths_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"drawn paths, but the mixed op of choice `op` is a"):
        check_compiles(_supernet(name), "here")


def test_parts_that_are_computed_again_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="recomputed"):
        check_compiles(supernet(_Space(), recomputed=True), "here")
