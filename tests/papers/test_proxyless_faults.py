"""What NNI's `ProxylessMixedLayer` promises holds here (Q1 to Q8); its faults (B-1 …, V-1 …) do not.

Each test would fail on the original's behaviour; the docstring names the promise or the fault.
"""

import ast
import copy
import gc
import itertools
import subprocess
import sys
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import nasframe
from nasframe.algorithms.proxyless import Proxyless
from nasframe.core import (
    Batch,
    Filler,
    Genotype,
    InputChoice,
    LayerChoice,
    MixedInput,
    MixedLayer,
    Model,
    Objective,
    Space,
    ValueChoice,
    WeightUpdate,
    derived,
    derivers,
    generator_for,
    inherit,
    optimizers,
    supernet,
)
from nasframe.errors import ComponentError, FormatError, UnsupportedError
from nasframe.mixed_ops.binary_gate import BinaryGate
from nasframe.testing import example_space

Pair = namedtuple("Pair", ["left", "right"])


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Counted(nn.Module):
    """A layer, how often it was computed, and what it took."""

    def __init__(self, layer: Callable[..., Any]) -> None:
        super().__init__()
        self.layer, self.passes, self.taken = layer, 0, []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.passes += 1
        self.taken.append((args, kwargs))
        return self.layer(*args, **kwargs)


def tanh_layer() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def gate(num_candidates: int = 3, name: str = "edge", **settings: Any) -> BinaryGate:
    return BinaryGate(LayerChoice(name, tuple(map(str, range(num_candidates)))), init_std=0.7, **settings)


