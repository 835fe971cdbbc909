"""The networks of NAS-Bench-201 are the authors' (Dong and Yang 2020, arXiv 2001.00326).

Three independent sources: figures that the benchmark's files and maintainers give, counts from the paper's
description (sections 2.1 and 2.2), and a plain network written here from it.
"""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from nasframe.core import Task, choices_of, costs, derived, generator_for, price, sample, supernet
from nasframe.core.space_size import num_architectures
from nasframe.derivers.darts import DartsRule
from nasframe.spaces.nas_bench_201 import NasBench201

CIFAR10, CIFAR100, IMAGENET16 = Task((3, 32, 32), 10), Task((3, 32, 32), 100), Task((3, 16, 16), 120)
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
SPACE = NasBench201(CIFAR10)


def spelled(ops: tuple[str, ...]) -> str:
    """The arch string of the operations of edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""
    a, b, c, d, e, f = ops
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


ALL = {spelled(ops): ops for ops in itertools.product(OPERATIONS, repeat=6)}
SAMPLE = [key for number, key in enumerate(ALL) if number % 1300 == 7]  # 12 of them
LIGHTEST, HEAVIEST = spelled(("none",) * 6), spelled(("nor_conv_3x3",) * 6)
FIRST = spelled(("avg_pool_3x3", "nor_conv_1x1", "skip_connect", "nor_conv_1x1", *["skip_connect"] * 2))
SECOND = spelled(("nor_conv_3x3",) * 2 + ("avg_pool_3x3", "skip_connect", "nor_conv_3x3", "skip_connect"))
OTHER = spelled(("skip_connect", "none", "nor_conv_3x3", "avg_pool_3x3", "nor_conv_3x3", "nor_conv_3x3"))
PUBLISHED = [  # millions of parameters and of FLOPs
    # smallest and largest in the benchmark's file
    (CIFAR10, LIGHTEST, 0.073306, 7.78305),
    (CIFAR10, HEAVIEST, 1.531546, 220.11969),
    (CIFAR100, LIGHTEST, 0.079156, 7.7889),
    (CIFAR100, HEAVIEST, 1.537396, 220.12554),
    # architecture 0: D-X-Y/NATS-Bench issue 24
    (CIFAR10, FIRST, None, 15.64737),
    (CIFAR100, FIRST, None, 15.65322),
    (IMAGENET16, FIRST, None, 3.91948),
    # architecture 1: issue 18 of the same, rounded there
    (CIFAR10, SECOND, 0.802, 113.95),
    (CIFAR100, SECOND, 0.808, 113.96),
    (IMAGENET16, SECOND, 0.810, 28.50),
    # issue 36 of the same
    (CIFAR10, OTHER, 0.802426, 113.95137),
]


class Plain(nn.Module):
    """The network as the paper draws it; modules in the order of the signal."""

    def __init__(self, ops: tuple[str, ...], channels: int, cells: int, num_outputs: int) -> None:
        super().__init__()
        c = channels
        self.stem = nn.ModuleList([nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)])
        self.body = nn.ModuleList()
        for stage in range(3):
            if stage:
                self.body.append(PlainReduction(c))
                c *= 2
            self.body.extend(PlainCell(ops, c) for _ in range(cells))
        self.last_norm, self.classifier = nn.BatchNorm2d(c), nn.Linear(c, num_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (*self.stem, *self.body):
            x = layer(x)
        return self.classifier(functional.relu(self.last_norm(x)).mean((2, 3)))


class PlainCell(nn.Module):
    def __init__(self, ops: tuple[str, ...], channels: int) -> None:
        super().__init__()
        self.ops = ops
        self.convs = nn.ModuleList(nn.ModuleList(plain_op(name, channels)) for name in ops)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes, edge = [x], 0
        for node in (1, 2, 3):
            total = torch.zeros_like(x)
            for state in range(node):
                total = total + self.apply_op(edge, nodes[state])
                edge += 1
            nodes.append(total)
        return nodes[3]

    def apply_op(self, edge: int, x: torch.Tensor) -> torch.Tensor:
        name = self.ops[edge]
        if name.startswith("nor_conv"):
            conv, norm = self.convs[edge]
            return norm(conv(functional.relu(x)))
        if name == "avg_pool_3x3":
            return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        return x if name == "skip_connect" else 0 * x


def plain_op(name: str, channels: int) -> list[nn.Module]:
    if not name.startswith("nor_conv"):
        return []
    size = int(name[-1])
    conv = nn.Conv2d(channels, channels, size, padding=(size - 1) // 2, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class PlainReduction(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.one = nn.ModuleList(
            [nn.Conv2d(c, 2 * c, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * c)]
        )
        self.two = nn.ModuleList([nn.Conv2d(2 * c, 2 * c, 3, padding=1, bias=False), nn.BatchNorm2d(2 * c)])
        self.shortcut = nn.Conv2d(c, 2 * c, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x
        for conv, norm in (self.one, self.two):
            out = norm(conv(functional.relu(out)))
        return out + self.shortcut(functional.avg_pool2d(x, 2))


def plain_counts(key: str, task: Task) -> tuple[int, int]:
    """Parameters and FLOPs of the plain network, convolutions and linear layers counted with their biases."""
    flops = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal flops
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        per_output = layer.weight[0].numel() + (layer.bias is not None)
        flops += per_output * output.numel()

    with torch.device("meta"):
        network = Plain(ALL[key], 16, 5, task.num_outputs).eval()
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.register_forward_hook(count)
        network(torch.empty(1, *task.input_shape))
    return sum(parameter.numel() for parameter in network.parameters()), flops


def counted(ops: tuple[str, ...]) -> tuple[int, int]:
    """Parameters and multiply-adds on CIFAR-10, summed up from the paper's description."""
    parameters, products = 3 * 9 * 16 + 2 * 16, 3 * 9 * 16 * 32 * 32
    for stage, c in enumerate((16, 32, 64)):
        pixels = (32 >> stage) ** 2
        squares = sum({"nor_conv_1x1": 1, "nor_conv_3x3": 9}.get(name, 0) for name in ops)
        num_convs = sum(name.startswith("nor_conv") for name in ops)
        parameters += 5 * (squares * c * c + num_convs * 2 * c)
        products += 5 * squares * c * c * pixels
        if stage:
            block = 9 * c // 2 * c + 9 * c * c + c // 2 * c
            parameters += block + 2 * 2 * c
            products += block * pixels
    return parameters + 2 * 64 + 64 * 10 + 10, products + 64 * 10


