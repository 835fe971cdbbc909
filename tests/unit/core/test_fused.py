"""A node whose mixtures are computed together is the node that computes them one by one."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import nasframe
import nasframe.core
from nasframe.core import (
    ALPHA,
    ArchParam,
    FusedSum,
    InputChoice,
    LayerChoice,
    MixedLayer,
    MixedOp,
    SumOfInputs,
    SupernetFiller,
    Task,
)
from nasframe.mixed_ops.softmax import Softmax

OPERATIONS = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip


def supernet(
    fused,
    *,
    channels=4,
    cells=3,
    nodes=2,
    memory_format=torch.contiguous_format,
    size=16,
    mixed_op="softmax",
):
    space = nasframe.registries["spaces"]["darts"](
        Task(input_shape=(3, size, size)), channels=channels, cells=cells, nodes=nodes
    )
    torch.manual_seed(0)
    model = nasframe.supernet(space, mixed_op, fused=fused).double()
    with torch.no_grad():
        for alpha in model.parameters_of("alpha"):
            alpha.normal_()
    return model.to(memory_format=memory_format)


def batch(size=16, dtype=torch.float64):
    torch.manual_seed(1)
    return torch.randn(4, 3, size, size, dtype=dtype), torch.randint(10, (4,))


def loss_of(model, memory_format=torch.contiguous_format, size=16):
    images, targets = batch(size)
    return functional.cross_entropy(model(images.contiguous(memory_format=memory_format)), targets)


def assert_all_close(found, expected, rtol=1e-10):
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * max(1.0, other.abs().max().item()))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [16, 14])  # of 14, the dilated convolutions' phases are not of one size
def test_value_gradients_and_running_statistics_are_those_of_the_plain_supernet(memory_format, size):
    plain, fused = supernet(False, size=size), supernet(True, memory_format=memory_format, size=size)
    assert any(isinstance(module, FusedSum) for module in fused.modules())
    assert not any(isinstance(module, FusedSum) for module in plain.modules())
    expected, found = loss_of(plain, size=size), loss_of(fused, memory_format, size)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert_all_close(
        torch.autograd.grad(found, list(fused.parameters()), allow_unused=True),
        torch.autograd.grad(expected, list(plain.parameters()), allow_unused=True),
    )
    assert_all_close(list(fused.buffers()), list(plain.buffers()))


@pytest.mark.parametrize("mixed_op", ["sigmoid", "concrete", "dirichlet"])
def test_other_weighted_sums_are_those_of_the_plain_supernet(mixed_op):
    found = []
    for fused in (False, True):
        model = supernet(fused, mixed_op=mixed_op)
        loss = loss_of(model)  # the batch's seed is that of the draw, too
        found.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    assert_all_close(*reversed(found), rtol=1e-9)


def test_shares_that_stand_in_the_place_of_the_mixture_are_followed():
    torch.manual_seed(2)
    found = []
    shares = {name: torch.rand(8, dtype=torch.float64) for name, _ in supernet(True).mixed_ops.items()}
    for fused in (False, True):
        model = supernet(fused)
        leaves = {name: each.clone().requires_grad_() for name, each in shares.items()}
        with model.mixed_by(leaves):
            gradients = torch.autograd.grad(loss_of(model), list(leaves.values()))
            assert all(torch.equal(each, shares[name]) for name, each in model.mixtures().items())
        found.append(gradients)
        assert not any(torch.equal(each, shares[name]) for name, each in model.mixtures().items())
    assert_all_close(*reversed(found), rtol=1e-9)


@pytest.mark.parametrize(
    ("memory_format", "size"),
    [(torch.contiguous_format, 16), (torch.channels_last, 16), (torch.channels_last, 14)],
)
def test_second_derivatives_are_those_of_the_plain_supernet(memory_format, size):
    plain = supernet(False, cells=2, size=size)
    fused = supernet(True, cells=2, size=size, memory_format=memory_format)
    expected = second_derivatives(plain, loss_of(plain, size=size))
    found = second_derivatives(fused, loss_of(fused, memory_format, size))
    assert_all_close(found, expected, rtol=1e-10)


def second_derivatives(model, loss):
    """Of the loss, along a direction of the weights; for alphas and weights."""
    weights = list(model.parameters_of("weight"))
    gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    used = [each for each in gradients if each is not None]
    generator = torch.Generator().manual_seed(2)
    along = [torch.randn(each.shape, generator=generator, dtype=each.dtype) for each in used]
    return torch.autograd.grad(used, list(model.parameters()), along, allow_unused=True)


def test_a_second_backward_pass_gives_the_same():
    model = supernet(True)
    loss, parameters = loss_of(model), list(model.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    assert_all_close(torch.autograd.grad(loss, parameters, allow_unused=True), first, rtol=0)


def test_evaluation_and_autocast_are_the_plain_ones_bit_for_bit():
    plain, fused = supernet(False), supernet(True)
    images, _ = batch()
    assert torch.equal(fused.eval()(images), plain.eval()(images))
    for model in (plain, fused):
        model.train().float().autocast(torch.bfloat16)
    assert torch.equal(fused(images.float()), plain(images.float()))


def test_a_checkpoint_of_one_is_one_of_the_other():
    plain, fused = supernet(False), supernet(True)
    assert list(plain.state_dict()) == list(fused.state_dict())


def test_it_keeps_far_less_for_the_backward_pass():
    def kept(model):
        seen = {}

        def pack(tensor):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss_of(model, torch.channels_last).backward()
        return sum(seen.values())

    plain = kept(supernet(False, nodes=3, memory_format=torch.channels_last))
    assert kept(supernet(True, nodes=3, memory_format=torch.channels_last)) < 0.65 * plain


def test_no_batch_norm_gets_a_weight_without_a_stride():
    """On the CPU, PyTorch 2.13 reads such weights out of bounds in channels_last, and says nothing."""
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "batch_norm" in function.name():
                seen.append(
                    all(x.stride(0) > 0 for x in args if isinstance(x, torch.Tensor) and x.dim() == 1)
                )
            return function(*args, **(kwargs or {}))

    for fused in (False, True):
        with Watch():
            loss_of(supernet(fused, memory_format=torch.channels_last), torch.channels_last).backward()
    assert seen
    assert all(seen)


# A node of hand-made candidates


class _Square(nn.Module):
    def forward(self, x):
        return x**2


class _Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3), keepdim=True)


class _Both(MixedOp):
    """No sum by weights: the product of all candidates."""

    makes = (ALPHA,)

    def __init__(self, choice):
        super().__init__()
        self.alpha = ArchParam(torch.zeros(len(choice.candidates)), ALPHA)

    def weights(self):
        return torch.softmax(self.alpha, 0)

    def forward(self, candidates, x):
        out = self.alpha.sum().exp()
        for candidate in candidates:
            out = out * candidate(x)
        return out


class _Standardized(nn.Conv2d):
    """A third party's convolution: its weight is not what it multiplies with."""

    def forward(self, x):
        weight = self.weight / self.weight.norm()
        return functional.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)