def draw(
    op: BinaryGate, active: int | None = None, num_paths: int | None = None, seed: int = 0
) -> BinaryGate:
    """Draw, until `active` runs where it is given."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        op.draw(op.logits().detach().double(), generator, num_paths)
        if active is None or op.active == (active,):
            return op


def site(
    layers: list[Callable[..., Any]] | None = None, active: int = 1, **settings: Any
) -> tuple[BinaryGate, list[Counted], MixedLayer]:
    candidates = [Counted(layer) for layer in layers or [tanh_layer() for _ in range(3)]]
    op = draw(gate(len(candidates), **settings), active)
    return op, candidates, MixedLayer(op, candidates)


def closed_form(op: BinaryGate, b: list[torch.Tensor | float]) -> torch.Tensor:
    """p ⊙ (b − p·b) / τ over all paths."""
    p = torch.softmax(op.alpha.detach() / op.temperature, 0)
    gradients = torch.tensor([float(each) for each in b])
    return p * (gradients - p @ gradients) / op.temperature


def products(layers: list[Any], x: torch.Tensor, of_output: torch.Tensor) -> list[float]:
    with torch.no_grad():
        return [float((layer(x) * of_output).sum()) for layer in layers]


def close(one: torch.Tensor | None, other: torch.Tensor, rtol: float = 1e-10) -> bool:
    assert one is not None
    return torch.allclose(one, other, rtol=rtol, atol=1e-14)


@final
class CrossEntropy(Objective):
    """Cross entropy and accuracy."""

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def metrics(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {"accuracy": (outputs.argmax(1) == targets).to(outputs.dtype).mean()}


def example_model(num_seed: int = 0) -> Model:
    torch.manual_seed(num_seed)
    return supernet(example_space(), "binary_gate")


def example_batch() -> Batch:
    return Batch(torch.randn(8, 4), torch.randint(0, 3, (8,)))


def weight_update(model: Model) -> WeightUpdate:
    optimizer = torch.optim.SGD(model.parameters_at("lower"), lr=0.1)
    return WeightUpdate(model, CrossEntropy(), optimizer)


# Promises ---------------------------------------------------------------------------------------------


def test_one_draw_serves_all_sites_of_a_choice() -> None:
    """Q1: one path a choice, drawn from the softmax of alpha, shared by all sites with its name."""
    op = gate()
    sites = [[Counted(tanh_layer()) for _ in range(3)] for _ in range(4)]
    for seed in range(5):
        draw(op, seed=seed)
        for candidates in sites:
            op(candidates, torch.randn(2, 4))
    assert len({tuple(each.passes for each in candidates) for candidates in sites}) == 1


def test_forward_runs_and_keeps_one_path() -> None:
    """Q2: forward computes the sampled candidate only."""
    _, candidates, layer = site()
    layer(torch.randn(2, 4, requires_grad=True))
    assert [each.passes for each in candidates] == [0, 1, 0]


def test_backward_gives_the_closed_form() -> None:
    """Q3: b_k = Σ o_k ∂L/∂y and ∂L/∂alpha_i = Σ_j b_j p_j (δ_ij − p_i)."""
    op, candidates, layer = site()
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    layer(x).backward(of_output)
    p, b = op.weights().tolist(), products(candidates, x, of_output)
    want = [sum(b[j] * p[j] * ((i == j) - p[i]) for j in range(3)) for i in range(3)]
    assert op.alpha.grad is not None
    assert op.alpha.grad.tolist() == pytest.approx(want, rel=1e-10)


def test_several_calls_of_one_layer_add_up() -> None:
    """Q4: a layer may run several times before backward, in whatever order backward comes back."""
    op, candidates, layer = site()
    inputs, directions = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    outputs = [layer(x) for x in inputs]
    sum((outputs[i] * directions[i]).sum() for i in (1, 0, 2)).backward()  # type: ignore[union-attr]
    each = [
        closed_form(op, products(candidates, x, direction))  # type: ignore[arg-type]
        for x, direction in zip(inputs, directions, strict=True)
    ]
    assert close(op.alpha.grad, torch.stack(each).sum(0))


def test_an_alpha_shared_between_layers_accumulates() -> None:
    """Q5: gradients of all sites of one choice add up."""
    op, first, layer = site()
    second = [Counted(tanh_layer()) for _ in range(3)]
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    y = MixedLayer(op, second)(layer(x))
    (gradient,) = torch.autograd.grad(y, op.alpha, of_output)
    middle = first[1](x).detach().requires_grad_()
    (of_middle,) = torch.autograd.grad(second[1](middle), middle, of_output)
    want = closed_form(op, products(first, x, of_middle)) + closed_form(
        op, products(second, middle, of_output)
    )  # type: ignore[arg-type]
    assert close(gradient, want)


@pytest.mark.parametrize("num_chosen", [1, 2])
def test_an_input_choice_runs_and_keeps_as_many_inputs_as_it_says(num_chosen: int) -> None:
    """Q6, B-20: the input choice used one input whatever `n_chosen`, and named gates it never made."""
    op = BinaryGate(InputChoice("node", ("a", "b", "c"), num_chosen=num_chosen), init_std=0.7)
    branches = [Counted(tanh_layer()) for _ in range(3)]
    node, states = MixedInput(op, branches), list(torch.randn(3, 5, 4))
    draw(op)
    of_output = torch.randn(5, 4)
    output = node(states)
    output.backward(of_output)
    active = list(op.active)
    assert len(set(active)) == num_chosen
    torch.testing.assert_close(output, sum(branches[index](states[index]) for index in active))
    b = [
        float((branch(state).detach() * of_output).sum())
        for branch, state in zip(branches, states, strict=True)
    ]
    assert close(op.alpha.grad, closed_form(op, b))  # type: ignore[arg-type]


def test_a_derived_network_keeps_the_default_of_one_input() -> None:
    """B-26: the default `n_chosen=1` was overwritten, and all inputs were exported."""
    genotype = derivers.component("darts")().derive(example_model())
    assert len(genotype["node"]) == 1
    assert len(genotype["merge"]) == 2


def test_any_number_of_arguments_of_any_sort_reaches_the_candidates() -> None:
    """Q7, V-3: several positional, keyword and non-tensor arguments; v3.0 raised ValueError."""

    def layer(weight: float) -> Callable[..., Any]:
        return lambda x, count, *, scale, mode: weight * x * count * scale if mode == "on" else x

    op, candidates, mixed = site([layer(1.0), layer(2.0), layer(-3.0)])
    x, scale, of_output = torch.randn(5, 4), torch.randn(4), torch.randn(5, 4)
    mixed(x, 2, scale=scale, mode="on").backward(of_output)
    b = [float((weight * x * 2 * scale * of_output).sum()) for weight in (1.0, 2.0, -3.0)]
    assert close(op.alpha.grad, closed_form(op, b))  # type: ignore[arg-type]
    assert all(len(each.taken) == 1 for each in candidates)


def test_errors_say_what_to_do() -> None:
    """Q8: a forward pass before any draw is an error that names the remedy."""
    with pytest.raises(UnsupportedError, match=r"model\.sample"):
        gate()([tanh_layer() for _ in range(3)], torch.randn(2, 4))


# Faults -----------------------------------------------------------------------------------------------

NESTS: dict[str, tuple[Callable[[torch.Tensor], Any], Callable[[Any], torch.Tensor]]] = {
    "tuple": (lambda y: (y, 2 * y), lambda nest: nest[0] + nest[1]),
    "list": (lambda y: [y, 2 * y], lambda nest: nest[0] + nest[1]),
    "dict": (lambda y: {"one": y, "two": 2 * y}, lambda nest: nest["one"] + nest["two"]),
    "namedtuple": (lambda y: Pair(y, 2 * y), lambda nest: nest.left + nest.right),
    "nested": (lambda y: {"a": [y, (2 * y, 7)], "n": None}, lambda nest: nest["a"][0] + nest["a"][1][0]),
    "with integers": (lambda y: (y, y.argmax(1), 2 * y), lambda nest: nest[0] + nest[2]),
}


@pytest.mark.parametrize("sort", NESTS)
def test_alpha_learns_from_nested_outputs(sort: str) -> None:
    """B-1, V-1, V-3: with a dict or list of outputs alpha silently never trained; integers failed."""
    nest, total = NESTS[sort]
    inner = [tanh_layer() for _ in range(3)]
    op, _, layer = site([lambda x, each=each: nest(each(x)) for each in inner])
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    output = layer(x)
    assert type(output) is type(nest(x))
    total(output).backward(of_output)
    assert close(op.alpha.grad, closed_form(op, products(inner, x, 3 * of_output)))  # type: ignore[arg-type]


@final
class Operations(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_jacobian_costs_as_much_as_there_are_candidates() -> None:
    """B-2: a Python loop over all pairs of candidates."""
    counts = []
    for num_candidates in (8, 64):
        _, _, layer = site([nn.Identity() for _ in range(num_candidates)], active=0)
        output = layer(torch.randn(2, 4)).sum()
        with Operations() as operations:
            output.backward()
        counts.append(len(operations.names))
    assert counts[1] < 8.5 * counts[0]


def test_the_temperature_is_in_the_gradient_and_passes_are_repeatable() -> None:
    """B-3, B-25: plain softmax whatever the normalization; noise drawn anew; a temperature without effect."""
    x, of_output, layers = torch.randn(5, 4), torch.randn(5, 4), [tanh_layer() for _ in range(3)]
    for temperature in (0.5, 1.0, 3.0):
        op, candidates, layer = site(layers, temperature=temperature)  # type: ignore[arg-type]
        got = [torch.autograd.grad(layer(x), op.alpha, of_output)[0] for _ in range(2)]
        assert torch.equal(*got)
        assert close(got[0], closed_form(op, products(candidates, x, of_output)))  # type: ignore[arg-type]


def test_recomputation_leaves_no_trace() -> None:
    """B-4, V-4: batch-norm statistics of all candidates moved, and the global random state advanced."""

    def layer() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

    layers = [layer() for _ in range(3)]
    _, _, mixed = site(layers)  # type: ignore[arg-type]
    x, of_output = torch.randn(16, 4), torch.randn(16, 4)
    before = [copy.deepcopy(each.state_dict()) for each in layers]
    output = mixed(x)
    moved = copy.deepcopy(layers[1].state_dict())
    state = torch.get_rng_state()
    output.backward(of_output)
    assert torch.equal(state, torch.get_rng_state())
    assert [int(each[1].num_batches_tracked) for each in layers] == [0, 1, 0]  # type: ignore[index]
    for index, each in enumerate(layers):
        for name, tensor in each.state_dict().items():
            assert torch.equal(tensor, (moved if index == 1 else before[index])[name])
    # the same random state gives the same pass: the masks of the sampled path are those of its forward
    torch.manual_seed(3)
    first = mixed(x).detach()
    torch.manual_seed(3)
    again = mixed(x)
    again.backward(of_output)
    assert torch.equal(first, again.detach())


def test_the_gate_of_the_sampled_path_is_that_of_the_output_with_its_dropout_mask() -> None:
    """B-4: dropout drawn anew in backward."""
    op, _, mixed = site([nn.Dropout(0.5), nn.Identity()], active=0)
    x, of_output = torch.randn(16, 4), torch.randn(16, 4)
    output = mixed(x)
    output.backward(of_output)
    b = [float((output.detach() * of_output).sum()), float((x * of_output).sum())]
    assert close(op.alpha.grad, closed_form(op, b))  # type: ignore[arg-type]


@pytest.mark.parametrize("forward_in", [True, False])
@pytest.mark.parametrize("backward_in", [True, False])
def test_recomputation_runs_under_the_autocast_of_the_forward_pass(
    forward_in: bool, backward_in: bool
) -> None:
    """B-5, V-4: backward outside autocast failed with a dtype error."""
    torch.set_default_dtype(torch.float32)
    op, candidates, layer = site()
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    with torch.autocast("cpu", torch.bfloat16, enabled=forward_in):
        output = layer(x)
    of_output = of_output.to(output.dtype)
    candidates[0].passes = 0
    with torch.autocast("cpu", torch.bfloat16, enabled=backward_in):
        output.backward(of_output)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=forward_in):
        outputs = [candidate(x) for candidate in candidates]
    assert {each.dtype for each in outputs} == {torch.bfloat16 if forward_in else torch.float32}
    b = [(each.double() * of_output.double()).sum() for each in outputs]
    torch.testing.assert_close(op.alpha.grad, closed_form(op, b), rtol=1e-4, atol=1e-6)  # type: ignore[arg-type]


def test_recomputation_under_autocast_does_not_cut_later_passes_off() -> None:
    """B-5: weights that autocast keeps cast without gradients must not reach a pass that needs them."""
    torch.set_default_dtype(torch.float32)
    op, candidates, layer = site()
    x = torch.randn(5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).sum().backward()
        draw(op, active=0)
        layer(x).sum().backward()
    assert candidates[0].layer[0].weight.grad is not None  # type: ignore[index]


def test_gradients_are_had_by_every_interface_of_autograd() -> None:
    """B-6: a hook wrote `.grad`, so that `autograd.grad` and `torch.func` failed."""
    op, candidates, layer = site()
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    want = closed_form(op, products(candidates, x, of_output))  # type: ignore[arg-type]
    assert close(torch.autograd.grad(layer(x), op.alpha, of_output)[0], want)
    assert op.alpha.grad is None

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return (torch.func.functional_call(op, parameters, (candidates, x)) * of_output).sum()

    assert close(torch.func.grad(loss)({"alpha": op.alpha.detach()})["alpha"], want)
    layer(x).backward(of_output)
    assert close(op.alpha.grad, want)


def test_a_second_backward_and_a_new_draw_before_backward_change_nothing() -> None:
    """B-7: both raised ValueError."""
    op, candidates, layer = site()
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    want = closed_form(op, products(candidates, x, of_output))  # type: ignore[arg-type]
    output = layer(x)
    draw(op, active=2)
    output.backward(of_output, retain_graph=True)
    assert close(op.alpha.grad, want)
    output.backward(of_output)
    assert close(op.alpha.grad, 2 * want)


@pytest.mark.parametrize("mode", ["no_grad", "eval", "inference"])
def test_passes_without_gradients_keep_nothing(mode: str) -> None:
    """B-8: each forward pass appended its tensors to a list, in evaluation and under no_grad too."""
    op, candidates, layer = site()
    for each in candidates:
        each.forward = each.layer.forward  # type: ignore[method-assign]
    if mode == "eval":
        layer.eval(), op.eval()
    context = {"no_grad": torch.no_grad, "eval": torch.enable_grad, "inference": torch.inference_mode}[mode]
    kept = []
    with context():
        for _ in range(5):
            x = torch.randn(5, 4)
            output = layer(x)
            kept += [weakref.ref(x), weakref.ref(output)]
            del x, output
    gc.collect()
    assert not any(reference() is not None for reference in kept)
    assert op.alpha.grad is None


def test_nothing_is_kept_after_backward_or_when_a_graph_is_dropped() -> None:
    """B-8: tensors stayed until the next draw."""
    _, candidates, layer = site()
    for each in candidates:
        each.forward = each.layer.forward  # type: ignore[method-assign]
    kept = []
    for backward in (True, False):
        x = torch.randn(5, 4)
        output = layer(x)
        kept += [weakref.ref(x), weakref.ref(output)]
        if backward:
            output.sum().backward()
        del x, output
    gc.collect()
    assert not any(reference() is not None for reference in kept)


@pytest.mark.parametrize("used", [0, 1])
def test_a_loss_on_one_of_two_calls_gets_that_call_s_gradient(used: int) -> None:
    """B-9: the last call's tensors were popped whichever call the loss was on."""
    op, candidates, layer = site()
    inputs, of_output = torch.randn(2, 5, 4), torch.randn(5, 4)
    outputs = [layer(x) for x in inputs]
    outputs[used].backward(of_output)
    assert close(op.alpha.grad, closed_form(op, products(candidates, inputs[used], of_output)))  # type: ignore[arg-type]