@pytest.mark.parametrize(("task", "key", "parameters", "flops"), PUBLISHED)
def test_published_figures_come_out(task, key, parameters, flops):
    space = NasBench201(task)
    with torch.device("meta"):
        model = derived(space, space.genotype(key))
    for published, cost in ((parameters, costs["parameters"]()), (flops, costs["flops"](bias=True))):
        if published is not None:
            digits = len(str(published).partition(".")[2])
            assert round(cost.of(model, task) / 1e6, digits) == published


@pytest.mark.parametrize("key", SAMPLE)
def test_a_derived_network_has_the_parameters_and_flops_of_the_plain_one(key):
    with torch.device("meta"):
        model = derived(SPACE, SPACE.genotype(key))
    counts = costs["parameters"]().of(model, CIFAR10), costs["flops"](bias=True).of(model, CIFAR10)
    assert counts == plain_counts(key, CIFAR10)


def test_all_15625_architectures_have_the_counts_of_the_paper_s_description():
    assert len(ALL) == num_architectures(SPACE) == 5**6 == 15_625
    parameters, flops = (price(SPACE, CIFAR10, costs[name]()) for name in ("parameters", "flops"))
    for key, ops in ALL.items():
        genotype = SPACE.genotype(key)
        assert (parameters.of(genotype), flops.of(genotype)) == counted(ops), key


def test_arch_strings_are_read_and_written():
    assert [SPACE.key(SPACE.genotype(key)) for key in ALL] == list(ALL)
    small = NasBench201(CIFAR10, channels=1, cells=1)
    drawn = {small.key(sample(small, generator_for(seed, "test"))) for seed in range(40)}
    assert len(drawn) > 30
    assert drawn <= ALL.keys()


def test_edges_stand_where_the_string_says():
    key = spelled(("nor_conv_1x1", "nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1"))
    genotype = SPACE.genotype(key)
    assert {edge: genotype[edge] for edge in genotype.choices} == {
        "cell_1_0": ("nor_conv_1x1",),
        "cell_2_0": ("nor_conv_3x3",),
        "cell_2_1": ("none",),
        "cell_3_0": ("skip_connect",),
        "cell_3_1": ("avg_pool_3x3",),
        "cell_3_2": ("nor_conv_1x1",),
    }


@pytest.mark.parametrize("key", [*SAMPLE[::3], LIGHTEST, HEAVIEST, FIRST])
def test_a_derived_network_computes_what_the_plain_one_does(key):
    space = NasBench201(CIFAR10, channels=3, cells=2)
    torch.manual_seed(0)
    model = derived(space, space.genotype(key)).double()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    plain = Plain(ALL[key], 3, 2, 10).double()
    ours, theirs = model.network.state_dict(), plain.state_dict()
    assert [value.shape for value in ours.values()] == [value.shape for value in theirs.values()]
    plain.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for training in (True, False):
        outputs = [network.train(training)(x) for network in (model, plain)]
        torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)


def test_the_supernet_is_one_cell_with_an_alpha_an_edge_and_all_candidates_in_the_authors_order():
    with torch.device("meta"):
        model = supernet(SPACE)
    choices = choices_of(SPACE)
    assert list(choices) == ["cell_1_0", "cell_2_0", "cell_2_1", "cell_3_0", "cell_3_1", "cell_3_2"]
    assert {(choice.candidates, choice.derivable) for choice in choices.values()} == {
        (OPERATIONS, OPERATIONS)
    }
    assert [tuple(alpha.shape) for alpha in model.parameters_of("alpha")] == [(5,)] * 6


def test_batch_norms_of_the_supernet_s_cells_go_without_parameters_and_the_others_have_them():
    with torch.device("meta"):
        model = supernet(SPACE)
    # those of stem, two blocks and head, and two of each edge of 15 cells
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [sum(norm.affine is affine for norm in norms) for affine in (True, False)] == [
        1 + 4 + 1,
        15 * 6 * 2,
    ]
    weights = sum(parameter.numel() for parameter in model.parameters_of("weight"))
    edges = 5 * 6 * (1 + 9) * (16**2 + 32**2 + 64**2)
    assert weights == counted(("none",) * 6)[0] + edges


def test_the_strongest_candidate_of_each_edge_is_kept_none_among_them():
    space = NasBench201(CIFAR10, channels=2, cells=1)
    model = supernet(space)
    strongest = ("none", "avg_pool_3x3", "none", "nor_conv_3x3", "skip_connect", "nor_conv_1x1")
    for alpha, name in zip(model.parameters_of("alpha"), strongest, strict=True):
        alpha.data.fill_(0.1)[OPERATIONS.index(name)] = 0.2
    assert space.key(DartsRule().derive(model)) == spelled(strongest)
