"""Bilevel optimization of DARTS against closed forms and against autograd through the inner step.

Liu, Simonyan and Yang, ICLR 2019 (arXiv 1806.09055), equations 5 to 8.
"""

import copy
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasframe.algorithms.darts_bilevel import DartsBilevel
from nasframe.core import (
    ArchParam,
    Batch,
    Kind,
    LayerChoice,
    Level,
    MixedLayer,
    MixedOp,
    Model,
    Objective,
    Task,
    WeightUpdate,
    mixed_ops,
    objectives,
    optimizers,
    schedules,
    spaces,
    supernet,
)
from nasframe.errors import UnsupportedError

HESSIANS = ("finite_difference", "exact")
ALL_MODES = [{"order": 1}, *({"order": 2, "hessian": hessian} for hessian in HESSIANS)]
SECOND_ORDER = ALL_MODES[1:]


def mode_name(settings: dict[str, Any]) -> str:
    return "-".join(map(str, settings.values()))


all_modes = pytest.mark.parametrize("mode", ALL_MODES, ids=mode_name)
second_order_modes = pytest.mark.parametrize("mode", SECOND_ORDER, ids=mode_name)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# Problems ---------------------------------------------------------------------------------------------


@final
class SquaredError(Objective):
    """Half the squared distance, as a mean over the batch."""

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return (outputs - targets).square().sum(1).mean() / 2

    def metrics(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {}


@final
class MeanOutput(Objective):
    """The network computes the loss of each example."""

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return outputs.mean()

    def metrics(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {}


class Smooth(nn.Module):
    """Two mixtures of smooth functions: every derivative exists and none vanishes."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.randn(2, 3))
        self.first = nn.Linear(4, 5)
        self.second = nn.Linear(5, 3)

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        share = torch.softmax(self.alpha, -1)
        hidden = self.first(x_BC)
        hidden = share[0, 0] * torch.tanh(hidden) + share[0, 1] * F.softplus(hidden) + share[0, 2] * hidden
        out = self.second(hidden)
        return share[1, 0] * torch.tanh(out) + share[1, 1] * F.softplus(out) + share[1, 2] * torch.sin(out)


def batch(size: int, inputs: int = 4, outputs: int = 3) -> Batch:
    return Batch(2 * torch.randn(size, inputs), torch.randn(size, outputs))


class Sharing(nn.Module):
    """Two parts that share an alpha, a weight and a whole module (with batch norm, where it is wanted)."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.one, self.two = Smooth(), Smooth()
        if norm:
            self.one.first = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))  # type: ignore[assignment]
        self.two.alpha, self.two.first = self.one.alpha, self.one.first
        self.two.second.weight = self.one.second.weight

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        return self.one(x_BC) + self.two(2 * x_BC)


TRAIN, VALID = Batch(torch.zeros(1, 1), torch.zeros(1)), Batch(torch.ones(1, 1), torch.zeros(1))


class Quadratic(nn.Module):
    """L_t = w² − 2aw + a² for input 0 and L_v = aw − 2a + 1 for input 1."""

    def __init__(self, alpha: float, weight: float) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.tensor(alpha))
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        train = self.weight**2 - 2 * self.alpha * self.weight + self.alpha**2
        valid = self.alpha * self.weight - 2 * self.alpha + 1
        return torch.where(x == 0, train, valid)


class QuadraticForms(nn.Module):
    """L_t = wᵀAw/2 + wᵀBa and L_v = wᵀCw/2 + wᵀDa + aᵀEa/2, with symmetric A, C and E."""

    def __init__(self, num_weights: int = 6, num_alphas: int = 4) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.randn(num_alphas))
        self.weight = nn.Parameter(torch.randn(num_weights))
        self.A, self.C, self.E = (
            matrix + matrix.T
            for matrix in (torch.randn(n, n) for n in (num_weights, num_weights, num_alphas))
        )
        self.B, self.D = torch.randn(num_weights, num_alphas), torch.randn(num_weights, num_alphas)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w, a = self.weight, self.alpha
        train = w @ self.A @ w / 2 + w @ self.B @ a
        valid = w @ self.C @ w / 2 + w @ self.D @ a + a @ self.E @ a / 2
        return torch.where(x == 0, train, valid)


def weight_update(
    model: Model,
    objective: Objective | None = None,
    max_grad_norm: float | None = None,
    chunks: int = 1,
    **settings: Any,
) -> WeightUpdate:
    optimizer = torch.optim.SGD(model.parameters_at("lower"), **{"lr": 0.1, **settings})
    return WeightUpdate(
        model, objective or SquaredError(), optimizer, max_grad_norm=max_grad_norm, chunks=chunks
    )


def close(got: torch.Tensor | None, want: torch.Tensor, relative: float) -> bool:
    assert got is not None
    return float((got - want).norm()) <= relative * float(want.norm())


# The oracle: autograd through a differentiable update -------------------------------------------------


def sgd_update(
    weights: dict[str, torch.Tensor],
    grads: dict[str, torch.Tensor | None],
    names: dict[int, str],
    optimizer: torch.optim.Optimizer,
    max_grad_norm: float | None,
) -> dict[str, torch.Tensor]:
    """What clipping and `torch.optim.SGD` (its documented pseudocode) make of the weights."""
    held = {names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]}
    grads = {name: grad for name, grad in grads.items() if name in held}
    if max_grad_norm is not None:
        present = [grad for grad in grads.values() if grad is not None]
        norm = torch.sqrt(sum(grad.square().sum() for grad in present))  # type: ignore[arg-type]
        scale = torch.clamp(max_grad_norm / (norm + 1e-6), max=1.0)
        grads = {name: None if grad is None else grad * scale for name, grad in grads.items()}
    updated = dict(weights)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            grad = grads.get(name)
            if grad is None:
                continue
            weight = weights[name]
            grad = (-grad if group["maximize"] else grad) + group["weight_decay"] * weight
            if group["momentum"]:
                state = optimizer.state.get(parameter, {})
                buffer = state.get("momentum_buffer")
                velocity = (
                    grad
                    if buffer is None
                    else group["momentum"] * buffer.clone() + (1 - group["dampening"]) * grad
                )
                grad = grad + group["momentum"] * velocity if group["nesterov"] else velocity
            updated[name] = weight - group["lr"] * grad
    return updated


