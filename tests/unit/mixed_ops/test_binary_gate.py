import copy
import math
from collections import Counter
from functools import partial

import pytest
import torch
from torch import nn

from nasframe.core import (
    InputChoice,
    InTwoSteps,
    LayerChoice,
    MixedInput,
    MixedLayer,
    generator_for,
    mixed_ops,
)
from nasframe.errors import ComponentError, UnsupportedError
from nasframe.mixed_ops.binary_gate import BinaryGate

ALPHA = [0.3, -1.2, 0.7]
X = torch.tensor([2.0, -1.0], dtype=torch.float64)


class _Power(nn.Module):
    """x ↦ a xⁿ, and how often it was computed."""

    def __init__(self, power, factor=1.0):
        super().__init__()
        self.power, self.calls = power, 0
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x):
        self.calls += 1
        return self.factor * x**self.power


class _Nothing(nn.Module):
    always_zero = True

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return torch.zeros_like(x)


def _gate(alpha, *, num_chosen=1, search_only=(), **settings):
    names = tuple(map(str, range(len(alpha))))
    choice = LayerChoice("edge", names, num_chosen=num_chosen, search_only=search_only)
    op = BinaryGate(choice, **settings).double()
    with torch.no_grad():
        op.alpha.copy_(torch.tensor(alpha, dtype=torch.float64))
    return op


def _draw(op, generator, num_paths=None):
    op.draw(op.logits().detach().double(), generator, num_paths)
    return op


def _until(op, active, num_paths=None):
    """Draw until these candidates are active."""
    generator = torch.Generator().manual_seed(0)
    while _draw(op, generator, num_paths).active != tuple(active):
        pass
    return op


def _shares(alpha, temperature=1.0):
    exponentials = [math.exp(each / temperature) for each in alpha]
    return [each / sum(exponentials) for each in exponentials]


def test_weights_are_the_softmax_of_alpha_over_the_temperature():
    op = _gate(ALPHA, temperature=0.5)
    assert op.weights().tolist() == pytest.approx(_shares(ALPHA, 0.5), rel=1e-12)


@pytest.mark.parametrize("active", range(3))
def test_forward_runs_the_sampled_candidate_alone(active):
    candidates = [_Power(1, 5.0), _Power(2), _Power(3)]
    output = _until(_gate(ALPHA), [active])(candidates, X)
    assert torch.equal(output.detach(), (5.0 if active == 0 else 1.0) * X ** (active + 1))
    assert [candidate.calls for candidate in candidates] == [int(index == active) for index in range(3)]


def test_the_output_is_that_of_the_candidate_to_the_last_bit():
    op = _until(_gate([0.0, 0.0]), [0])
    x = torch.tensor([-0.0, 0.0, math.inf, -math.inf, 5e-324], dtype=torch.float64)
    output = op([nn.Identity(), _Power(1)], x).detach()
    assert torch.equal(output.view(torch.int64), x.view(torch.int64))


@pytest.mark.parametrize("active", range(3))
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradients_are_those_of_the_formula(active, temperature):
    # L = Σ_x y(x)²/2 at y = o_k: b_j = Σ_x o_k o_j, and ∂L/∂a_i = p_i (b_i − Σ_j p_j b_j) / τ
    op = _until(_gate(ALPHA, temperature=temperature), [active])
    candidates = [_Power(1), _Power(2), _Power(3)]
    x = X.clone().requires_grad_()
    (op(candidates, x).square().sum() / 2).backward()
    b = [sum(v ** (active + 1) * v ** (j + 1) for v in X.tolist()) for j in range(3)]
    p = _shares(ALPHA, temperature)
    mean = sum(share * each for share, each in zip(p, b, strict=True))
    expected = [share * (each - mean) / temperature for share, each in zip(p, b, strict=True)]
    assert op.alpha.grad.tolist() == pytest.approx(expected, rel=1e-12)
    n = active + 1
    assert x.grad.tolist() == pytest.approx([n * v ** (2 * n - 1) for v in X.tolist()], rel=1e-12)
    assert candidates[active].factor.grad.item() == pytest.approx(b[active], rel=1e-12)
    assert all(candidates[j].factor.grad is None for j in range(3) if j != active)
    assert [candidate.calls for candidate in candidates] == [1, 1, 1]


