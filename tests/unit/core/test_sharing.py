"""Values that share weights: a smaller module on slices of a larger one's."""

import copy
import io
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from nasframe.core import Space, ValueChoice, generator_for, share, supernet
from nasframe.core.sharing import Resized
from nasframe.errors import ComponentError

F64 = torch.float64


@pytest.fixture(autouse=True)
def double_precision():
    torch.manual_seed(0)
    torch.set_default_dtype(F64)
    yield
    torch.set_default_dtype(torch.float32)


def _shared(module, source):
    share(module, source, "here")
    return module


def _conv(out_channels, kernel_size, in_channels=3):
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def _depthwise(channels, kernel_size):
    return nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)


X = torch.randn(2, 3, 9, 9, generator=generator_for(0), dtype=F64)


@pytest.mark.parametrize(("channels", "kernel_size"), [(6, 3), (4, 7), (2, 5), (1, 1)])
def test_a_convolution_has_the_first_channels_and_the_middle_of_the_kernel(channels, kernel_size):
    large = _conv(6, 7)
    small = _shared(_conv(channels, kernel_size), large)
    edge = (7 - kernel_size) // 2
    weight = large.weight[:channels, :, edge : 7 - edge, edge : 7 - edge]
    expected = functional.conv2d(X, weight, large.bias[:channels], padding=kernel_size // 2)
    assert torch.equal(small(X), expected)


def test_a_kernel_in_the_middle_is_the_large_kernel_with_a_rim_of_zeros():
    large = _conv(4, 7)
    small = _shared(_conv(4, 3), large)
    with torch.no_grad():
        whole = large(X)
        rim = torch.ones(7, 7, dtype=torch.bool)
        rim[2:5, 2:5] = False
        large.weight[:, :, rim] = 0.0
    torch.testing.assert_close(small(X), large(X), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(small(X), whole)


@pytest.mark.parametrize(
    ("make", "x", "by_hand"),
    [
        (
            _depthwise,
            torch.randn(2, 2, 5, 5, dtype=F64),
            lambda large, x: functional.conv2d(
                x, large.weight[:2, :, 1:4, 1:4], large.bias[:2], padding=1, groups=2
            ),
        ),
        (
            lambda size, _: nn.Linear(4, size),
            torch.randn(5, 4, dtype=F64),
            lambda large, x: x @ large.weight[:2].T + large.bias[:2],
        ),
        (
            lambda size, _: nn.BatchNorm1d(size),
            torch.randn(8, 2, dtype=F64),
            lambda large, x: (
                (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() * large.weight[:2] + large.bias[:2]
            ),
        ),
    ],
    ids=["depthwise", "linear", "batch_norm"],
)
def test_other_layers_have_the_first_entries(make, x, by_hand):
    large = make(5, 5)
    with torch.no_grad():
        for parameter in large.parameters():
            parameter.normal_()
    torch.testing.assert_close(_shared(make(2, 3), large)(x), by_hand(large, x), rtol=1e-12, atol=1e-12)


def _block(hidden):
    return nn.Sequential(nn.Conv2d(3, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, 3, 1))


def _by_hand(large, hidden, x):
    """What `_block` with fewer hidden channels computes in training mode, written out."""
    first, norm, _, last = large
    y = functional.conv2d(x, first.weight[:hidden], first.bias[:hidden])
    y = functional.batch_norm(
        y, None, None, norm.weight[:hidden], norm.bias[:hidden], training=True, eps=norm.eps
    )
    return functional.conv2d(y.relu(), last.weight[:, :hidden], last.bias)


def test_gradients_reach_the_slice_and_nothing_else():
    large = _block(5)
    small = _shared(_block(2), large)
    weights = list(large.parameters())
    ours = torch.autograd.grad(small(X).square().sum(), weights)
    theirs = torch.autograd.grad(_by_hand(large, 2, X).square().sum(), weights)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert not ours[0][2:].any()
    assert ours[0][:2].any()


def test_statistics_are_the_smaller_module_s_own():
    large = _block(5)
    small = _shared(_block(2), large)
    small(X)
    assert large[1].num_batches_tracked == 0
    assert not large[1].running_mean.any()
    hidden = functional.conv2d(X, large[0].weight[:2], large[0].bias[:2])
    torch.testing.assert_close(small[1].running_mean, 0.1 * hidden.mean((0, 2, 3)))


def test_a_smaller_module_has_no_weights_of_its_own():
    large = _block(5)
    small = _shared(_block(2), large)
    assert not list(small.parameters())
    assert set(small.state_dict()) == {
        "1.running_mean", "1.running_var", "1.num_batches_tracked"
    }  # fmt: skip
    small(X)
    assert not list(small.parameters())
    with pytest.raises(RuntimeError, match="channels"):
        small(X[:, :2])
    assert not list(small.parameters())


def test_later_blocks_of_the_larger_module_stay_out():
    large = nn.Sequential(*(nn.Linear(3, 3) for _ in range(3)))
    small = _shared(nn.Sequential(nn.Linear(3, 3)), large)
    x = torch.randn(2, 3)
    assert torch.equal(small(x), large[0](x))


def test_channels_are_cut_before_and_padded_with_zeros_behind():
    large = _conv(6, 3)
    small = Resized(_shared(_conv(4, 3, in_channels=2), large), 2, 6)
    out = small(X)
    assert torch.equal(
        out[:, :4], functional.conv2d(X[:, :2], large.weight[:4, :2], large.bias[:4], padding=1)
    )
    assert out.shape == (2, 6, 9, 9)
    assert not out[:, 4:].any()
    vectors = Resized(nn.Linear(3, 2), None, 5)
    assert vectors(torch.randn(4, 3)).shape == (4, 5)


@pytest.mark.parametrize(
    ("small", "large", "message"),
    [
        (_conv(8, 3), _conv(6, 3), r"here: `weight` must be a slice .* shape \(6, 3, 3, 3\)"),
        (nn.Linear(3, 3), nn.Linear(3, 3, bias=False), r"here: `bias` must be a slice .*of nothing"),
        (nn.Sequential(nn.Linear(2, 2)), nn.Sequential(), r"here: `0.weight` .*of nothing"),
        (nn.Conv1d(3, 3, 3), _conv(3, 3), r"here: `weight` must be a slice"),
        (_conv(3, 4), _conv(3, 5), r"here: `weight` must lie in the middle of the largest kernel"),
    ],
)
def test_modules_that_are_built_otherwise_cannot_share(small, large, message):
    with pytest.raises(ComponentError, match=message):
        _shared(small, large)


VALUES = (2, 5, 3)
CHOICE = ValueChoice.of("hidden", VALUES)


class _Searched(Space):
    def build(self, filler):
        return filler.value(CHOICE, _block)


def _model(mixed_op, alpha=(0.3, -0.8, 0.5)):
    model = supernet(_Searched(), mixed_op)
    with torch.no_grad():
        model.mixed_ops["hidden"].alpha.copy_(torch.tensor(alpha))
    return model, model.network.candidates[1]


def test_softmax_mixes_the_one_module_at_each_value():
    model, large = _model("softmax")
    alpha = model.mixed_ops["hidden"].alpha
    parameters = [alpha, *large.parameters()]
    assert {id(each) for each in model.parameters()} == {id(each) for each in parameters}
    p = alpha.exp() / alpha.exp().sum()
    expected = sum(p[k] * _by_hand(large, hidden, X) for k, hidden in enumerate(VALUES))
    torch.testing.assert_close(model(X), expected, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(model(X).square().sum(), parameters)
    theirs = torch.autograd.grad(expected.square().sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def _until(model, active):
    generator, op = generator_for(0), model.mixed_ops["hidden"]
    while True:
        model.sample(generator)
        if op.active == (active,):
            return op


@pytest.mark.parametrize("active", range(3))
def test_binary_gates_run_one_value_and_have_the_gradient_of_the_explicit_sum(active):
    model, large = _model("binary_gate")
    alpha = _until(model, active).alpha
    y = model(X)
    torch.testing.assert_close(y, _by_hand(large, VALUES[active], X), rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(y.square().sum(), [alpha, *large.parameters()])
    # g is one-hot in value, and passes its gradient on to p (straight through)
    p = alpha.exp() / alpha.exp().sum()
    g = functional.one_hot(torch.tensor(active), 3) + p - p.detach()
    total = sum(g[k] * _by_hand(large, hidden, X) for k, hidden in enumerate(VALUES))
    theirs = torch.autograd.grad(total.square().sum(), [alpha, *large.parameters()])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_recomputation_for_the_gates_leaves_the_statistics_of_all_values():
    model, large = _model("binary_gate")
    _until(model, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    output = model(X)
    after_forward = {name: value.clone() for name, value in model.state_dict().items()}
    output.square().sum().backward()
    after = model.state_dict()
    moved = [name for name in before if not torch.equal(before[name], after_forward[name])]
    assert {name.rpartition(".")[0] for name in moved} == {"network.candidates.0.1"}
    assert all(torch.equal(after_forward[name], after[name]) for name in after)
    assert large[0].weight.grad is not None


def _gradients(model, call):
    _until(model, 2)
    model.zero_grad()
    call(X.clone().requires_grad_()).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_around_a_site_gives_the_same_gradients(reentrant):
    model, _ = _model("binary_gate")
    plain = _gradients(model, model)
    again = _gradients(model, lambda x: checkpoint(model, x, use_reentrant=reentrant))
    assert all(torch.allclose(one, other, rtol=1e-12) for one, other in zip(plain, again, strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_value_computes_the_same():
    model, large = _model("softmax")
    small = model.network.candidates[0]
    compiled = torch.compile(small, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), small(X), rtol=1e-12, atol=1e-12)
    (ours,) = torch.autograd.grad(compiled(X).square().sum(), [large[0].weight])
    (theirs,) = torch.autograd.grad(small(X).square().sum(), [large[0].weight])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def _saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def _assigned(model):
    twin = _model("softmax")[0]
    twin.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    return twin


@pytest.mark.parametrize("copied", [copy.deepcopy, _saved_and_loaded, _assigned])
def test_a_copy_shares_weights_within_itself(copied):
    model, large = _model("softmax")
    twin = copied(model)
    assert torch.equal(twin(X), model(X))
    with torch.no_grad():
        twin.network.candidates[1][0].weight.zero_()
    assert large[0].weight.any()
    first = twin.network.candidates[0]
    torch.testing.assert_close(first(X), _by_hand(twin.network.candidates[1], 2, X), rtol=1e-12, atol=1e-12)


def test_checkpointing_inside_a_smaller_module_works():
    class Checkpointed(nn.Module):
        def __init__(self, hidden):
            super().__init__()
            self.layers = _block(hidden)

        def forward(self, x):
            return checkpoint(self.layers, x, use_reentrant=False)

    large, small = Checkpointed(5), Checkpointed(2)
    share(small, large, "here")
    weight = large.layers[0].weight
    (ours,) = torch.autograd.grad(small(X).square().sum(), [weight])
    (theirs,) = torch.autograd.grad(_by_hand(large.layers, 2, X).square().sum(), [weight])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_all_values_follow_a_change_of_precision():
    model, _ = _model("softmax")
    assert model.float()(X.float()).dtype == torch.float32


def test_in_a_choice_inside_a_choice_slices_are_cut_from_slices():
    kernel, hidden = ValueChoice.of("kernel", (1, 3)), ValueChoice.of("hidden", (2, 5))

    class Nested(Space):
        def build(self, filler):
            def at(channels):
                return nn.Sequential(
                    filler.value(kernel, partial(_conv, channels)), nn.Conv2d(channels, 3, 1, bias=False)
                )

            return filler.value(hidden, at)

    model = supernet(Nested(), "softmax")
    first, last = model.network.candidates[1][0].candidates[1], model.network.candidates[1][1]
    p, q = (model.mixed_ops[name].weights() for name in ("hidden", "kernel"))
    expected = 0.0
    for i, channels in enumerate((2, 5)):
        inner = q[0] * functional.conv2d(X, first.weight[:channels, :, 1:2, 1:2], first.bias[:channels])
        inner = inner + q[1] * functional.conv2d(X, first.weight[:channels], first.bias[:channels], padding=1)
        expected = expected + p[i] * functional.conv2d(inner, last.weight[:, :channels])
    torch.testing.assert_close(model(X), expected, rtol=1e-12, atol=1e-12)
    assert len(list(model.parameters())) == 2 + 3  # two alphas; weight and bias of one, weight of the other


def test_gates_inside_a_choice_recompute_on_slices_of_slices():
    """What is recomputed in the backward pass lies within a smaller module that is not being called."""
    kernel, hidden = ValueChoice.of("kernel", (1, 3)), ValueChoice.of("hidden", (2, 5))

    class Nested(Space):
        def build(self, filler):
            def at(channels):
                return nn.Sequential(
                    filler.value(kernel, partial(_conv, channels)),
                    nn.ReLU(),
                    nn.Conv2d(channels, 3, 1, bias=False),
                )

            return filler.value(hidden, at)

    model = supernet(Nested(), "binary_gate")
    first, last = model.network.candidates[1][0].candidates[1], model.network.candidates[1][2]
    ops = [model.mixed_ops["hidden"], model.mixed_ops["kernel"]]
    seen, generator = set(), generator_for(0)
    while len(seen) < 4:
        model.sample(generator)
        seen.add((ops[0].active, ops[1].active))
        parameters = [op.alpha for op in ops] + [first.weight, first.bias, last.weight]
        ours = torch.autograd.grad(model(X).square().sum(), parameters)
        gates = []
        for op in ops:
            p = torch.softmax(op.alpha, 0)
            gates.append(functional.one_hot(torch.tensor(op.active[0]), 2) + p - p.detach())
        total = 0.0
        for i, channels in enumerate((2, 5)):
            weight, bias = first.weight[:channels], first.bias[:channels]
            inner = gates[1][0] * functional.conv2d(X, weight[:, :, 1:2, 1:2], bias)
            inner = inner + gates[1][1] * functional.conv2d(X, weight, bias, padding=1)
            total = total + gates[0][i] * functional.conv2d(inner.relu(), last.weight[:, :channels])
        theirs = torch.autograd.grad(total.square().sum(), parameters)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
