"""Equations 2 and 3 of PC-DARTS against slices and sums written by hand, in float64."""

import math

import pytest
import torch
from torch import nn

import nasframe
from nasframe.core import MixedInput, derivers, num_architectures, spaces, take_weights
from nasframe.errors import UnsupportedError
from nasframe_pcdarts.edge_normalization import BETA, EdgeNormalized
from nasframe_pcdarts.edge_rule import EdgeRule
from nasframe_pcdarts.partial_channels import PartialChannels, PartialConnection

TASK = nasframe.Task((1, 8, 8), 3)
OPERATIONS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
DARTS = spaces.component("darts", channels=8, cells=3, nodes=2, operations=OPERATIONS)


def shares(values):
    exponentials = [math.exp(value - max(values)) for value in values]
    return [each / sum(exponentials) for each in exponentials]


def shuffled(channels, groups):
    """Channel c of group g stands at c · groups + g."""
    size = len(channels) // groups
    return [channels[group * size + index] for index in range(size) for group in range(groups)]


def connected(inner, x, divisor):
    """What a partial connection makes of x, channel by channel."""
    count = x.shape[1] // divisor
    mixed = inner(x[:, :count])
    passing = [x[:, index] for index in range(count, x.shape[1])]
    if mixed.shape[-1] < x.shape[-1]:  # the largest of each square of four
        corners = [(row, column) for row in (0, 1) for column in (0, 1)]
        passing = [torch.stack([each[:, r::2, c::2] for r, c in corners]).amax(0) for each in passing]
    return torch.stack(shuffled([*mixed.unbind(1), *passing], divisor), dim=1)