def test_two_paths_share_their_gates_between_them_and_leave_the_third_alone():
    op = _draw(_gate(ALPHA), torch.Generator().manual_seed(3), 2)
    candidates = [_Power(1), _Power(2), _Power(3)]
    op(candidates, X).sum().backward()
    (i, j), k = op.paths, op.active[0]
    assert k in (i, j)
    b = {path: sum(v ** (path + 1) for v in X.tolist()) for path in (i, j)}
    p_i = math.exp(ALPHA[i]) / (math.exp(ALPHA[i]) + math.exp(ALPHA[j]))
    expected = [0.0, 0.0, 0.0]
    expected[i] = p_i * (1 - p_i) * (b[i] - b[j])
    expected[j] = -expected[i]
    assert op.alpha.grad.tolist() == pytest.approx(expected, rel=1e-12)
    assert [candidate.calls for candidate in candidates] == [int(path in (i, j)) for path in range(3)]


@pytest.mark.parametrize("active", range(2))
def test_a_zero_candidate_takes_part_and_is_never_recomputed(active):
    op, zero, square = _until(_gate([0.5, -0.5]), [active]), _Nothing(), _Power(2)
    x = X.clone().requires_grad_()
    output = op([zero, square], x)
    (3 * output).sum().backward()
    # b = (0, 3 Σ x²)
    p = _shares([0.5, -0.5])
    step = p[0] * p[1] * 3 * 5.0
    assert op.alpha.grad.tolist() == pytest.approx([-step, step], rel=1e-12)
    assert zero.calls == (1 if active == 0 else 0)
    assert square.calls == 1


def test_nothing_is_computed_for_a_frozen_alpha():
    op = _until(_gate(ALPHA), [1])
    op.alpha.requires_grad_(False)
    candidates = [_Power(1), _Power(2), _Power(3)]
    op(candidates, X).sum().backward()
    assert [candidate.calls for candidate in candidates] == [0, 1, 0]
    assert op.alpha.grad is None


def test_nothing_is_computed_in_a_backward_pass_that_leaves_alpha_out():
    op = _until(_gate(ALPHA), [1])
    candidates = [_Power(1), _Power(2), _Power(3)]
    op(candidates, X).sum().backward(inputs=[candidates[1].factor])
    assert [candidate.calls for candidate in candidates] == [0, 1, 0]
    assert op.alpha.grad is None
    assert candidates[1].factor.grad.item() == 5.0


def test_evaluation_runs_the_most_likely_candidate_without_a_draw():
    op = _gate(ALPHA).eval()
    candidates = [_Power(1), _Power(2), _Power(3)]
    assert torch.equal(op(candidates, X).detach(), X**3)
    assert [candidate.calls for candidate in candidates] == [0, 0, 1]
    with pytest.raises(UnsupportedError):
        op.train()(candidates, X)


def test_evaluation_never_runs_what_a_genotype_cannot_keep():
    op = _gate([5.0, 1.0, 1.0], search_only=("0",)).eval()
    assert torch.equal(op([_Nothing(), _Power(2), _Power(3)], X).detach(), X**2)


def test_a_pass_before_any_draw_says_what_to_do():
    with pytest.raises(UnsupportedError, match=r"`edge` must be drawn.*model\.sample\(generator\)"):
        _gate(ALPHA)([_Power(1), _Power(2), _Power(3)], X)


def test_draws_follow_the_weights():
    op, generator, count = _gate(ALPHA, temperature=2.0), torch.Generator().manual_seed(1), 4_000
    drawn = Counter(_draw(op, generator).active[0] for _ in range(count))
    for index, p in enumerate(_shares(ALPHA, 2.0)):
        assert drawn[index] / count == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / count))