@contextmanager
def replaced(model: nn.Module, tensors: dict[str, torch.Tensor]) -> Iterator[None]:
    """Put tensors in the places of parameters, wherever these are shared; not by `functional_call`,

    which leaves a submodule that has two names with the replacement.
    """
    by_id = {id(parameter): tensors[name] for name, parameter in model.named_parameters() if name in tensors}
    places = [
        (module._parameters, attribute, parameter)
        for module in model.modules()
        for attribute, parameter in module._parameters.items()
        if id(parameter) in by_id
    ]
    for owner, attribute, parameter in places:
        owner[attribute] = by_id[id(parameter)]  # type: ignore[assignment]
    try:
        yield
    finally:
        for owner, attribute, parameter in places:
            owner[attribute] = parameter


class Oracle:
    """Differentiates the validation loss after one differentiable weight step."""

    def __init__(self, model: Model, objective: Objective, update: WeightUpdate) -> None:
        self.model, self.objective, self.update = model, objective, update
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.alphas = self._leaves(model.named_parameters_at("upper"))
        self.weights = self._leaves(model.named_parameters_at("lower"))

    @staticmethod
    def _leaves(named: Any) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone().requires_grad_() for name, p in named if p.requires_grad}

    def loss(self, weights: dict[str, torch.Tensor], piece: Batch) -> torch.Tensor:
        with replaced(self.model, {**self.alphas, **weights}):
            return self.objective.loss(self.model(piece.inputs), piece.targets)

    def step(self, grads: dict[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
        return sgd_update(self.weights, grads, self.names, self.update.optimizer, self.update.max_grad_norm)

    def train_grads(self, train: Batch) -> dict[str, torch.Tensor | None]:
        grads = torch.autograd.grad(
            self.loss(self.weights, train),
            list(self.weights.values()),
            create_graph=True,
            allow_unused=True,
        )
        return dict(zip(self.weights, grads, strict=True))

    def weights_after(self, train: Batch) -> dict[str, torch.Tensor]:
        return {name: weight.detach() for name, weight in self.step(self.train_grads(train)).items()}

    def gradients(self, train: Batch, valid: Batch) -> list[torch.Tensor | None]:
        after = self.step(self.train_grads(train))
        return list(
            torch.autograd.grad(self.loss(after, valid), list(self.alphas.values()), allow_unused=True)
        )

    def direction(self, train: Batch, valid: Batch) -> dict[str, torch.Tensor]:
        """v = Jᵀ ∇w' L_v, with J the derivative of the update by the gradient."""
        grads = {
            name: None if grad is None else grad.detach().requires_grad_()
            for name, grad in self.train_grads(train).items()
        }
        after = self.step(grads)
        moved = {name: weight.detach().requires_grad_() for name, weight in after.items()}
        slopes = torch.autograd.grad(self.loss(moved, valid), list(moved.values()), allow_unused=True)
        drop = -sum(
            (after[name] * slope).sum()
            for name, slope in zip(moved, slopes, strict=True)
            if slope is not None
        )
        used = {name: grad for name, grad in grads.items() if grad is not None}
        found = torch.autograd.grad(drop, list(used.values()), allow_unused=True)  # type: ignore[arg-type]
        return {
            name: torch.zeros_like(grad) if slope is None else slope
            for (name, grad), slope in zip(used.items(), found, strict=True)
        }


def assert_matches_autograd(
    model: Model, objective: Objective, update: WeightUpdate, train: Batch, valid: Batch
) -> None:
    """The exact second order equals autograd's, and autograd went through the update that is made."""
    oracle = Oracle(model, objective, update)
    want, weights_after = oracle.gradients(train, valid), oracle.weights_after(train)
    first = DartsBilevel(model, objective, order=1).upper_gradients(train, valid, update)
    got = DartsBilevel(model, objective, order=2, hessian="exact").upper_gradients(train, valid, update)
    assert len(got) == len(want)
    for mine, reference, one_step in zip(got, want, first, strict=True):
        assert close(mine, reference, 1e-9)
        assert not close(one_step, reference, 1e-3), "the second-order term must matter in this problem"
    update(train)
    for name, weight in model.named_parameters():
        if name in weights_after:
            torch.testing.assert_close(weight.detach(), weights_after[name], rtol=0, atol=1e-13)


# Closed forms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [-1.5, 0.5, 3.0])
def test_first_order_equals_the_closed_form_of_a_quadratic(alpha: float) -> None:
    model = Model(Quadratic(alpha, 2.5))
    update = weight_update(model, MeanOutput(), lr=0.05)
    (got,) = DartsBilevel(model, MeanOutput(), order=1).upper_gradients(TRAIN, VALID, update)
    assert got is not None
    assert float(got) == pytest.approx(2.5 - 2, rel=1e-14)


@second_order_modes
@pytest.mark.parametrize("alpha", [-1.5, 0.5, 3.0])
@pytest.mark.parametrize("lr", [0.05, 0.4])
def test_second_order_equals_the_closed_form_of_a_quadratic(
    mode: dict[str, Any], alpha: float, lr: float
) -> None:
    weight = 2.5
    model = Model(Quadratic(alpha, weight))
    update = weight_update(model, MeanOutput(), lr=lr)
    (got,) = DartsBilevel(model, MeanOutput(), **mode).upper_gradients(TRAIN, VALID, update)
    stepped = weight - lr * (2 * weight - 2 * alpha)
    assert got is not None
    assert float(got) == pytest.approx((stepped - 2) - lr * -2 * alpha, rel=1e-10)


def test_first_order_equals_the_closed_form_in_many_dimensions() -> None:
    forms = QuadraticForms()
    model = Model(forms)
    (got,) = DartsBilevel(model, MeanOutput(), order=1).upper_gradients(
        TRAIN, VALID, weight_update(model, MeanOutput())
    )
    w, a = forms.weight.detach(), forms.alpha.detach()
    assert close(got, forms.D.T @ w + forms.E @ a, 1e-13)


@second_order_modes
def test_second_order_equals_the_closed_form_in_many_dimensions(mode: dict[str, Any]) -> None:
    # A quadratic's gradient is linear in w: central differences have no truncation error on it.
    forms, lr = QuadraticForms(), 0.07
    model = Model(forms)
    (got,) = DartsBilevel(model, MeanOutput(), **mode).upper_gradients(
        TRAIN, VALID, weight_update(model, MeanOutput(), lr=lr)
    )
    w, a = forms.weight.detach(), forms.alpha.detach()
    after = w - lr * (forms.A @ w + forms.B @ a)
    want = forms.D.T @ after + forms.E @ a - lr * forms.B.T @ (forms.C @ after + forms.D @ a)
    assert close(got, want, 1e-10)


# The exact product against autograd -------------------------------------------------------------------

UPDATES: dict[str, dict[str, Any]] = {
    "plain": {},
    "weight_decay": {"weight_decay": 0.2},
    "momentum": {"momentum": 0.9, "weight_decay": 0.05},
    "dampening": {"momentum": 0.8, "dampening": 0.3},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    "maximize": {"momentum": 0.5, "dampening": 0.2, "weight_decay": 0.1, "maximize": True},
}


@pytest.mark.parametrize("steps_before", [0, 1, 3])
@pytest.mark.parametrize("settings", UPDATES.values(), ids=UPDATES.keys())
def test_exact_product_equals_autograd_through_the_update(
    settings: dict[str, Any], steps_before: int
) -> None:
    model = Model(Smooth())
    update = weight_update(model, lr=0.3, **settings)
    for _ in range(steps_before):
        update(batch(6))
    assert_matches_autograd(model, SquaredError(), update, batch(7), batch(5))


@pytest.mark.parametrize("steps_before", [0, 2])
def test_exact_product_follows_every_parameter_group(steps_before: int) -> None:
    network = Smooth()
    model = Model(network)
    optimizer = torch.optim.SGD(
        [
            {"params": network.first.parameters(), "lr": 0.4, "weight_decay": 0.3, "nesterov": True},
            {"params": network.second.parameters(), "lr": 0.1, "momentum": 0.3, "dampening": 0.4},
        ],
        lr=1.0,
        momentum=0.9,
    )
    update = WeightUpdate(model, SquaredError(), optimizer)
    for _ in range(steps_before):
        update(batch(6))
    assert_matches_autograd(model, SquaredError(), update, batch(7), batch(5))


@pytest.mark.parametrize("steps_before", [0, 2])
@pytest.mark.parametrize("max_grad_norm", [0.5, 1e3], ids=["active", "inactive"])
def test_exact_product_goes_through_the_clipping(max_grad_norm: float, steps_before: int) -> None:
    model, train = Model(Smooth()), batch(7)
    update = weight_update(
        model, lr=0.5, max_grad_norm=max_grad_norm, momentum=0.9, nesterov=True, weight_decay=0.1
    )
    for _ in range(steps_before):
        update(batch(6))
    grads = Oracle(model, SquaredError(), update).train_grads(train).values()
    norm = torch.cat([grad.detach().flatten() for grad in grads if grad is not None]).norm()
    assert (norm > max_grad_norm) == (max_grad_norm < 1)
    assert_matches_autograd(model, SquaredError(), update, train, batch(5))


def test_the_whole_virtual_step_in_pieces_is_clipped_as_one() -> None:
    model = Model(Smooth())
    update = weight_update(model, lr=0.5, max_grad_norm=0.3)
    train, valid = batch(7), batch(5)
    want = Oracle(model, SquaredError(), update).gradients(train, valid)
    algorithm = DartsBilevel(model, SquaredError(), order=2, hessian="exact", chunks=3)
    for got, reference in zip(algorithm.upper_gradients(train, valid, update), want, strict=True):
        assert reference is not None
        assert close(got, reference, 1e-9)


class TwoAlphas(nn.Module):
    """Two upper-level parameters of different kinds; `only_valid` and `only_train` are used by one split."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.randn(3))
        self.beta = ArchParam(torch.randn(3), Kind("beta", Level.UPPER))
        self.unused_alpha = ArchParam(torch.randn(2))
        self.shared = nn.Linear(4, 3)
        self.only_train = nn.Linear(4, 3)
        self.only_valid = nn.Linear(4, 3)
        self.never = nn.Linear(4, 3)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        x = inputs["x"]
        out = torch.tanh(self.shared(x) * self.alpha)
        own = self.only_train if "is_train" in inputs else self.only_valid
        return out + torch.sigmoid(self.beta) * torch.tanh(own(x))


def two_split_batches() -> tuple[Batch, Batch]:
    train, valid = batch(6), batch(4)
    return (
        Batch({"x": train.inputs, "is_train": torch.ones(6)}, train.targets),
        Batch({"x": valid.inputs}, valid.targets),
    )


@pytest.mark.parametrize("max_grad_norm", [None, 0.3])
def test_weights_without_gradient_are_not_updated_nor_differentiated(max_grad_norm: float | None) -> None:
    # Weight decay and momentum would move them if a missing gradient were taken for a zero.
    model = Model(TwoAlphas())
    train, valid = two_split_batches()
    update = weight_update(model, lr=0.4, momentum=0.9, weight_decay=0.5, max_grad_norm=max_grad_norm)
    want = Oracle(model, SquaredError(), update).gradients(train, valid)
    for hessian, relative in (("exact", 1e-9), ("finite_difference", 1e-5)):
        algorithm = DartsBilevel(model, SquaredError(), order=2, hessian=hessian, epsilon=1e-3)  # type: ignore[arg-type]
        got = algorithm.upper_gradients(train, valid, update)
        assert [mine is None for mine in got] == [reference is None for reference in want]
        for mine, reference in zip(got, want, strict=True):
            assert reference is None or close(mine, reference, relative)


@pytest.mark.parametrize("max_grad_norm", [None, 0.3])
def test_weights_that_the_optimizer_does_not_hold_stay_in_the_virtual_step(
    max_grad_norm: float | None,
) -> None:
    network = Smooth()
    model = Model(network)
    optimizer = torch.optim.SGD(network.second.parameters(), lr=0.4, momentum=0.9)
    update = WeightUpdate(model, SquaredError(), optimizer, max_grad_norm=max_grad_norm)
    assert_matches_autograd(model, SquaredError(), update, batch(7), batch(5))


def test_weights_and_alphas_that_several_sites_share_count_once() -> None:
    model = Model(Sharing())
    update = weight_update(model, lr=0.3, momentum=0.9, weight_decay=0.1)
    update(batch(6))
    assert len(list(model.parameters_at("upper"))) == 1
    assert_matches_autograd(model, SquaredError(), update, batch(7), batch(5))


class MixedSites(nn.Module):
    """A linear stem and two sites of one choice, mixed by the registered `softmax`."""

    def __init__(self, mixed_op: MixedOp) -> None:
        super().__init__()
        self.sites = nn.ModuleList(
            MixedLayer(mixed_op, [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Softplus()])
            for _ in range(2)
        )
        self.head = nn.Linear(4, 3)

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        for site in self.sites:
            x_BC = site(x_BC)
        return torch.tanh(self.head(x_BC))


def test_exact_product_equals_autograd_on_a_supernet_of_softmax_mixtures() -> None:
    choice = LayerChoice("site", ("linear", "tanh", "softplus"))
    mixed_op = mixed_ops["softmax"](choice)
    model = Model(MixedSites(mixed_op), {"site": choice}, {"site": mixed_op}).double()
    update = weight_update(model, lr=0.3, momentum=0.9, weight_decay=0.1)
    update(batch(6))
    assert_matches_autograd(model, SquaredError(), update, batch(7), batch(5))


@pytest.mark.parametrize(
    ("settings", "memory_format"),
    [
        ({"fused": True}, torch.channels_last),
        ({"fused": True, "recomputed": True}, torch.channels_last),
        ({"fused": False}, torch.contiguous_format),
    ],
    ids=["fused", "recomputed", "plain"],
)
def test_exact_product_of_a_convolutional_supernet_equals_autograd_through_the_update(
    settings: dict[str, bool], memory_format: torch.memory_format
) -> None:
    def made(**settings: bool) -> Model:
        torch.manual_seed(0)
        task = Task(input_shape=(3, 8, 8), num_outputs=3)
        return supernet(spaces["darts"](task, channels=2, cells=3, nodes=2), "softmax", **settings)

    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 4, 3, 8, 8, generator=generator, dtype=torch.float64)
    train, valid = (Batch(each, torch.tensor([0, 1, 2, 1])) for each in images)
    objective = objectives["cross_entropy"]()
    plain, model = made(fused=False).double(), made(**settings).double().to(memory_format=memory_format)
    want = Oracle(plain, objective, weight_update(plain, objective, lr=0.5)).gradients(train, valid)
    first = DartsBilevel(plain, objective).upper_gradients(train, valid, weight_update(plain, objective))
    shaped = [
        Batch(each.inputs.contiguous(memory_format=memory_format), each.targets) for each in (train, valid)
    ]
    algorithm = DartsBilevel(model, objective, order=2, hessian="exact")
    got = algorithm.upper_gradients(*shaped, weight_update(model, objective, lr=0.5))
    assert close(flat(got), flat(want), 1e-10)
    assert not close(flat(first), flat(want), 1e-3), "the second-order term must matter in this problem"


@all_modes
def test_compiled_network_gives_the_gradient_of_the_plain_one(mode: dict[str, Any]) -> None:
    network = Smooth()
    train, valid = batch(7), batch(5)
    got = []
    for each in (network, torch.compile(network, backend="eager")):
        model = Model(each)  # type: ignore[arg-type]
        update = weight_update(model, lr=0.3)
        got.append(flat(DartsBilevel(model, SquaredError(), **mode).upper_gradients(train, valid, update)))
    assert close(got[1], got[0], 1e-10)


def test_gradients_come_in_the_order_of_the_upper_parameters() -> None:
    model = Model(TwoAlphas())
    train, valid = two_split_batches()
    first = DartsBilevel(model, SquaredError()).upper_gradients(train, valid, weight_update(model))
    loss = SquaredError().loss(model(valid.inputs), valid.targets)
    want = torch.autograd.grad(loss, list(model.parameters_at("upper")), allow_unused=True)
    for mine, reference in zip(first, want, strict=True):
        assert (mine is None) == (reference is None)
        assert reference is None or close(mine, reference, 1e-13)


@all_modes
def test_frozen_alphas_are_left_out_and_frozen_weights_stay(mode: dict[str, Any]) -> None:
    network = TwoAlphas()
    model = Model(network)
    network.beta.requires_grad_(False)
    network.shared.bias.requires_grad_(False)
    train, valid = two_split_batches()
    update = weight_update(model, lr=0.4, weight_decay=0.5)
    algorithm = DartsBilevel(model, SquaredError(), **mode)
    trainable = [parameter for parameter in model.parameters_at("upper") if parameter.requires_grad]
    got = algorithm.upper_gradients(train, valid, update)
    assert len(got) == len(trainable) == 2
    if mode == {"order": 2, "hessian": "exact"}:
        want = Oracle(model, SquaredError(), update).gradients(train, valid)
        assert want[0] is not None
        assert close(got[0], want[0], 1e-9)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    algorithm.step(train, valid, update)
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {
        "network.alpha",
        "network.shared.weight",
        "network.only_train.weight",
        "network.only_train.bias",
    }


# Finite differences -----------------------------------------------------------------------------------


def third_derivative(oracle: Oracle, train: Batch, direction: dict[str, torch.Tensor]) -> torch.Tensor:
    """d³/dt³ at 0 of ∇a L_t(w + t v, a), for each entry of all alphas."""
    t = torch.zeros((), requires_grad=True)
    moved = {
        name: weight.detach() + t * direction[name] if name in direction else weight.detach()
        for name, weight in oracle.weights.items()
    }
    slopes = torch.autograd.grad(oracle.loss(moved, train), list(oracle.alphas.values()), create_graph=True)
    thirds = []
    for entry in torch.cat([slope.flatten() for slope in slopes]):
        for _ in range(3):
            (entry,) = torch.autograd.grad(entry, t, create_graph=True)
        thirds.append(entry.detach())
    return torch.stack(thirds)


def flat(gradients: list[torch.Tensor | None]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}])
def test_central_differences_err_by_their_truncation_term(settings: dict[str, Any]) -> None:
    # (f(h) − f(−h)) / 2h = f'(0) + h²/6 f'''(0) + O(h⁴), with f(t) = ∇a L_t(w + t v) and h = ε/‖v‖.
    model = Model(Smooth())
    update = weight_update(model, lr=0.3, **settings)
    update(batch(6))
    train, valid = batch(7), batch(5)
    oracle = Oracle(model, SquaredError(), update)
    exact = flat(oracle.gradients(train, valid))
    direction = oracle.direction(train, valid)
    norm = torch.cat([part.flatten() for part in direction.values()]).norm()
    third = third_derivative(oracle, train, direction)
    errors = {}
    for epsilon in (0.02, 0.01):
        algorithm = DartsBilevel(model, SquaredError(), order=2, epsilon=epsilon)
        errors[epsilon] = flat(algorithm.upper_gradients(train, valid, update)) - exact
        predicted = -((epsilon / norm) ** 2) / 6 * third
        assert close(errors[epsilon], predicted, 0.02)
    ratio = float(errors[0.02].norm() / errors[0.01].norm())
    assert ratio == pytest.approx(4, rel=0.02), "the error must fall with the square of epsilon"


def test_default_epsilon_is_the_authors() -> None:
    model = Model(Smooth())
    update = weight_update(model)
    train, valid = batch(7), batch(5)
    default = DartsBilevel(model, SquaredError(), order=2).upper_gradients(train, valid, update)
    given = DartsBilevel(model, SquaredError(), order=2, epsilon=0.01).upper_gradients(train, valid, update)
    assert torch.equal(flat(default), flat(given))


# Chunks -----------------------------------------------------------------------------------------------


@all_modes
@pytest.mark.parametrize("max_grad_norm", [None, 0.3])
def test_chunks_do_not_change_the_gradient(mode: dict[str, Any], max_grad_norm: float | None) -> None:
    model = Model(Smooth())
    update = weight_update(model, lr=0.3, momentum=0.9, max_grad_norm=max_grad_norm)
    train, valid = batch(7), batch(5)
    whole = flat(DartsBilevel(model, SquaredError(), **mode).upper_gradients(train, valid, update))
    for chunks in (2, 3, 4, 7, 50):
        algorithm = DartsBilevel(model, SquaredError(), chunks=chunks, **mode)
        pieces = flat(algorithm.upper_gradients(train, valid, update))
        # central differences divide rounding by 2h, so they keep fewer digits than the exact product
        assert close(pieces, whole, 1e-10 if mode.get("hessian") == "finite_difference" else 1e-12)


@all_modes
def test_chunks_do_not_change_the_loss_that_is_reported(mode: dict[str, Any]) -> None:
    model, train, valid = Model(Smooth()), batch(7), batch(5)
    losses = []
    for chunks in (1, 3):
        twin = copy.deepcopy(model)
        algorithm = DartsBilevel(twin, SquaredError(), chunks=chunks, **mode)
        losses.append(float(algorithm.step(train, valid, weight_update(twin))["alpha_loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


# What a step changes ----------------------------------------------------------------------------------


@all_modes
def test_step_moves_alphas_by_their_optimizer_and_weights_by_theirs(mode: dict[str, Any]) -> None:
    model = Model(Smooth())
    train, valid = batch(7), batch(5)
    algorithm = DartsBilevel(
        model,
        SquaredError(),
        alpha_optimizer=optimizers.component("sgd", lr=0.5, momentum=0.0, weight_decay=0.0),
        **mode,
    )
    update = weight_update(model, momentum=0.9)
    for _ in range(3):
        gradient = flat(algorithm.upper_gradients(train, valid, update))
        alphas = [alpha.detach().clone() for alpha in model.parameters_at("upper")]
        want_alphas = flat(alphas) - 0.5 * gradient
        algorithm.step(train, valid, update)
        got_alphas = flat([alpha.detach() for alpha in model.parameters_at("upper")])
        torch.testing.assert_close(got_alphas, want_alphas, rtol=1e-12, atol=1e-14)


@all_modes
def test_weights_step_on_the_alphas_that_were_just_updated(mode: dict[str, Any]) -> None:
    model = Model(Smooth())
    train, valid = batch(7), batch(5)
    algorithm = DartsBilevel(model, SquaredError(), **mode)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters_at("lower")}
    metrics = algorithm.step(train, valid, weight_update(model, lr=0.1))
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in twin.named_parameters_at("lower"):
            weight.copy_(before[name])
    loss = SquaredError().loss(twin(train.inputs), train.targets)
    grads = torch.autograd.grad(loss, list(twin.parameters_at("lower")))
    assert float(metrics["train_loss"]) == pytest.approx(float(loss.detach()), rel=1e-13)
    for (name, weight), grad in zip(model.named_parameters_at("lower"), grads, strict=True):
        torch.testing.assert_close(weight.detach(), before[name] - 0.1 * grad, rtol=1e-12, atol=1e-14)


def test_alpha_loss_is_the_validation_loss_where_the_gradient_is_taken() -> None:
    model = Model(Smooth())
    train, valid = batch(7), batch(5)
    update = weight_update(model, lr=0.1)
    here = float(SquaredError().loss(model(valid.inputs), valid.targets).detach())
    oracle = Oracle(model, SquaredError(), update)
    ahead = float(oracle.loss(oracle.weights_after(train), valid).detach())
    for order, want in ((1, here), (2, ahead)):
        twin = copy.deepcopy(model)
        algorithm = DartsBilevel(twin, SquaredError(), order=order)  # type: ignore[arg-type]
        metrics = algorithm.step(train, valid, weight_update(twin, lr=0.1))
        assert float(metrics["alpha_loss"]) == pytest.approx(want, rel=1e-12)


def test_default_alpha_optimizer_is_the_authors_adam() -> None:
    # Section 3.1 of the paper: learning rate 3e-4, betas (0.5, 0.999), weight decay 1e-3.
    model = Model(Smooth())
    train, valid = batch(7), batch(5)
    algorithm, update = DartsBilevel(model, SquaredError()), weight_update(model)
    alpha = next(model.parameters_at("upper")).detach().clone().requires_grad_()
    adam = torch.optim.Adam([alpha], lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    for _ in range(3):
        (alpha.grad,) = algorithm.upper_gradients(train, valid, update)
        adam.step()
        algorithm.step(train, valid, update)
    got = next(model.parameters_at("upper")).detach()
    torch.testing.assert_close(got, alpha.detach(), rtol=1e-12, atol=1e-14)


class Counted(nn.Module):
    """Counts its forward passes and keeps what it saw; `noisy` adds dropout and batch norm."""

    def __init__(self, noisy: bool = False) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.randn(3))
        self.first = nn.Linear(4, 5)
        self.noise: nn.Module = nn.Sequential(nn.BatchNorm1d(5), nn.Dropout(0.5)) if noisy else nn.Identity()
        self.second = nn.Linear(5, 3)
        self.passes = 0
        self.fail_at: int | None = None
        self.fail_backward = False

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        failing = self.passes == self.fail_at
        if failing and not self.fail_backward:
            raise RuntimeError("out of memory")
        out = self.second(torch.tanh(self.noise(self.first(x_BC)))) * torch.sigmoid(self.alpha)
        return FailsInBackward.apply(out) if failing else out


class FailsInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")


def everything(model: Model, update: WeightUpdate) -> list[Any]:
    """Whatever an alpha gradient must leave as it was, in bits."""
    named = [*model.named_parameters(), *model.named_buffers()]
    state: list[Any] = [(name, tensor.detach().clone()) for name, tensor in named]
    state += [(name, id(p), p.requires_grad, p.grad) for name, p in model.named_parameters()]
    state += [(name, id(buffer)) for name, buffer in model.named_buffers()]
    state += [module.training for module in model.modules()]
    state += [torch.get_rng_state(), torch.is_grad_enabled(), len(update.optimizer.state)]
    for values in update.optimizer.state.values():
        state.append({key: copy.deepcopy(value) for key, value in values.items()})
    return state


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return bool(first == second)


@all_modes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "make", [lambda: Counted(noisy=True), lambda: Sharing(norm=True)], ids=["plain", "sharing"]
)
def test_upper_gradients_change_nothing(
    mode: dict[str, Any], dtype: torch.dtype, make: Callable[[], nn.Module]
) -> None:
    model = Model(make()).to(dtype)
    update = weight_update(model, momentum=0.9)
    train, valid = (Batch(each.inputs.to(dtype), each.targets.to(dtype)) for each in (batch(8), batch(8)))
    update(train)
    algorithm = DartsBilevel(model, SquaredError(), chunks=2, **mode)
    before = everything(model, update)
    algorithm.upper_gradients(train, valid, update)
    assert same(before, everything(model, update))


@all_modes
@pytest.mark.parametrize("fail_backward", [False, True], ids=["forward", "backward"])
def test_an_exception_in_any_pass_leaves_everything_as_it_was(
    mode: dict[str, Any], fail_backward: bool
) -> None:
    network = Counted(noisy=True)
    model = Model(network)
    update = weight_update(model, momentum=0.9)
    train, valid = batch(8), batch(8)
    update(train)
    algorithm = DartsBilevel(model, SquaredError(), chunks=2, **mode)
    network.passes = 0
    want = flat(algorithm.upper_gradients(train, valid, update))
    num_passes = network.passes
    network.fail_backward = fail_backward
    before = everything(model, update)
    for fail_at in range(1, num_passes + 1):
        network.passes, network.fail_at = 0, fail_at
        with pytest.raises(RuntimeError, match="out of memory"):
            algorithm.upper_gradients(train, valid, update)
        assert same(before, everything(model, update)), f"after a failure in pass {fail_at}"
    network.fail_at = None
    assert torch.equal(flat(algorithm.upper_gradients(train, valid, update)), want)


@all_modes
def test_alpha_step_leaves_the_batch_norm_statistics_to_the_weight_step(mode: dict[str, Any]) -> None:
    network = Counted(noisy=True)
    model = Model(network)
    train, valid = batch(8), batch(8)
    with torch.no_grad():
        mean = network.first(train.inputs).mean(0)
    DartsBilevel(model, SquaredError(), **mode).step(train, valid, weight_update(model))
    norm = network.noise[0]  # type: ignore[index]
    assert int(norm.num_batches_tracked) == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)


@all_modes
def test_alpha_step_leaves_no_gradient_behind(mode: dict[str, Any]) -> None:
    model = Model(Smooth())
    algorithm = DartsBilevel(model, SquaredError(), **mode)
    algorithm.step(batch(7), batch(5), weight_update(model))
    assert all(parameter.grad is None for parameter in model.parameters())


@second_order_modes
def test_one_noise_is_drawn_for_all_passes_of_the_mixed_product(mode: dict[str, Any]) -> None:
    # With the masks of w+ and w− drawn apart, the difference is about 1/(2h) times too large.
    torch.manual_seed(1)
    model = Model(Counted(noisy=True))
    update = weight_update(model)
    train, valid = batch(16), batch(16)
    exact = DartsBilevel(model, SquaredError(), order=2, hessian="exact")
    other = DartsBilevel(model, SquaredError(), **mode)
    want, got = (flat(each.upper_gradients(train, valid, update)) for each in (exact, other))
    assert close(got, want, 1e-4)


@second_order_modes
def test_a_flat_validation_loss_gives_no_second_order_term(mode: dict[str, Any]) -> None:
    class Flat(nn.Module):
        """The validation loss depends on alpha alone, so that ∇w L_v is zero."""

        def __init__(self) -> None:
            super().__init__()
            self.alpha = ArchParam(torch.tensor(1.5))
            self.weight = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x == 0, self.alpha * self.weight**2, 0 * self.weight + self.alpha**2)

    model = Model(Flat())
    algorithm = DartsBilevel(model, MeanOutput(), **mode)
    update = weight_update(model, MeanOutput())
    (got,) = algorithm.upper_gradients(TRAIN, VALID, update)
    assert got is not None
    assert float(got) == pytest.approx(3.0)
    algorithm.step(TRAIN, VALID, update)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


@second_order_modes
def test_weights_stored_channels_last_give_the_same_gradient(mode: dict[str, Any]) -> None:
    class Convolutions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alpha = ArchParam(torch.randn(4))
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            hidden = torch.tanh(self.first(x_BCHW)) * torch.sigmoid(self.alpha)[:, None, None]
            return self.second(hidden).mean((2, 3))

    model = Model(Convolutions())
    train, valid = (Batch(torch.randn(2, 3, 5, 5), torch.randn(2, 3)) for _ in range(2))
    got = []
    for layout in (torch.contiguous_format, torch.channels_last):
        twin = copy.deepcopy(model).to(memory_format=layout)
        update = weight_update(twin, momentum=0.9)
        update(train)
        algorithm = DartsBilevel(twin, SquaredError(), **mode)
        got.append(flat(algorithm.upper_gradients(train, valid, update)))
        kernel = twin.network.first.weight
        assert kernel.is_contiguous(memory_format=layout)
    assert close(got[0], got[1], 1e-9)


@final
class NamedHeads(Objective):
    """Squared errors of the main and the auxiliary head, whatever nest they come in."""

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        main, auxiliary = (outputs["main"], outputs["aux"]) if isinstance(outputs, dict) else outputs[:2]
        return SquaredError().loss(main, targets) + 0.4 * SquaredError().loss(auxiliary, targets)

    def metrics(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {}


@all_modes
@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_auxiliary_outputs_take_part_in_every_loss(mode: dict[str, Any], form: str) -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = Smooth(), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> Any:
            main = self.body(x)
            auxiliary = torch.tanh(self.head(x)) * self.body.alpha.exp().mean()
            return {"main": main, "aux": auxiliary} if form == "dict" else (main, auxiliary, None)

    model = Model(TwoHeads())
    update = weight_update(model, NamedHeads())
    train, valid = batch(7), batch(5)
    algorithm = DartsBilevel(model, NamedHeads(), **mode)
    got = flat(algorithm.upper_gradients(train, valid, update))
    if mode["order"] == 1:
        loss = NamedHeads().loss(model(valid.inputs), valid.targets)
        (want,) = torch.autograd.grad(loss, list(model.parameters_at("upper")))
    else:
        want = flat(Oracle(model, NamedHeads(), update).gradients(train, valid))
    assert close(got, want.flatten(), 1e-4 if mode.get("hessian") == "finite_difference" else 1e-9)


class AutocastProbe(torch.autograd.Function):
    """Notes whether autocast is on in each backward pass."""

    seen: list[bool]

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        AutocastProbe.seen.append(torch.is_autocast_enabled("cpu"))
        return grad.clone()


class Probed(nn.Module):
    """Notes whether autocast is on in each forward and backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Counted()
        self.forward_seen: list[bool] = []
        AutocastProbe.seen = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.forward_seen.append(torch.is_autocast_enabled("cpu"))
        return AutocastProbe.apply(self.body(x)).float()


@all_modes
def test_bfloat16_autocast_covers_each_forward_and_no_backward(mode: dict[str, Any]) -> None:
    network = Probed()
    model = Model(network).float()
    model.autocast(torch.bfloat16)
    train, valid = (Batch(each.inputs.float(), each.targets.float()) for each in (batch(8), batch(8)))
    algorithm = DartsBilevel(model, SquaredError(), **mode)
    update = weight_update(model, momentum=0.9)
    (got,) = algorithm.upper_gradients(train, valid, update)
    assert got is not None
    assert got.dtype == torch.float32
    assert bool(got.isfinite().all())
    algorithm.step(train, valid, update)
    assert len(network.forward_seen) >= 2
    assert all(network.forward_seen)
    assert len(AutocastProbe.seen) >= 2
    assert not any(AutocastProbe.seen)


# Memory -----------------------------------------------------------------------------------------------


def alive(shape: tuple[int, ...]) -> int:
    """How many storages of tensors of this shape are held by Python objects."""
    return len(
        {
            each.untyped_storage().data_ptr()
            for each in gc.get_objects()
            if type(each) in (torch.Tensor, nn.Parameter) and each.shape == shape
        }
    )


@all_modes
def test_no_second_model_is_kept_or_made(mode: dict[str, Any]) -> None:
    class Big(Counted):
        """Counts networks and big matrices alive in each pass."""

        def __init__(self) -> None:
            super().__init__()
            self.big = nn.Linear(37, 41)
            self.networks: list[int] = []
            self.matrices: list[int] = []

        def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
            self.networks.append(sum(type(each) is Big for each in gc.get_objects()))
            self.matrices.append(alive((41, 37)))
            return super().forward(torch.tanh(self.big(x_BC))[:, :4])

    network = Big()
    model = Model(network)
    train, valid = batch(4, inputs=37), batch(4, inputs=37)
    update = weight_update(model, momentum=0.9)
    update(train)
    algorithm = DartsBilevel(model, SquaredError(), **mode)
    network.networks.clear()
    network.matrices.clear()
    gc.collect()
    kept = alive((41, 37))
    assert kept == 2, "the weight and its momentum buffer"
    algorithm.step(train, valid, update)
    assert set(network.networks) == {1}
    # at most the saved weights, their gradient and the direction, while a pass of second order runs
    assert max(network.matrices) <= kept + (3 if mode["order"] == 2 else 0)
    assert alive((41, 37)) == kept


def test_first_order_costs_one_pass_and_never_looks_at_the_training_batch() -> None:
    network = Counted()
    model = Model(network)
    got = DartsBilevel(model, SquaredError(), order=1).upper_gradients(
        batch(7), batch(5), weight_update(model)
    )
    assert network.passes == 1
    assert got[0] is not None


def test_second_order_needs_four_passes_by_differences_and_fewer_by_double_backward() -> None:
    for hessian, most in (("finite_difference", 4), ("exact", 3)):
        network = Counted()
        model = Model(network)
        algorithm = DartsBilevel(model, SquaredError(), order=2, hessian=hessian)  # type: ignore[arg-type]
        algorithm.upper_gradients(batch(7), batch(5), weight_update(model))
        assert 2 <= network.passes <= most


# Settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda params: torch.optim.Adam(params),
        lambda params: torch.optim.AdamW(params),
        lambda params: torch.optim.RMSprop(params),
        lambda params: type("MySGD", (torch.optim.SGD,), {})(params, lr=0.1),
    ],
    ids=["adam", "adamw", "rmsprop", "subclass"],
)
def test_second_order_refuses_an_optimizer_that_it_cannot_model(
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
) -> None:
    model = Model(Smooth())
    optimizer = make(list(model.parameters_at("lower")))
    update = WeightUpdate(model, SquaredError(), optimizer)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UnsupportedError) as caught:
        DartsBilevel(model, SquaredError(), order=2).step(batch(7), batch(5), update)
    assert type(optimizer).__name__ in str(caught.value)
    assert "sgd" in str(caught.value).lower()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_first_order_takes_any_optimizer() -> None:
    model = Model(Smooth())
    optimizer = torch.optim.AdamW(model.parameters_at("lower"))
    update = WeightUpdate(model, SquaredError(), optimizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    DartsBilevel(model, SquaredError(), order=1).step(batch(7), batch(5), update)
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())