@pytest.mark.parametrize("outer_active", [0, 1])
def test_nested_choices_learn_where_they_ran(outer_active: int) -> None:
    """B-10: recomputing a candidate left an entry in the choice inside it."""
    inner_op, inner, inner_site = site(name="inner")
    plain = tanh_layer()
    op, _, layer = site([inner_site, plain], active=outer_active, name="outer")
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    layer(x).backward(of_output)
    b = products([inner[1], plain], x, of_output)
    assert close(op.alpha.grad, closed_form(op, b))  # type: ignore[arg-type]
    if outer_active == 0:
        assert close(inner_op.alpha.grad, closed_form(inner_op, products(inner, x, of_output)))  # type: ignore[arg-type]
    else:
        assert inner_op.alpha.grad is None


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_gives_the_same_gradients(reentrant: bool) -> None:
    """B-11: reentrant checkpointing left an entry a call."""
    op, candidates, layer = site()
    x, of_output = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    layer(x).backward(of_output)
    wanted = [op.alpha.grad, x.grad, candidates[1].layer[0].weight.grad]  # type: ignore[index]
    op.alpha.grad, x.grad, candidates[1].layer[0].weight.grad = None, None, None  # type: ignore[index]
    checkpoint(layer, x, use_reentrant=reentrant).backward(of_output)  # type: ignore[no-untyped-call]
    got = [op.alpha.grad, x.grad, candidates[1].layer[0].weight.grad]  # type: ignore[index]
    for one, other in zip(got, wanted, strict=True):
        assert close(one, other)  # type: ignore[arg-type]
    assert close(op.alpha.grad, closed_form(op, products(candidates, x.detach(), of_output)))  # type: ignore[arg-type]