def test_two_paths_are_drawn_without_replacement_and_the_active_one_by_its_share_of_both():
    op, generator, count = _gate(ALPHA), torch.Generator().manual_seed(1), 4_000
    p = _shares(ALPHA)
    drawn = Counter()
    for _ in range(count):
        _draw(op, generator, 2)
        assert len(set(op.paths)) == 2
        drawn[op.paths, op.active] += 1
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        for k in (i, j):
            share = both * p[k] / (p[i] + p[j])
            deviation = math.sqrt(share * (1 - share) / count)
            assert drawn[(i, j), (k,)] / count == pytest.approx(share, abs=5 * deviation)


def test_equal_generators_draw_the_same_whatever_the_global_random_state():
    op, drawn = _gate([0.0] * 8), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        generator = generator_for(5)
        drawn.append([_draw(op, generator, 2).paths for _ in range(20)])
        assert torch.equal(state, torch.get_rng_state())
    assert drawn[0] == drawn[1]


def test_alphas_too_far_apart_for_a_softmax_still_give_two_paths():
    op = _draw(_gate([2000.0, 0.0, -2000.0]), torch.Generator(), 2)
    assert op.paths == (0, 1)
    assert op.active == (0,)


def test_the_probability_of_a_draw_is_that_of_drawing_one_after_the_other():
    p = _shares(ALPHA)
    one = _until(_gate(ALPHA), [2])
    assert one.log_probability().item() == pytest.approx(math.log(p[2]), rel=1e-12)
    two = _until(_gate(ALPHA, num_chosen=2), [2, 0])
    assert two.log_probability().item() == pytest.approx(math.log(p[2] * p[0] / (1 - p[2])), rel=1e-12)


def test_a_choice_that_keeps_two_adds_them_up_and_learns_from_each():
    op = _until(_gate(ALPHA, num_chosen=2), [2, 0])
    candidates = [_Power(1), _Power(2), _Power(3)]
    output = op(candidates, X)
    assert torch.equal(output.detach(), X + X**3)
    output.sum().backward()
    b = [sum(v**n for v in X.tolist()) for n in (1, 2, 3)]
    p = _shares(ALPHA)
    mean = sum(share * each for share, each in zip(p, b, strict=True))
    expected = [share * (each - mean) for share, each in zip(p, b, strict=True)]
    assert op.alpha.grad.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("num_chosen", "num_paths"), [(1, 2), (2, 3), (3, 4)])
def test_two_paths_of_a_choice_that_keeps_several_are_one_more_than_it_keeps(num_chosen, num_paths):
    op = _draw(_gate([0.0] * 6, num_chosen=num_chosen), torch.Generator(), 2)
    assert len(set(op.paths)) == num_paths
    assert len(set(op.active)) == num_chosen
    assert set(op.active) < set(op.paths)


