"""ProxylessNAS is the paper's: gates, two paths and REINFORCE against independent computations in float64."""

import copy
import itertools
import math
from collections.abc import Iterator
from typing import Any, final

import pytest
import torch
from torch import nn

from nasframe.algorithms.proxyless import Proxyless
from nasframe.core import (
    Batch,
    Filler,
    LayerChoice,
    Model,
    Objective,
    Space,
    WeightUpdate,
    derived,
    derivers,
    optimizers,
    supernet,
)
from nasframe.errors import UnsupportedError
from nasframe.mixed_ops.binary_gate import BinaryGate

PLAIN_SGD = optimizers.component("sgd", lr=1.0, momentum=0.0, weight_decay=0.0)
NUM_CHOICES = 3


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@final
class SquaredError(Objective):
    """Mean squared error; its metric is its negative exponential."""

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return (outputs - targets).square().mean()

    def metrics(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {"closeness": torch.exp(-self.loss(outputs, targets))}


class Counted(nn.Module):
    """A layer, and how often it was computed."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.passes = layer, 0

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        y_BC: torch.Tensor = self.layer(x_BC)
        return y_BC


@final
class Chain(Space):
    """Choices one after the other, each of so many `more` than the last, a nonlinear network around them."""

    def __init__(self, num_candidates: int = 3, more: int = 0) -> None:
        self.num_candidates, self.more = num_candidates, more

    def build(self, filler: Filler) -> nn.Module:
        names = tuple(f"op_{index}" for index in range(self.num_candidates + NUM_CHOICES * self.more))
        sites = [
            filler.layer(
                LayerChoice(f"choice_{index}", names[: self.num_candidates + index * self.more]),
                lambda name: Counted(nn.Sequential(nn.Linear(4, 4), nn.Tanh())),
            )
            for index in range(NUM_CHOICES)
        ]
        return nn.Sequential(nn.Linear(4, 4), *sites, nn.Linear(4, 2))


def chain(num_candidates: int = 3, more: int = 0, **settings: Any) -> Model:
    model = supernet(Chain(num_candidates, more), lambda choice: BinaryGate(choice, init_std=0.7, **settings))
    return model.double()


def batch(size: int) -> Batch:
    return Batch(torch.randn(size, 4), torch.randn(size, 2))


def weight_update(model: Model, lr: float = 0.1) -> WeightUpdate:
    optimizer = torch.optim.SGD(model.parameters_at("lower"), lr=lr)
    return WeightUpdate(model, SquaredError(), optimizer)


def candidates(model: Model) -> list[nn.ModuleList]:
    return [site.candidates for site in model.network if hasattr(site, "candidates")]  # type: ignore[operator,union-attr]


def gates(model: Model) -> list[BinaryGate]:
    return list(model.mixed_ops.values())  # type: ignore[arg-type]


def explicit(model: Model, x: torch.Tensor, gates_of: list[torch.Tensor]) -> torch.Tensor:
    """The network with Σ_j g_j o_j(x) at each site: eq. 1 of the paper, all paths computed."""
    sites = iter(zip(candidates(model), gates_of, strict=True))
    for layer in model.network:  # type: ignore[union-attr]
        if hasattr(layer, "candidates"):
            modules, g = next(sites)
            x = sum(weight * module(x) for weight, module in zip(g, modules, strict=True))  # type: ignore[assignment]
        else:
            x = layer(x)
    return x


def one_hot_straight_through(op: BinaryGate, temperature: float = 1.0) -> torch.Tensor:
    """The active path's one-hot vector, with the gradient of the softmax over the drawn paths."""
    exponentials = torch.zeros_like(op.alpha)
    mask = torch.zeros_like(op.alpha)
    mask[list(op.paths)] = 1.0
    exponentials = torch.exp(op.alpha / temperature) * mask
    p = exponentials / exponentials.sum()
    hard = torch.zeros_like(p)
    hard[op.active[0]] = 1.0
    return hard + p - p.detach()


# Gates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_paths", [None, 2])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_gradients_are_those_of_autograd_through_the_explicit_sum(
    num_paths: int | None, temperature: float
) -> None:
    model, data = chain(temperature=temperature), batch(5)
    inputs = data.inputs.requires_grad_()
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        model.sample(generator, num_paths)
        alphas = [op.alpha for op in gates(model)]
        stem = model.network[0].weight  # type: ignore[index,union-attr]
        loss = SquaredError().loss(model(inputs), data.targets)
        got = torch.autograd.grad(loss, [*alphas, stem, inputs])
        g = [one_hot_straight_through(op, temperature) for op in gates(model)]
        want_loss = SquaredError().loss(explicit(model, inputs, g), data.targets)
        want = torch.autograd.grad(want_loss, [*alphas, stem, inputs])
        assert loss.item() == pytest.approx(want_loss.item(), rel=1e-14)
        for one, other in zip(got, want, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


# All paths --------------------------------------------------------------------------------------------


def test_an_all_paths_step_follows_the_gates_gradient_on_the_validation_batch() -> None:
    model, train, valid = chain(), batch(5), batch(6)
    algorithm = Proxyless(model, SquaredError(), update="all_paths", alpha_optimizer=PLAIN_SGD)
    before = [op.alpha.detach().clone() for op in gates(model)]
    metrics = algorithm.step(train, valid, weight_update(model))
    after = [op.alpha.detach().clone() for op in gates(model)]
    for op, alpha in zip(gates(model), before, strict=True):
        op.alpha.data.copy_(alpha)
    g = [torch.nn.functional.one_hot(torch.tensor(op.active[0]), 3).double() for op in gates(model)]
    g = [each.requires_grad_() for each in g]
    loss = SquaredError().loss(explicit(model, valid.inputs, g), valid.targets)
    assert float(metrics["alpha_loss"]) == pytest.approx(loss.item(), rel=1e-13)
    for b, alpha, moved in zip(torch.autograd.grad(loss, g), before, after, strict=True):
        p = torch.exp(alpha) / torch.exp(alpha).sum()
        by_hand = torch.stack(
            [sum(b[j] * p[j] * (float(i == j) - p[i]) for j in range(3)) for i in range(3)]  # type: ignore[misc]
        )
        torch.testing.assert_close(moved, alpha - by_hand, rtol=1e-11, atol=1e-14)


# Two paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_a_two_paths_step_is_the_one_of_section_321_worked_by_hand(temperature: float) -> None:
    model, train, valid = chain(4, more=2, temperature=temperature), batch(5), batch(6)
    algorithm = Proxyless(model, SquaredError(), alpha_optimizer=PLAIN_SGD)
    before = [op.alpha.detach().clone() for op in gates(model)]
    algorithm.step(train, valid, weight_update(model))
    g = [torch.eye(len(op.alpha), dtype=torch.float64)[op.active[0]] for op in gates(model)]
    g = [each.requires_grad_() for each in g]
    loss = SquaredError().loss(explicit(model, valid.inputs, g), valid.targets)
    for op, b, alpha in zip(gates(model), torch.autograd.grad(loss, g), before, strict=True):
        i, j = op.paths
        e_i, e_j = (math.exp(alpha[path].item() / temperature) for path in (i, j))
        p_i, p_j = e_i / (e_i + e_j), e_j / (e_i + e_j)
        gradient = p_i * p_j * (b[i] - b[j]).item() / temperature
        new_i, new_j = alpha[i].item() - gradient, alpha[j].item() + gradient
        total = math.exp(new_i / temperature) + math.exp(new_j / temperature)
        shift = temperature * math.log(total / (e_i + e_j))
        want = alpha.tolist()
        want[i], want[j] = new_i - shift, new_j - shift
        assert op.alpha.tolist() == pytest.approx(want, rel=1e-11)


def test_two_paths_keep_the_probabilities_of_all_others_and_their_optimizer_state() -> None:
    model = chain(5)
    algorithm = Proxyless(model, SquaredError())
    update, moments = weight_update(model), {}
    for step in range(12):
        alphas = [op.alpha.detach().clone() for op in gates(model)]
        weights = [op.weights().detach() for op in gates(model)]
        algorithm.step(batch(5), batch(6), update)
        state = copy.deepcopy(algorithm.state_dict()["_alpha_optimizer"]["state"])
        for index, (op, alpha, before) in enumerate(zip(gates(model), alphas, weights, strict=True)):
            others = [path for path in range(5) if path not in op.paths]
            assert torch.equal(op.alpha.detach()[others], alpha[others])
            assert not torch.equal(op.alpha.detach()[list(op.paths)], alpha[list(op.paths)])
            torch.testing.assert_close(op.weights().detach()[others], before[others], rtol=1e-13, atol=0)
            seen = moments.get(index, torch.zeros(5))
            assert torch.equal(state[index]["exp_avg_sq"][others], seen[others]), step
            moments[index] = state[index]["exp_avg_sq"]


def test_two_paths_compute_two_paths() -> None:
    model = chain(5)
    Proxyless(model, SquaredError())._update_alphas(batch(6))
    for op, modules in zip(gates(model), candidates(model), strict=True):
        passes = [module.passes for module in modules]
        assert passes == [int(path in op.paths) for path in range(5)]


# The gradient alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["all_paths", "two_paths", "reinforce"])
def test_upper_gradients_are_those_that_the_next_alpha_step_follows(update: Any) -> None:
    model, train, valid = chain(), batch(5), batch(6)
    algorithm = Proxyless(
        model, SquaredError(), update=update, reward="loss", num_samples=2, alpha_optimizer=PLAIN_SGD
    )
    weights = weight_update(model)
    alphas = [op.alpha.detach().clone() for op in gates(model)]
    random_state, state = torch.get_rng_state(), copy.deepcopy(algorithm.state_dict())
    got = algorithm.upper_gradients(train, valid, weights)
    drawn = [op.active for op in gates(model)]
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(algorithm.state_dict()["generator"], state["generator"])
    assert algorithm.state_dict()["baseline"] == state["baseline"]
    assert all(op.alpha.grad is None for op in gates(model))
    moved: list[torch.Tensor | None] = []

    class Noted(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            moved.extend(parameter.grad for parameter in alphas_of(self))

    algorithm._alpha_optimizer = Noted([op.alpha for op in gates(model)], lr=1.0)
    algorithm._update_alphas(valid)
    assert [op.active for op in gates(model)] == drawn
    for one, other, op, alpha in zip(got, moved, gates(model), alphas, strict=True):
        assert one is not None
        assert torch.equal(one, other)  # type: ignore[arg-type]
        assert torch.equal(op.alpha.detach(), alpha)


@pytest.mark.parametrize("update", ["all_paths", "two_paths", "reinforce"])
def test_pieces_of_a_batch_have_its_gradient_together(update: Any) -> None:
    model = chain()
    algorithm = Proxyless(model, SquaredError(), update=update, num_samples=2, reward="loss")
    valid, update_weights = batch(7), weight_update(model)
    whole = algorithm.upper_gradients(valid, valid, update_weights)
    algorithm.chunks = 3
    split = algorithm.upper_gradients(valid, valid, update_weights)
    for one, other in zip(whole, split, strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def alphas_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def test_an_alpha_step_computes_and_keeps_nothing_for_the_weights() -> None:
    model = chain()
    seen = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(
                lambda layer, args, output: seen.append((layer.weight.requires_grad, torch.is_grad_enabled()))
            )
    frozen = model.network[0].weight  # type: ignore[index,union-attr]
    frozen.requires_grad_(False)
    Proxyless(model, SquaredError(), update="all_paths")._update_alphas(batch(6))
    assert {wants for wants, _ in seen} == {False}
    assert {enabled for _, enabled in seen} == {True, False}  # sampled paths and the others
    others = [weight for weight in model.parameters_at("lower") if weight is not frozen]
    assert all(weight.requires_grad and weight.grad is None for weight in others)
    assert not frozen.requires_grad


# REINFORCE --------------------------------------------------------------------------------------------


def rewards_of_all(model: Model, valid: Batch, reward: str) -> dict[tuple[int, ...], float]:
    """The reward of each architecture, through the explicit sum."""
    eye = torch.eye(2)
    rewards = {}
    for active in itertools.product(range(2), repeat=NUM_CHOICES):
        loss = SquaredError().loss(explicit(model, valid.inputs, [eye[k] for k in active]), valid.targets)
        rewards[active] = -loss.item() if reward == "loss" else math.exp(-loss.item())
    return rewards


def exact_gradient(model: Model, rewards: dict[tuple[int, ...], float]) -> torch.Tensor:
    """∇ Σ_g p(g) R(g) by enumeration, one row a choice."""
    alpha = torch.stack([op.alpha.detach() for op in gates(model)]).requires_grad_()
    p = torch.softmax(alpha, 1)
    expectation = torch.zeros(())
    for active, reward in rewards.items():
        share = torch.ones(())
        for choice, k in enumerate(active):
            share = share * p[choice, k]
        expectation = expectation + share * reward
    return torch.autograd.grad(expectation, alpha)[0]


@pytest.mark.parametrize("reward", ["loss", "closeness"])
@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_the_expectation_of_reinforce_is_the_exact_gradient(reward: str, baseline: float) -> None:
    model, valid = chain(2), batch(6)
    algorithm = Proxyless(model, SquaredError(), update="reinforce", num_samples=1, reward=reward)
    rewards = rewards_of_all(model, valid, reward)
    p = [torch.softmax(op.alpha.detach(), 0) for op in gates(model)]
    seen: dict[tuple[int, ...], torch.Tensor] = {}
    while len(seen) < 2**NUM_CHOICES:
        algorithm._baseline = baseline
        metrics, gradients = algorithm._reinforce(valid)
        active = tuple(op.active[0] for op in gates(model))
        assert metrics["reward"] == pytest.approx(rewards[active], rel=1e-12)
        seen[active] = -torch.stack([gradient for gradient in gradients if gradient is not None])
    expectation = sum(
        math.prod(p[choice][k].item() for choice, k in enumerate(active)) * estimate
        for active, estimate in seen.items()
    )
    torch.testing.assert_close(expectation, exact_gradient(model, rewards), rtol=1e-10, atol=1e-13)


def test_reinforce_draws_networks_by_their_probability() -> None:
    model, valid = chain(2), batch(2)
    algorithm = Proxyless(model, SquaredError(), update="reinforce", num_samples=400, reward="loss")
    algorithm._baseline = -1.0
    rewards = rewards_of_all(model, valid, "loss")
    _, gradients = algorithm._reinforce(valid)
    got = -torch.stack([gradient for gradient in gradients if gradient is not None])
    # |∇ log p| < 1 an entry, so that the deviation of a mean of M terms is below max|R − b|/√M
    bound = 5 * max(abs(reward + 1.0) for reward in rewards.values()) / math.sqrt(400)
    assert (got - exact_gradient(model, rewards)).abs().max() < bound


def test_the_baseline_is_the_moving_mean_of_earlier_rewards() -> None:
    model = chain(2)
    algorithm = Proxyless(
        model, SquaredError(), update="reinforce", num_samples=4, reward="loss", baseline_decay=0.75
    )
    want = None
    for _ in range(3):
        metrics = algorithm._update_alphas(batch(3))
        mean = float(metrics["reward"])
        want = mean if want is None else 0.75 * want + 0.25 * mean
        assert algorithm.state_dict()["baseline"] == pytest.approx(want, rel=1e-13)


def test_a_step_of_reinforce_raises_the_expected_reward() -> None:
    model, valid = chain(2), batch(6)
    rewards = rewards_of_all(model, valid, "loss")
    algorithm = Proxyless(
        model,
        SquaredError(),
        update="reinforce",
        num_samples=100,
        reward="loss",
        alpha_optimizer=optimizers.component("sgd", lr=0.5, momentum=0.0, weight_decay=0.0),
    )

    def expected() -> float:
        p = [torch.softmax(op.alpha.detach(), 0) for op in gates(model)]
        return sum(
            math.prod(p[choice][k].item() for choice, k in enumerate(active)) * reward
            for active, reward in rewards.items()
        )

    before = expected()
    algorithm._update_alphas(valid)
    assert expected() > before


def test_an_unknown_reward_names_those_that_there_are() -> None:
    model = chain(2)
    algorithm = Proxyless(model, SquaredError(), update="reinforce", reward="accuracy")
    with pytest.raises(UnsupportedError, match=r"`loss` or a metric of SquaredError \(closeness\)"):
        algorithm.step(batch(3), batch(3), weight_update(model))


# Evaluation and derivation ----------------------------------------------------------------------------


def test_the_derived_network_computes_what_the_supernet_computes_in_evaluation() -> None:
    model, x_BC = chain(), torch.randn(5, 4)
    genotype = derivers.component("darts")().derive(model)
    network = derived(Chain(), genotype)
    kept = {f"{index + 1}": int(op.alpha.argmax()) for index, op in enumerate(gates(model))}
    assert {name: int(ops[0][3:]) for name, ops in genotype.choices.items()} == {
        f"choice_{index}": k for index, k in enumerate(kept.values())
    }
    weights = {}
    for name, tensor in model.network.state_dict().items():  # type: ignore[union-attr]
        site, *rest = name.split(".")
        if site not in kept:
            weights[name] = tensor
        elif int(rest[1]) == kept[site]:
            weights[".".join([site, *rest[2:]])] = tensor
    network.network.load_state_dict(weights)
    assert torch.equal(model.eval()(x_BC), network.eval()(x_BC))


# The schedule -----------------------------------------------------------------------------------------


def test_weight_steps_train_the_sampled_path_alone_and_see_no_gates() -> None:
    model = chain()
    algorithm = Proxyless(model, SquaredError(), warmup_epochs=1)
    before = copy.deepcopy(model.state_dict())
    algorithm.step(batch(5), batch(6), weight_update(model))
    for op, modules in zip(gates(model), candidates(model), strict=True):
        assert [module.passes for module in modules] == [int(k == op.active[0]) for k in range(3)]
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {
        f"network.{name}.{kind}"
        for kind in ("weight", "bias")
        for name in (
            "0",
            "4",
            *(f"{index + 1}.candidates.{op.active[0]}.layer.0" for index, op in enumerate(gates(model))),
        )
    }


def test_alpha_steps_move_no_weight() -> None:
    model = chain()
    before = copy.deepcopy(model.state_dict())
    Proxyless(model, SquaredError()).step(batch(5), batch(6), weight_update(model, lr=0.0))
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {f"mixed_ops.choice_{index}.alpha" for index in range(NUM_CHOICES)}


def test_warm_up_and_the_rhythm_of_alpha_steps() -> None:
    model = chain()
    algorithm = Proxyless(model, SquaredError(), warmup_epochs=2, alpha_every=3)
    update, moved = weight_update(model), []
    for epoch in range(4):
        algorithm.begin_epoch(epoch, 4)
        for _ in range(3):
            before = gates(model)[0].alpha.detach().clone()
            metrics = algorithm.step(batch(3), batch(3), update)
            moved.append(not torch.equal(before, gates(model)[0].alpha.detach()))
            assert ("alpha_loss" in metrics) is moved[-1]
            assert "train_loss" in metrics
    assert moved == [False] * 6 + [False, False, True] * 2


def test_weights_and_alphas_take_a_new_sample_each() -> None:
    model, drawn = chain(6), []
    for op in gates(model):
        draw = op.draw

        def noted(*args: Any, draw: Any = draw, op: BinaryGate = op, **kwargs: Any) -> None:
            draw(*args, **kwargs)
            drawn.append((op.paths, op.active))

        op.draw = noted  # type: ignore[method-assign]
    algorithm = Proxyless(model, SquaredError())
    for _ in range(5):
        algorithm.step(batch(3), batch(3), weight_update(model))
    assert len(drawn) == 5 * 2 * NUM_CHOICES
    assert [len(paths) for paths, _ in drawn] == ([6] * NUM_CHOICES + [2] * NUM_CHOICES) * 5
    assert len({active for _, active in drawn}) > 1


@pytest.mark.parametrize("update", ["two_paths", "all_paths", "reinforce"])
def test_state_goes_on_where_it_was_saved(update: Any) -> None:
    batches = [(batch(5), batch(6)) for _ in range(6)]

    def parts(model: Model) -> tuple[Proxyless, WeightUpdate]:
        algorithm = Proxyless(
            model, SquaredError(), update=update, alpha_every=2, num_samples=3, reward="loss"
        )
        return algorithm, weight_update(model)

    model = chain()
    algorithm, weights = parts(model)
    for train, valid in batches[:3]:
        algorithm.step(train, valid, weights)
    saved = copy.deepcopy((model.state_dict(), algorithm.state_dict(), weights.optimizer.state_dict()))
    for train, valid in batches[3:]:
        algorithm.step(train, valid, weights)
    resumed = chain()
    again, again_weights = parts(resumed)
    resumed.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    again_weights.optimizer.load_state_dict(saved[2])
    for train, valid in batches[3:]:
        again.step(train, valid, again_weights)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])


def test_the_draws_follow_from_the_run_s_seed() -> None:
    def drawn(seed: int) -> list[tuple[int, ...]]:
        torch.manual_seed(0)
        model = chain(6)
        torch.manual_seed(seed)
        algorithm = Proxyless(model, SquaredError(), warmup_epochs=1)
        samples = []
        for _ in range(4):
            algorithm.step(batch(2), batch(2), weight_update(model))
            samples.append(tuple(op.active[0] for op in gates(model)))
        return samples

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


# What it refuses --------------------------------------------------------------------------------------


def test_a_mixed_op_that_does_not_draw_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"`choice_0` is a Softmax.*binary_gate"):
        Proxyless(supernet(Chain(), "softmax"), SquaredError())


def test_a_model_without_alphas_to_learn_is_refused() -> None:
    model = chain()
    for alpha in model.parameters_at("upper"):
        alpha.requires_grad_(False)
    for refused in (model, Model(nn.Linear(1, 1))):
        with pytest.raises(UnsupportedError, match="alpha requires gradients"):
            Proxyless(refused, SquaredError())


def test_a_frozen_alpha_never_moves() -> None:
    model = chain()
    frozen = gates(model)[1].alpha.requires_grad_(False)
    before, algorithm = frozen.clone(), Proxyless(model, SquaredError())
    for _ in range(3):
        algorithm.step(batch(3), batch(3), weight_update(model))
    assert torch.equal(frozen, before)
    assert not frozen.requires_grad
    assert gates(model)[0].alpha.requires_grad