def test_an_operation_in_place_after_the_site_works() -> None:
    """B-12: `relu_` on the output raised an error about views."""
    op, candidates, layer = site()
    x, of_output = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    torch.relu_(layer(x)).backward(of_output)
    masked = of_output * (candidates[1](x) > 0)
    assert close(op.alpha.grad, closed_form(op, products(candidates, x, masked)))  # type: ignore[arg-type]


@pytest.mark.parametrize("active", range(3))
def test_writing_into_the_site_s_input_afterwards_works_whatever_ran(active: int) -> None:
    """B-12: a residual connection that is added in place, `x += layer(x)`."""
    layers = [nn.Identity(), nn.Sequential(nn.ReLU(), nn.Linear(4, 4)), nn.Flatten(1)]
    op, _, layer = site(layers, active=active)  # type: ignore[arg-type]
    start, of_output = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    x = start * 1.0
    x += layer(x)
    x.backward(of_output)
    assert close(op.alpha.grad, closed_form(op, products(layers, start.detach(), of_output)))  # type: ignore[arg-type]


@pytest.mark.parametrize("active", range(3))
@pytest.mark.parametrize("needs_gradient", [True, False])
def test_candidates_that_write_into_their_input_do_not_spoil_the_others(
    active: int, needs_gradient: bool
) -> None:
    """B-12: the saved input was overwritten, and the gradient silently wrong (or it crashed)."""
    linears = [nn.Linear(4, 4) for _ in range(2)]
    in_place: list[Any] = [nn.Sequential(nn.ReLU(inplace=True), each) for each in linears]
    pure = [nn.Sequential(nn.ReLU(), each) for each in linears] + [nn.Identity()]
    op, _, layer = site([*in_place, nn.Identity()], active=active)
    x, of_output = torch.randn(5, 4, requires_grad=needs_gradient), torch.randn(5, 4)
    layer(x * 1.0).backward(of_output, retain_graph=True)
    want = closed_form(op, products(pure, x.detach(), of_output))  # type: ignore[arg-type]
    assert close(op.alpha.grad, want)
    if needs_gradient:
        got = x.grad
        (wanted,) = torch.autograd.grad(pure[active](x), x, of_output)
        assert close(got, wanted)