def test_inputs_of_a_node_are_gated_each_with_its_own_state():
    op = BinaryGate(InputChoice("node", ("0", "1", "2"))).double()
    site = MixedInput(op, [_Power(1), _Power(2), _Power(1)])
    states = [X.clone().requires_grad_(), 3 * X, 5 * X]
    _until(op, [0])
    site(states).sum().backward()
    p, b = op.weights().detach(), torch.tensor([1.0, 45.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(op.alpha.grad, p * (b - p @ b), rtol=1e-12, atol=1e-14)
    assert torch.equal(states[0].grad, torch.ones_like(X))


def test_sites_of_one_choice_run_one_draw_and_add_up_in_its_gradient():
    op, apart = _until(_gate(ALPHA), [2]), []
    orders = ((1, 2, 3), (2, 1, 4))
    for powers in orders:
        output = op([_Power(power) for power in powers], X).sum()
        apart.append(torch.autograd.grad(output, op.alpha)[0])
    sites = [MixedLayer(op, [_Power(power) for power in powers]) for powers in orders]
    (sites[0](X).sum() + sites[1](X).sum()).backward()
    torch.testing.assert_close(op.alpha.grad, sum(apart))


def test_partial_applications_keep_their_arguments():
    op = _until(_gate([0.0, 0.0]), [0])

    def scaled(factor, x, *, shift):
        return factor * x + shift

    op([partial(scaled, 2.0, shift=X), partial(scaled, 3.0, shift=-X)], X).sum().backward()
    # b = (Σ 3x, Σ 2x) = (3, 2), p = ½ each
    assert op.alpha.grad.tolist() == pytest.approx([0.25, -0.25], rel=1e-12)


def test_candidates_of_different_shapes_are_refused():
    op = _until(_gate([0.0, 0.0]), [0])
    output = op([nn.Identity(), lambda x: x[:1]], X)
    with pytest.raises(ComponentError, match=r"`edge`.*same shapes.*\(2,\).*\(1,\)"):
        output.sum().backward()


@pytest.mark.parametrize("output", [None, "text", torch.arange(3)])
def test_outputs_that_alpha_cannot_learn_from_are_refused(output):
    op = _until(_gate([0.0, 0.0]), [0])
    with pytest.raises(UnsupportedError, match="`edge` must return floating-point tensors"):
        op([lambda x: output, lambda x: output], X)


def test_a_copy_draws_and_learns_on_its_own():
    op = _until(_gate(ALPHA), [1])
    other = copy.deepcopy(op)
    other([_Power(1), _Power(2), _Power(3)], X).sum().backward()
    assert op.alpha.grad is None
    assert other.alpha.grad is not None
    assert other.active == (1,)


def test_the_initial_alpha_is_drawn_around_zero_with_the_given_deviation():
    choice = LayerChoice("edge", tuple(map(str, range(4000))))
    torch.manual_seed(0)
    alpha = mixed_ops["binary_gate"](choice, init_std=0.5).alpha.detach()
    assert abs(alpha.mean().item()) < 5 * 0.5 / math.sqrt(4000)
    assert alpha.std().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(8000))


class _InTwoSteps(nn.Module, InTwoSteps):
    """x ↦ a x², the square being the step that can be shared."""

    squares = 0

    def __init__(self, factor, key="square"):
        super().__init__()
        self.factor, self.key = factor, key

    def forward(self, x):
        return self.second_step(self.first_step(x), x)

    def sharing_key(self):
        return self.key

    def first_step(self, x):
        type(self).squares += 1
        return x**2

    def second_step(self, made, x):
        return self.factor * made


def test_what_unsampled_candidates_make_first_of_one_input_is_made_once():
    op = _until(_gate([0.0] * 4), [0])
    candidates = [_Power(1), _InTwoSteps(2.0), _InTwoSteps(3.0), _InTwoSteps(5.0, "another")]
    _InTwoSteps.squares = 0
    op(candidates, X).sum().backward()
    assert _InTwoSteps.squares == 2
    b = [1.0, 2 * 5.0, 3 * 5.0, 5 * 5.0]
    assert op.alpha.grad.tolist() == pytest.approx([(each - sum(b) / 4) / 4 for each in b], rel=1e-12)


def test_candidates_that_read_different_states_share_nothing():
    op = _until(BinaryGate(InputChoice("node", ("0", "1", "2"))).double(), [0])
    op.alpha.data.zero_()
    MixedInput(op, [_Power(1), _InTwoSteps(1.0), _InTwoSteps(1.0)])([X, 2 * X, 3 * X]).sum().backward()
    b = [1.0, 4 * 5.0, 9 * 5.0]
    assert op.alpha.grad.tolist() == pytest.approx([(each - sum(b) / 3) / 3 for each in b], rel=1e-12)


def test_an_unsampled_candidate_that_somebody_watches_is_called_whole():
    op, seen, watched = _until(_gate([0.0, 0.0]), [0]), [], _InTwoSteps(2.0)
    watched.register_forward_hook(lambda module, args, output: seen.append(output))
    op([_Power(1), watched], X).sum().backward()
    assert [output.tolist() for output in seen] == [[8.0, 2.0]]


def test_an_unsampled_candidate_that_writes_into_its_input_spoils_it_for_nobody():
    class Writer(nn.Module):
        def forward(self, x):
            return x.zero_() + 1.0

    op = _until(_gate([0.0] * 3), [0])
    op([_Power(1), Writer(), _Power(2)], X).sum().backward()
    b = [1.0, 2.0, 5.0]
    assert op.alpha.grad.tolist() == pytest.approx([(each - sum(b) / 3) / 3 for each in b], rel=1e-12)