@pytest.mark.parametrize("divisor", [2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_part_of_the_channels_passes_by_and_all_are_shuffled(divisor, stride):
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    count = 8 // divisor
    site = nn.Conv2d(count, count, 3, stride, padding=1).double()
    torch.testing.assert_close(
        PartialConnection(site, divisor)(x), connected(site, x, divisor), rtol=0, atol=0
    )


def test_maps_of_odd_size_are_halved_upwards_as_by_the_candidates():
    site = nn.Conv2d(2, 2, 3, stride=2, padding=1)
    assert PartialConnection(site, 4)(torch.randn(1, 8, 7, 5)).shape == (1, 8, 4, 3)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nasframe.supernet(PartialChannels(TASK, of=DARTS, divisor=4), EdgeNormalized).double()
    with torch.no_grad():
        for parameter in model.parameters_at("upper"):
            parameter.normal_()
    return model


def node_by_hand(model, node, states, name):
    """Σ_j softmax(beta)_j · f_j(x_j), f_j with the sum over candidates by softmax(alpha), and its terms."""
    terms = []
    for state, x in enumerate(states):
        p = shares(model.mixed_ops[f"{name}_{state}"].alpha.tolist())
        candidates = node.branches[state].site.candidates

        def inner(part, p=p, candidates=candidates):
            return sum(share * candidate(part) for share, candidate in zip(p, candidates, strict=True))

        terms.append(connected(inner, x, 4))
    weights = shares(model.mixed_ops[name].alpha.tolist())
    return sum(weight * term for weight, term in zip(weights, terms, strict=True)), weights, terms


@pytest.mark.parametrize(("cell", "kind"), [(0, "normal"), (1, "reduce")])
@pytest.mark.parametrize("index", [0, 1])
def test_a_node_is_the_sum_of_its_inputs_by_beta_and_of_their_candidates_by_alpha(model, cell, kind, index):
    cells = [module for module in model.modules() if hasattr(module, "nodes") and hasattr(module, "concat")]
    node = cells[cell].nodes[index]
    width = 8 * (1 + cell)
    states = [torch.randn(3, width, 4, 4, dtype=torch.float64) for _ in range(2)]
    # in a reduction cell later states are half as large
    states += [torch.randn(3, width, 4 // (1 + cell), 4 // (1 + cell), dtype=torch.float64)] * index
    name = f"{kind}_{2 + index}"
    expected, weights, terms = node_by_hand(model, node, states, name)
    output = node(states)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    # ∂L/∂beta_i = p_i (⟨g, f_i⟩ − Σ_j p_j ⟨g, f_j⟩)
    direction = torch.randn_like(output)
    beta = model.mixed_ops[name].alpha
    assert beta.kind == BETA
    (gradient,) = torch.autograd.grad(output, beta, direction)
    along = [(direction * term).sum().item() for term in terms]
    mean = sum(weight * each for weight, each in zip(weights, along, strict=True))
    wanted = [weight * (each - mean) for weight, each in zip(weights, along, strict=True)]
    assert gradient.tolist() == pytest.approx(wanted, rel=1e-8, abs=1e-8)


def test_the_parameters_are_alphas_betas_and_weights(model):
    assert set(model.kinds()) == {"alpha", "beta", "weight"}
    betas = dict(model.named_parameters_of("beta"))
    # two kinds of cell, two nodes each, of two and of three inputs: the first node's are weighed too
    assert sorted(len(beta) for beta in betas.values()) == [2, 2, 3, 3]
    alphas = list(model.parameters_of("alpha"))
    assert [len(alpha) for alpha in alphas] == [len(OPERATIONS)] * 10
    assert len(list(model.parameters_at("upper"))) == len(alphas) + len(betas)


def test_candidates_see_a_part_of_the_channels_and_the_rest_of_the_network_all():
    model = nasframe.supernet(PartialChannels(TASK, of=DARTS, divisor=4), EdgeNormalized)
    plain = nasframe.supernet(DARTS(TASK))
    sites = [module for module in model.modules() if isinstance(module, PartialConnection)]
    assert len(sites) == 3 * 5
    widths = {
        module.in_channels for site in sites for module in site.modules() if isinstance(module, nn.Conv2d)
    }
    assert widths == {2, 4, 8}  # 8, 16 and 32 channels by 4

    def around(network):
        return {
            name: tuple(value.shape)
            for name, value in network.network.named_parameters()
            if ".candidates." not in name
        }

    assert around(model) == around(plain)


def test_inputs_need_not_be_weighed():
    model = nasframe.supernet(PartialChannels(TASK, of=DARTS, divisor=4, weighed=False), "dirichlet")
    assert set(model.kinds()) == {"alpha", "weight"}
    assert sum(isinstance(module, PartialConnection) for module in model.modules()) == 3 * 5
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_candidates_that_come_to_see_more_channels_keep_what_they_learned():
    torch.manual_seed(0)
    former, model = (
        nasframe.supernet(PartialChannels(TASK, of=DARTS, divisor=divisor, weighed=False))
        for divisor in (4, 2)
    )
    take_weights(model, former)
    before, widened = dict(former.network.named_parameters()), 0
    for name, weight in model.network.named_parameters():
        expected = before[name]
        for dim in range(min(2, weight.dim())):
            size = expected.shape[dim]
            expected = expected.index_select(dim, torch.tensor([i % size for i in range(weight.shape[dim])]))
        assert torch.equal(weight, expected)
        widened += weight.shape != before[name].shape
    assert widened > 0


def test_nothing_passes_by_where_the_divisor_is_one():
    whole = nasframe.supernet(PartialChannels(TASK, of=DARTS, divisor=1), EdgeNormalized)
    plain = nasframe.supernet(DARTS(TASK), EdgeNormalized)
    shapes = [[p.shape for p in model.parameters_of("weight")] for model in (whole, plain)]
    assert shapes[0] == shapes[1]
    assert set(whole.kinds()) - set(plain.kinds()) == {"beta"}
    assert whole(torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_derived_networks_are_those_of_the_space_inside():
    space = PartialChannels(TASK, of=DARTS, divisor=4)
    genotype = nasframe.sample(space, torch.Generator().manual_seed(0))
    mine, plain = nasframe.derived(space, genotype), nasframe.derived(DARTS(TASK), genotype)
    shapes = [{name: value.shape for name, value in each.state_dict().items()} for each in (mine, plain)]
    assert shapes[0] == shapes[1]
    assert mine.kinds() == ("weight",)
    assert space.graphs(genotype) == DARTS(TASK).graphs(genotype)


BENCHMARK = spaces.component("nas_bench_201", channels=8, cells=1)
EDGES = [f"cell_{node}_{state}" for node in (1, 2, 3) for state in range(node)]


@pytest.fixture
def whole_model():
    """Of a space whose nodes add up all states before them."""
    torch.manual_seed(0)
    model = nasframe.supernet(PartialChannels(TASK, of=BENCHMARK, divisor=4), EdgeNormalized).double()
    with torch.no_grad():
        for parameter in model.parameters_at("upper"):
            parameter.normal_()
    return model


@pytest.mark.parametrize("name", ["cell_2", "cell_3"])
def test_a_node_that_all_states_reach_weighs_them_by_beta_too(whole_model, name):
    cell = next(module for module in whole_model.modules() if hasattr(module, "nodes"))
    count = int(name[-1])
    states = [torch.randn(3, 8, 4, 4, dtype=torch.float64) for _ in range(count)]
    expected, weights, terms = node_by_hand(whole_model, cell.nodes[count - 1], states, name)
    output = cell.nodes[count - 1](states)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    direction = torch.randn_like(output)
    (gradient,) = torch.autograd.grad(output, whole_model.mixed_ops[name].alpha, direction)
    along = [(direction * term).sum().item() for term in terms]
    mean = sum(weight * each for weight, each in zip(weights, along, strict=True))
    wanted = [weight * (each - mean) for weight, each in zip(weights, along, strict=True)]
    assert gradient.tolist() == pytest.approx(wanted, rel=1e-8, abs=1e-8)


def test_betas_of_such_nodes_are_shared_by_all_cells_and_none_weighs_a_single_state(whole_model):
    assert sorted(len(beta) for beta in whole_model.parameters_of("beta")) == [2, 3]
    sites = [module for module in whole_model.modules() if isinstance(module, MixedInput)]
    assert len(sites) == 3 * 2
    assert sum(isinstance(module, PartialConnection) for module in whole_model.modules()) == 3 * 6
    assert whole_model(torch.randn(2, 1, 8, 8, dtype=torch.float64)).shape == (2, 3)


def test_betas_of_such_nodes_decide_nothing_of_an_architecture(whole_model):
    space, inside = PartialChannels(TASK, of=BENCHMARK, divisor=4), BENCHMARK(TASK)
    assert num_architectures(space) == num_architectures(inside) == 5**6
    preferred = [max(range(5), key=whole_model.mixed_ops[edge].alpha.tolist().__getitem__) for edge in EDGES]
    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    expected = {edge: (operations[index],) for edge, index in zip(EDGES, preferred, strict=True)}
    for deriver in (EdgeRule(), derivers["darts"]()):
        assert dict(deriver.derive(whole_model).choices) == expected
    genotype = nasframe.sample(space, torch.Generator().manual_seed(0))
    assert sorted(genotype.choices) == EDGES
    assert space.key(genotype) == inside.key(genotype)
    assert nasframe.derived(space, genotype).kinds() == ("weight",)


def test_such_nodes_need_not_be_weighed():
    space = PartialChannels(TASK, of=BENCHMARK, divisor=4, weighed=False)
    assert set(nasframe.supernet(space, EdgeNormalized).kinds()) == {"alpha", "weight"}


def test_the_supernet_draws_as_much_as_it_needs_and_no_more():
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        model = nasframe.supernet(PartialChannels(TASK, of=DARTS), EdgeNormalized)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_channels_that_cannot_be_divided_are_refused():
    with pytest.raises(UnsupportedError, match=r"of\.channels must be a multiple of the divisor 3, got 8"):
        PartialChannels(TASK, of=DARTS, divisor=3)


def test_a_space_without_channels_is_refused():
    with pytest.raises(UnsupportedError, match="must have a setting `channels`, but `mobile` has none"):
        PartialChannels(TASK, of=spaces.component("mobile"))