def test_a_second_backward_after_candidates_that_write_into_their_input() -> None:
    """B-12: the first recomputation must not spoil the copies of the second."""
    op, _, layer = site([nn.ReLU(inplace=True), nn.Identity(), nn.Tanh()], active=2)
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    output = layer(x.clone())
    for times in (1, 2):
        output.backward(of_output, retain_graph=True)
        b = products([nn.ReLU(), nn.Identity(), nn.Tanh()], x, of_output)
        assert close(op.alpha.grad, times * closed_form(op, b))  # type: ignore[arg-type]


def test_a_weight_step_computes_one_candidate_and_nothing_for_alpha() -> None:
    """B-13, V-2: weight steps paid for all candidates, also with frozen alphas, and wrote alpha.grad."""
    op, candidates, layer = site()
    model = Model(nn.Sequential(layer, nn.Linear(4, 3)), mixed_ops={"edge": op})
    weight_update(model)(example_batch())
    assert [each.passes for each in candidates] == [0, 1, 0]
    op.alpha.requires_grad_(False)
    model(torch.randn(2, 4)).sum().backward()
    assert [each.passes for each in candidates] == [0, 2, 0]
    assert op.alpha.grad is None


def saved_bytes(run: Callable[[], Any], known: list[torch.Tensor]) -> int:
    """What autograd keeps for backward, parameters and other known tensors apart; each storage once."""
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    held = {tensor.untyped_storage().data_ptr() for tensor in known}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    del output
    return sum(size for place, size in storages.items() if place not in held)


def test_what_is_saved_is_one_path_its_output_and_the_inputs() -> None:
    """B-21: memory of one path, whatever the number of candidates."""
    x = torch.randn(50, 4, requires_grad=True)
    size = x.numel() * x.element_size()
    for num_candidates in (2, 12):
        layers = [nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 4)) for _ in range(num_candidates)]
        op, _, layer = site(layers)  # type: ignore[arg-type]
        known = [x, *op.parameters(), *layer.parameters()]
        path = saved_bytes(lambda layers=layers: layers[1](x), known)  # type: ignore[misc]
        small = 4 * num_candidates * op.alpha.element_size()
        gated = saved_bytes(lambda layer=layer: layer(x), known)  # type: ignore[misc]
        assert path <= gated <= path + 2 * size + small
        op.alpha.requires_grad_(False)
        assert saved_bytes(lambda layer=layer: layer(x), known) == path  # type: ignore[misc]