def test_second_order_starts_at_its_epoch() -> None:
    model = Model(Smooth())
    train, valid = batch(7), batch(5)
    update = weight_update(model, lr=0.5)
    first, second = (
        flat(DartsBilevel(model, SquaredError(), order=order).upper_gradients(train, valid, update))  # type: ignore[arg-type]
        for order in (1, 2)
    )
    assert not torch.equal(first, second)
    switching = DartsBilevel(model, SquaredError(), order=2, second_order_from=3)
    for epoch, want in ((0, first), (2, first), (3, second), (4, second), (1, first)):
        switching.begin_epoch(epoch, 10)
        assert torch.equal(flat(switching.upper_gradients(train, valid, update)), want)


def test_warm_up_epochs_train_weights_alone() -> None:
    network = Counted()
    model = Model(network)
    algorithm = DartsBilevel(model, SquaredError(), warmup_epochs=2)
    update = weight_update(model)
    for epoch, moves in ((0, False), (1, False), (2, True)):
        algorithm.begin_epoch(epoch, 5)
        alpha, weight = network.alpha.detach().clone(), network.first.weight.detach().clone()
        network.passes = 0
        algorithm.step(batch(7), batch(5), update)
        assert torch.equal(alpha, network.alpha.detach()) is not moves
        assert not torch.equal(weight, network.first.weight.detach())
        assert network.passes == (2 if moves else 1)