def conv_norm(**norm):
    return nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2, affine=False, **norm))


def node(make, *, mixed_op=Softmax, fused=True, num_states=2):
    """A node whose edges have a convolution with its norm beside the candidate under test."""
    torch.manual_seed(0)
    filler = SupernetFiller(mixed_op, fused=fused)
    edges = tuple(f"edge_{index}" for index in range(num_states))
    made = {"chain": conv_norm, "other": make}

    def edge(index):
        return filler.layer(LayerChoice(edges[index], tuple(made)), lambda name: made[name]())

    choice = InputChoice("node", tuple(map(str, range(num_states))), edges=edges, num_chosen=1)
    return filler.inputs(choice, edge).double()


def states():
    torch.manual_seed(2)
    return [torch.randn(3, 2, 4, 4, dtype=torch.float64) for _ in range(3)]


CANDIDATES = {
    "any module": _Square,
    "of another shape": _Mean,
    "identity": nn.Identity,
    "pool": lambda: nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(2, affine=False)),
    "pool of another shape": lambda: nn.Sequential(nn.AvgPool2d(4), nn.BatchNorm2d(2, affine=False)),
    "ReLU in place": lambda: nn.Sequential(nn.Identity(), nn.ReLU(), nn.Conv2d(2, 2, 1)),
    "affine norm": lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)),
    "norm in the middle": lambda: nn.Sequential(
        nn.ReLU(), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2),
        nn.ReLU(), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, affine=False),
    ),
    "norm after no convolution": lambda: nn.Sequential(nn.ReLU(), nn.Tanh(), nn.BatchNorm2d(2, affine=False)),
    "no running statistics": lambda: conv_norm(track_running_stats=False),
    "cumulative statistics": lambda: conv_norm(momentum=None),
    "another depthwise convolution": lambda: nn.Sequential(
        nn.ReLU(), _Standardized(2, 2, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2, affine=False),
    ),
    "another 1x1 convolution": lambda: nn.Sequential(
        nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False),
        _Standardized(2, 2, 1, bias=False), nn.BatchNorm2d(2, affine=False, eps=0.1),
    ),
    "batch norm alone": lambda: nn.BatchNorm2d(2, affine=False),
    "empty": nn.Sequential,
}  # fmt: skip