def allocated(run: Callable[[], Any]) -> tuple[int, int]:
    """Bytes that the allocator gave out more than it took back: at most during `run`, and in the end."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    sums = list(itertools.accumulate(changes, initial=0))
    return max(sums), sums[-1]


def test_the_peak_that_is_allocated_is_that_of_one_path() -> None:
    """B-21: neither what is kept nor what is transient grows with the number of candidates."""
    x, peaks = torch.randn(1000, 16), []
    size, hidden, little = x.nbytes, 1000 * 128 * x.element_size(), 10_000
    for count in (2, 12):
        layers = [nn.Sequential(nn.Linear(16, 128), nn.Tanh(), nn.Linear(128, 16)) for _ in range(count)]
        layer, outputs = MixedLayer(draw(gate(count), active=0), layers), list[torch.Tensor]()
        _, kept = allocated(lambda layer=layer, outputs=outputs: outputs.append(layer(x)))  # type: ignore[misc]
        # the path's hidden layer; the copy of the input, the path's output, and what is returned
        assert kept < hidden + 3 * size + little
        peak, _ = allocated(lambda outputs=outputs: outputs.pop().sum().backward())  # type: ignore[misc]
        # two hidden tensors of a recomputation; its input, its output, and the product with ∂L/∂y
        assert peak < 2 * hidden + 3 * size + little
        peaks.append(peak)
    assert abs(peaks[0] - peaks[1]) < little


def test_recomputation_holds_one_candidate_s_tensors_at_a_time() -> None:
    """B-21: off-loading of unused paths; backward goes path by path."""
    alive: list[int] = []
    tensors: list[weakref.ref[torch.Tensor]] = []

    class Large(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            alive.append(sum(reference() is not None for reference in tensors))
            large = x.repeat(1, 100)
            tensors.append(weakref.ref(large))
            return large[:, :4] + 0.0

    _, _, layer = site([Large() for _ in range(6)], active=0)
    for each in layer.candidates:
        each.forward = each.layer.forward  # type: ignore[union-attr,method-assign]
    output = layer(torch.randn(5, 4))
    tensors.clear(), alive.clear()
    output.sum().backward()
    assert alive == [0] * 5


def test_alpha_gradients_scale_with_the_loss() -> None:
    """B-14: with loss scaling, a gradient must be had back by dividing, and an overflow must show."""
    op, _, layer = site()
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    (plain,) = torch.autograd.grad(layer(x), op.alpha, of_output)
    (scaled,) = torch.autograd.grad(layer(x) * 1024.0, op.alpha, of_output)
    assert torch.equal(scaled / 1024.0, plain)
    (overflown,) = torch.autograd.grad(layer(x) * torch.inf, op.alpha, of_output)
    assert not overflown.isfinite().all()


RANKS = """
import os, sys, torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from nasframe import supernet
from nasframe.testing import example_space
folder = sys.argv[1]
torch.set_num_threads(1)
other = os.fork()  # torch is imported once for both
rank = int(other == 0)
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
model = supernet(example_space(), "binary_gate")
model.sample(torch.Generator().manual_seed(5))
inputs = torch.randn(2, 6, 4)
model(inputs[rank]).square().mean().backward()
alone = [alpha.grad.clone() for alpha in model.parameters_at("upper")]
model.zero_grad()
wrapped = DistributedDataParallel(model, find_unused_parameters=True)
wrapped(inputs[rank]).square().mean().backward()
together = [alpha.grad for alpha in model.parameters_at("upper")]
active = [op.active for op in model.mixed_ops.values()]
torch.save({"alone": alone, "together": together, "active": active}, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
if other:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


def test_two_ranks_draw_one_architecture_and_average_its_gradients(tmp_path: Path) -> None:
    """B-15: the hook's gradient was never reduced, and each rank drew its own path."""
    command = [sys.executable, "-W", "ignore", "-c", RANKS, str(tmp_path)]
    subprocess.run(command, timeout=120, check=True)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["active"] == second["active"]
    for index, (one, other) in enumerate(zip(first["alone"], second["alone"], strict=True)):
        assert not torch.equal(one, other)
        for rank in (first, second):
            torch.testing.assert_close(rank["together"][index], (one + other) / 2)


def test_gradients_reach_the_alpha_that_the_choice_has_now() -> None:
    """B-16: after `load_state_dict(assign=True)` gradients went to the old alpha."""
    op, candidates, layer = site()
    model = Model(nn.Sequential(layer), mixed_ops={"edge": op})
    old = op.alpha
    model.load_state_dict(
        {name: 2 * value.clone() for name, value in model.state_dict().items()}, assign=True
    )
    assert op.alpha is not old
    op.alpha.requires_grad_()
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    model(x).backward(of_output)
    assert old.grad is None
    assert close(op.alpha.grad, closed_form(op, products(candidates, x, of_output)))  # type: ignore[arg-type]


def test_compiled_candidates_are_compiled_once_for_training_and_once_for_recomputation() -> None:
    """B-17: a graph break at the hook, and a recompilation for each sampled index."""
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    torch._dynamo.reset()
    layers = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(2)]
    compilations = [torch.compile(layer, backend=backend, fullgraph=True) for layer in layers]
    op = gate(2)
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    for active in (0, 1, 0, 1):
        op.alpha.grad = None
        draw(op, active)(compilations, x).backward(of_output)
        assert close(op.alpha.grad, closed_form(op, products(layers, x, of_output)))  # type: ignore[arg-type]
    assert len(compiled) <= 4
    torch._dynamo.reset()