def test_alpha_learning_rate_follows_its_schedule() -> None:
    model = Model(Smooth())
    train, valid = batch(7), batch(5)
    algorithm = DartsBilevel(
        model,
        SquaredError(),
        alpha_optimizer=optimizers.component("sgd", lr=0.5, momentum=0.0, weight_decay=0.0),
        alpha_schedule=schedules.component("cosine"),
    )
    update = weight_update(model)
    (alpha,) = model.parameters_at("upper")
    # half a cosine over 8 epochs: (1 + cos(πe/8)) / 2
    for epoch, share in ((0, 1.0), (4, 0.5), (6, 0.14644660940672624)):
        algorithm.begin_epoch(epoch, 8)
        (gradient,) = algorithm.upper_gradients(train, valid, update)
        assert gradient is not None
        want = alpha.detach() - 0.5 * share * gradient
        algorithm.step(train, valid, update)
        torch.testing.assert_close(alpha.detach(), want, rtol=1e-12, atol=1e-14)


@all_modes
def test_state_goes_on_where_it_was_saved(mode: dict[str, Any]) -> None:
    model = Model(Smooth())
    batches = [(batch(7), batch(5)) for _ in range(4)]

    def parts(model: Model) -> tuple[DartsBilevel, WeightUpdate]:
        algorithm = DartsBilevel(model, SquaredError(), alpha_schedule=schedules.component("cosine"), **mode)
        return algorithm, weight_update(model, momentum=0.9)

    algorithm, update = parts(model)
    algorithm.begin_epoch(0, 2)
    for train, valid in batches[:2]:
        algorithm.step(train, valid, update)
    saved = copy.deepcopy((model.state_dict(), algorithm.state_dict(), update.optimizer.state_dict()))
    algorithm.begin_epoch(1, 2)
    for train, valid in batches[2:]:
        algorithm.step(train, valid, update)

    resumed = Model(Smooth())
    again, again_update = parts(resumed)
    resumed.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    again_update.optimizer.load_state_dict(saved[2])
    again.begin_epoch(1, 2)
    for train, valid in batches[2:]:
        again.step(train, valid, again_update)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])


def test_nested_inputs_and_targets_are_cut_into_chunks_together() -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Smooth()

        def forward(self, inputs: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> torch.Tensor:
            return self.body(inputs[0] + inputs[1]["more"])

    model = Model(Pairs())
    plain = batch(7)
    nested = Batch((plain.inputs, {"more": torch.randn(7, 4)}), plain.targets)
    update = weight_update(model)
    whole, cut = (
        flat(
            DartsBilevel(model, SquaredError(), order=2, hessian="exact", chunks=chunks).upper_gradients(
                nested, nested, update
            )
        )
        for chunks in (1, 3)
    )
    assert close(cut, whole, 1e-12)
