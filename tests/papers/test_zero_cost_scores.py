"""Zero-cost scores equal their papers' definitions, computed by hand on a small network."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from nasframe import testing
from nasframe.core import Filler, Genotype, LayerChoice, Space, Task, Testbed, costs, scores
from nasframe.errors import UnsupportedError

GENOTYPE = Genotype({"middle": ("wide",)})
TASK = Task((3, 8, 8), 3)


class Network(nn.Module):
    """Convolution, batch norm, ReLU, a pointwise middle, ReLU6, mean, linear with a bias."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.middle, self.head = middle, nn.Linear(4, 3)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x_BCHW = torch.relu(self.norm(self.stem(x_BCHW)))
        y_BK: torch.Tensor = self.head(nn.functional.relu6(self.middle(x_BCHW)).mean((2, 3)))
        return y_BK


class Small(Space):
    def build(self, filler: Filler) -> nn.Module:
        return Network(filler.layer(LayerChoice("middle", ("wide", "slim")), self._middle))

    def _middle(self, name: str) -> nn.Module:
        return nn.Conv2d(4, 4, 1, bias=False, groups=1 if name == "wide" else 4)


@pytest.fixture
def testbed() -> Testbed:
    return testing.example_testbed(Small(), with_supernet=False)


@pytest.fixture
def network(testbed: Testbed) -> nn.Module:
    """The network that is scored: the weights of a testbed's networks are the same each time."""
    return testbed.network(GENOTYPE).network.train()


def batch(testbed: Testbed, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    found = next(testbed.batches(size).epoch(0))
    return found.inputs, found.targets


def gradients(testbed: Testbed, network: nn.Module, size: int) -> list[torch.Tensor]:
    x, labels = batch(testbed, size)
    nn.functional.cross_entropy(network(x), labels).backward()
    return [layer.weight.grad for layer in (network.stem, network.middle, network.head)]


def test_synflow_is_the_flow_through_all_paths_once_for_each_layer(testbed, network):
    """R is linear in the weights of each layer, so that Σ θ ∂R/∂θ is what flows through it."""
    score = scores["synflow"](testbed).of(GENOTYPE)
    stem, middle, head = (
        each.weight.detach().double().abs() for each in (network.stem, network.middle, network.head)
    )
    flow = torch.ones(1, 3, 8, 8, dtype=torch.float64)
    flow = nn.functional.conv2d(flow, stem, padding=1)
    flow = nn.functional.conv2d(flow, middle)
    assert flow.max() < 6  # so that no ReLU6 clips
    through = (head @ flow.mean((2, 3))[0]).sum().item()
    assert score == pytest.approx(3 * through, rel=1e-12)


def test_synflow_needs_no_data_and_is_independent_of_signs(testbed):
    assert scores["synflow"](testbed).of(GENOTYPE) == scores["synflow"](
        replace(testbed, train=None)  # nothing of it is read
    ).of(GENOTYPE)


def test_grad_norm_adds_up_the_norms_of_the_layers(testbed, network):
    expected = sum(gradient.square().sum().sqrt().item() for gradient in gradients(testbed, network, 8))
    assert scores["grad_norm"](testbed, batch_size=8).of(GENOTYPE) == pytest.approx(expected, rel=1e-5)


def test_snip_is_the_gradient_in_a_mask_of_the_weights(testbed, network):
    """As Lee et al. define it: ∂L(c ⊙ θ)/∂c at c = 1, here by automatic differentiation in the masks."""
    x, labels = batch(testbed, 8)
    names = ["stem.weight", "middle.weight", "head.weight"]
    parameters = dict(network.named_parameters())
    masks = {name: torch.ones_like(parameters[name], requires_grad=True) for name in names}
    masked = {name: masks[name] * parameters[name] for name in names}
    loss = nn.functional.cross_entropy(torch.func.functional_call(network, masked, (x,)), labels)
    found = torch.autograd.grad(loss, list(masks.values()))
    expected = sum(gradient.abs().sum().item() for gradient in found)
    assert scores["snip"](testbed, batch_size=8).of(GENOTYPE) == pytest.approx(expected, rel=1e-5)


def test_naswot_is_the_determinant_of_how_often_two_codes_agree(testbed, network):
    x, _ = batch(testbed, 6)
    with torch.no_grad():
        before = network.norm(network.stem(x))
        codes = torch.cat([before.flatten(1) > 0, network.middle(before.relu()).flatten(1) > 0], dim=1)
    units = codes.shape[1]
    kernel = [[units - sum(a != b for a, b in zip(one, other, strict=True)) for other in codes.tolist()]
              for one in codes.tolist()]  # fmt: skip
    expected = math.log(torch.linalg.det(torch.tensor(kernel, dtype=torch.float64)).item())
    assert units == 2 * 4 * 8 * 8
    assert scores["naswot"](testbed, batch_size=6).of(GENOTYPE) == pytest.approx(expected, rel=1e-9)


def test_naswot_of_equal_inputs_is_the_worst(testbed):
    same = replace(testbed, train=type(testbed.train)(torch.ones(8, 3, 8, 8), torch.arange(8) % 3))
    assert scores["naswot"](same, batch_size=4).of(GENOTYPE) == -math.inf


def test_naswot_refuses_networks_without_a_rectifier():
    testbed = testing.example_testbed(_Linear(), with_supernet=False)
    with pytest.raises(UnsupportedError, match="must have a ReLU or ReLU6, but this one has none"):
        scores["naswot"](testbed).of(Genotype({"a": ("x",)}))


class _Linear(Space):
    def build(self, filler: Filler) -> nn.Module:
        layer = filler.layer(LayerChoice("a", ("x", "y")), lambda _: nn.Linear(192, 3))
        return nn.Sequential(nn.Flatten(), layer)


def test_jacob_cov_is_largest_where_gradients_are_uncorrelated(testbed, network):
    x, _ = batch(testbed, 6)
    jacobian = []
    for index in range(6):  # each input's gradient by itself, with the batch norm of the whole batch
        inputs = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(inputs).sum(), inputs)
        jacobian.append(gradient[index].flatten().double())
    centred = torch.stack([row - row.mean() for row in jacobian])
    scaled = centred / centred.norm(dim=1, keepdim=True)
    v = torch.linalg.eigvalsh(scaled @ scaled.T)
    expected = -sum(math.log(each + 1e-5) + 1 / (each + 1e-5) for each in v.tolist())
    assert scores["jacob_cov"](testbed, batch_size=6).of(GENOTYPE) == pytest.approx(expected, rel=1e-4)
    assert expected < -6  # what six gradients without any correlation would have


def test_jacob_cov_of_an_input_that_reaches_nothing_is_the_worst():
    testbed = testing.example_testbed(_Blind(), with_supernet=False)
    assert scores["jacob_cov"](testbed).of(Genotype({"a": ("x",)})) == -math.inf


class _Blind(Space):
    def build(self, filler: Filler) -> nn.Module:
        return nn.Sequential(nn.Flatten(), filler.layer(LayerChoice("a", ("x",)), lambda _: _Zeros()))


class _Zeros(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        return 0 * x_BC[:, :3] + self.bias


def test_parameters_and_flops_are_the_costs_of_the_network(testbed):
    expected = {"parameters": 3 * 4 * 9 + 8 + 16 + 15, "flops": 64 * (3 * 4 * 9 + 16) + 12}
    for name, count in expected.items():
        assert (
            scores[name](testbed).of(GENOTYPE) == count == costs[name]().of(testbed.network(GENOTYPE), TASK)
        )
        assert scores[name](testbed).of(Genotype({"middle": ("slim",)})) < count