def test_a_draw_reads_no_single_number_off_the_device() -> None:
    """B-18: `.item()` a layer a draw, and no generator of its own."""
    model = example_model()
    with Operations() as operations:
        model.sample(generator_for(0), 2)
    assert "aten._local_scalar_dense.default" not in operations.names
    assert operations.names.count("aten.cat.default") == 1
    state = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        model.sample(generator_for(7))
        drawn.append([op.active for op in model.mixed_ops.values()])  # type: ignore[attr-defined]
    assert drawn[0] == drawn[1]
    assert torch.equal(state, torch.get_rng_state())


def test_recomputed_candidates_get_the_sort_of_arguments_that_they_were_given() -> None:
    """B-19: saved lists became tuples, and namedtuples were lost."""
    layers = [lambda pair, many, *, table: pair.left + many[0] * table["t"] + pair.right for _ in range(2)]
    _, candidates, layer = site(layers, active=0)  # type: ignore[arg-type]
    tensors = torch.randn(4, 5, 4)
    layer(Pair(tensors[0], tensors[1]), [tensors[2]], table={"t": tensors[3]}).sum().backward()
    ((pair, many), keywords), *others = candidates[1].taken
    assert not others
    assert type(pair) is Pair
    assert type(many) is list
    assert type(keywords["table"]) is dict
    for got, want in zip([*pair, many[0], keywords["table"]["t"]], tensors, strict=True):
        assert torch.equal(got, want)


def test_there_are_two_paths_and_reinforce() -> None:
    """B-21: only the gradient over all paths existed (test_proxyless.py has the numbers)."""
    model = example_model()
    for update in ("two_paths", "all_paths", "reinforce"):
        algorithm = Proxyless(model, CrossEntropy(), update=update, reward="loss")  # type: ignore[arg-type]
        before = [alpha.detach().clone() for alpha in model.parameters_at("upper")]
        algorithm.step(example_batch(), example_batch(), weight_update(model))
        moved = [
            not torch.equal(one, other)
            for one, other in zip(before, model.parameters_at("upper"), strict=True)
        ]
        assert any(moved), update


def test_candidates_that_do_not_fit_together_are_an_error_that_says_so() -> None:
    """B-22: an `assert` on the number of outputs."""
    _, _, layer = site([lambda x: (x, x), lambda x: x, lambda x: x])
    with pytest.raises(ComponentError, match="`edge`: candidates must return tensors of the same shapes"):
        layer(torch.randn(2, 4)).sum().backward()


def test_an_output_without_a_loss_counts_nothing() -> None:
    """B-22: a zero on the wrong device where an output got no gradient."""
    inner = [tanh_layer() for _ in range(3)]
    op, _, layer = site([lambda x, each=each: (x * torch.nan, each(x)) for each in inner])
    x, of_output = torch.randn(5, 4), torch.randn(5, 4)
    layer(x)[1].backward(of_output)
    assert close(op.alpha.grad, closed_form(op, products(inner, x, of_output)))  # type: ignore[arg-type]


def test_no_assert_stands_where_a_user_s_mistake_is_checked() -> None:
    """B-22: asserts vanish under `python -O`."""
    folder = Path(nasframe.__file__).parent
    for file in ("mixed_ops/binary_gate.py", "algorithms/proxyless.py"):
        tree = ast.parse((folder / file).read_text(encoding="utf-8"))
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), file


def test_alphas_are_never_among_the_weights() -> None:
    """B-23: the alphas of a layer were in its parent's parameters, and so in the weight optimizer."""
    model = example_model()
    alphas = {id(op.alpha) for op in model.mixed_ops.values()}  # type: ignore[attr-defined]
    assert alphas == {id(alpha) for alpha in model.parameters_at("upper")}
    assert alphas.isdisjoint(id(weight) for weight in model.parameters_at("lower"))
    with pytest.raises(ComponentError, match="alpha"):
        WeightUpdate(model, CrossEntropy(), torch.optim.SGD(model.parameters(), lr=0.1))
    before = [alpha.detach().clone() for alpha in model.parameters_at("upper")]
    Proxyless(model, CrossEntropy(), warmup_epochs=1).step(
        example_batch(), example_batch(), weight_update(model)
    )
    for one, other in zip(before, model.parameters_at("upper"), strict=True):
        assert torch.equal(one, other)