@pytest.mark.parametrize("name", list(CANDIDATES))
def test_candidates_of_any_build_are_mixed_as_ever(name):
    plain, fused = node(CANDIDATES[name], fused=False), node(CANDIDATES[name])
    assert isinstance(fused, FusedSum)
    given = [state.requires_grad_() for state in states()]
    expected, found = plain(given), fused(given)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(expected)
    assert_all_close(
        torch.autograd.grad((found * direction).sum(), [*given, *fused.parameters()], allow_unused=True),
        torch.autograd.grad((expected * direction).sum(), [*given, *plain.parameters()], allow_unused=True),
    )
    assert_all_close(list(fused.buffers()), list(plain.buffers()))


def test_what_a_candidate_writes_into_is_its_own():
    def writing():
        clip = nn.Hardtanh(0, 0.5, inplace=True)
        return nn.Sequential(nn.ReLU(), clip, nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, affine=False))

    plain, fused, given = node(writing, fused=False), node(writing), nasframe.core.States(states())
    with torch.no_grad():
        for _ in range(2):  # a second node reads the same states
            torch.testing.assert_close(fused(given), plain(given), rtol=1e-12, atol=1e-12)


def test_a_frozen_batch_norm_stays_frozen():
    plain, fused = node(nn.Identity, fused=False), node(nn.Identity)
    for each in (plain, fused):
        for module in each.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += 1
                module.eval()
    torch.testing.assert_close(fused(states()), plain(states()), rtol=1e-12, atol=1e-12)
    assert_all_close(list(fused.buffers()), list(plain.buffers()))


def test_who_hooks_into_a_candidate_sees_it_called():
    fused, seen = node(nn.Identity), []
    layer = fused.branches[0].candidates[0][1]
    layer.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    fused(states())
    assert seen == [(3, 2, 4, 4)]


def _hook(chain):
    chain[1].register_forward_pre_hook(lambda module, args: (args[0] * 2,))


def _replace(chain):
    torch.manual_seed(7)
    chain[1] = nn.Conv2d(2, 2, 5, padding=2).double()


def _freeze(chain):
    chain[2].eval()


@pytest.mark.parametrize("change", [_hook, _replace, _freeze])
def test_what_changes_between_passes_is_seen(change):
    plain, fused = node(nn.Identity, fused=False), node(nn.Identity)
    for each in (plain, fused):
        each(states())
        sites = (module for module in each.modules() if isinstance(module, MixedLayer))
        change(next(sites).candidates[0])
    torch.testing.assert_close(fused(states()), plain(states()), rtol=1e-12, atol=1e-12)


def separable(channels=2, *, kernel_size=3, dilation=1):
    """As a third party would write it, of PyTorch's own layers."""
    padding = kernel_size // 2 * dilation
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(
            channels, channels, kernel_size, padding=padding, dilation=dilation, groups=channels, bias=False
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=False),
    )


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_separable_convolutions_of_all_edges_are_one_call(kernel_size, dilation, monkeypatch):
    def build():
        return separable(kernel_size=kernel_size, dilation=dilation)

    plain, fused, calls = node(build, fused=False), node(build), []
    original = functional.conv2d

    def counted(x, weight, *args):
        calls.append(tuple(weight.shape))
        return original(x, weight, *args)

    given = [state.requires_grad_() for state in states()]
    expected = plain(given)
    monkeypatch.setattr(functional, "conv2d", counted)
    found = fused(given)
    monkeypatch.undo()
    of_separable = [shape for shape in calls if shape != (2, 2, 3, 3)]
    assert of_separable == [(4, 1, kernel_size, kernel_size)]  # two edges of two channels; nothing of 1 x 1
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert_all_close(
        torch.autograd.grad(found.square().sum(), [*given[:2], *fused.parameters()]),
        torch.autograd.grad(expected.square().sum(), [*given[:2], *plain.parameters()]),
    )
    assert_all_close(list(fused.buffers()), list(plain.buffers()))


def test_what_states_have_in_common_is_made_once():
    relus = []
    given = nasframe.core.States(states())
    original = functional.relu

    def counted(x, *args, **kwargs):
        relus.append(x.shape)
        return original(x, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "relu", counted)
        for _ in range(3):
            node(conv_norm)(given)
    assert len(relus) == 2  # one a state, for 3 nodes of 2 edges of 2 candidates


def test_another_sort_of_mixture_is_computed_edge_by_edge():
    assert isinstance(node(nn.Identity, mixed_op=_Both), SumOfInputs)


def test_states_are_not_changed():
    given = states()
    before = [state.clone() for state in given]
    node(nn.Identity)(given)
    assert all(map(torch.equal, given, before))