def test_the_alpha_optimizer_is_the_one_that_was_asked_for() -> None:
    """B-24: `arc_learning_rate` was ignored, and the optimizer fixed."""
    moves = []
    for lr in (0.01, 0.02):
        model = example_model()
        before = [alpha.detach().clone() for alpha in model.parameters_at("upper")]
        sgd = optimizers.component("sgd", lr=lr, momentum=0.0, weight_decay=0.0)
        torch.manual_seed(1)
        algorithm = Proxyless(model, CrossEntropy(), update="all_paths", alpha_optimizer=sgd)
        algorithm.step(example_batch(), example_batch(), weight_update(model))
        after = [alpha.detach() for alpha in model.parameters_at("upper")]
        moves.append(torch.cat([new - old for new, old in zip(after, before, strict=True)]))
    torch.testing.assert_close(moves[1], 2 * moves[0])


def test_deriving_takes_the_most_likely_architecture_and_never_draws() -> None:
    """V-5: `export` was a random draw."""
    model, deriver = example_model(), derivers.component("darts")()
    for op in model.mixed_ops.values():
        op.alpha.data.copy_(torch.linspace(0.5, 0.0, len(op.alpha)))  # type: ignore[attr-defined,arg-type]
    generator, state = torch.Generator().manual_seed(0), torch.get_rng_state()
    genotypes = set()
    for _ in range(20):
        model.sample(generator)
        genotypes.add(deriver.derive(model))
    assert torch.equal(state, torch.get_rng_state())
    (genotype,) = genotypes
    assert genotype["merge"] == ("0", "1")
    assert genotype["edge_0"] == ("linear",)  # `none` is stronger, and is never kept


def test_evaluation_is_the_most_likely_architecture_and_always_the_same() -> None:
    """V-5: what was validated was whatever had been drawn last."""
    op, candidates, layer = site(active=1)
    with torch.no_grad():
        op.alpha.copy_(torch.tensor([0.1, 0.2, 0.3]))
    layer.eval(), op.eval()
    x = torch.randn(5, 4)
    for seed in range(5):
        draw(op, seed=seed)
        assert torch.equal(layer(x), candidates[2].layer(x))


class Blocks(Space):
    """Up to three blocks x ↦ x + W x, and a head."""

    def build(self, filler: Filler) -> nn.Module:
        depth = ValueChoice.of("depth", (1, 2, 3))
        return nn.Sequential(filler.repeat(depth, lambda _: Shortcut()), nn.Linear(4, 3))


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.linear(x)


@pytest.mark.parametrize("update", ["two_paths", "all_paths", "reinforce"])
def test_a_choice_of_depth_is_searched(update: str) -> None:
    """B-27: `Repeat` raised TypeError, so that the hub's own ProxylessNAS space did not run."""
    model = supernet(Blocks(), "binary_gate")
    alpha = model.mixed_ops["depth"].alpha
    before = alpha.detach().clone()
    algorithm = Proxyless(model, CrossEntropy(), update=update)
    weights = weight_update(model)
    for _ in range(3):
        algorithm.step(example_batch(), example_batch(), weights)
    assert not torch.equal(alpha, before)
    (kept,) = derivers.component("darts")().derive(model)["depth"]
    assert kept == ("1", "2", "3")[int(alpha.argmax())]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_derived_depth_is_the_first_blocks_as_it_was_in_the_supernet(depth: int) -> None:
    """V-6: the sampled depth counted any kept blocks, but what was kept were the first ones."""
    model = supernet(Blocks(), "binary_gate")
    draw(model.mixed_ops["depth"], active=depth - 1)
    blocks = [module for module in model.modules() if isinstance(module, Shortcut)]
    genotype = Genotype({"depth": (str(depth),)})
    network = inherit(derived(Blocks(), genotype), model, genotype)
    x = torch.randn(5, 4)
    by_hand = x
    weights = [block.linear for block in blocks if list(block.parameters())]
    assert len(weights) == 3
    for linear in weights[:depth]:
        by_hand = by_hand + linear(by_hand)
    by_hand = model.network[-1](by_hand)  # type: ignore[index,operator]
    torch.testing.assert_close(model(x), by_hand)
    torch.testing.assert_close(network(x), by_hand)
    assert sum(isinstance(module, Shortcut) for module in network.modules()) == depth


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"depth": ("99",)}, "choice `depth` must keep some of .*got \\['99'\\]"),
        ({"depth": ("0",)}, "choice `depth` must keep some of .*got \\['0'\\]"),
        ({"depth": ()}, "choice `depth` must keep at least one of"),
        ({}, "choice `depth` must keep at least one of"),
        ({"depth": ("1", "3")}, "choice `depth` must keep one of .*got \\['1', '3'\\]"),
        ({"depth": ("1",), "block_7": ("3",)}, "the space has no choice `block_7`"),
    ],
)
def test_an_impossible_depth_is_refused(choices: dict[str, tuple[str, ...]], message: str) -> None:
    """V-7: `check_contains` computed its errors and returned none: it took missing labels, and 99."""
    with pytest.raises(FormatError, match=message):
        derived(Blocks(), Genotype(choices))
