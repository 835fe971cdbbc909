"""Prices of candidates, and what a supernet costs on average."""

import itertools

import pytest
import torch
from torch import nn

from nasframe.core import (
    Cost,
    Genotype,
    InputChoice,
    LayerChoice,
    Prices,
    Space,
    Task,
    ValueChoice,
    costs,
    derived,
    expected_cost,
    generator_for,
    mixed_ops,
    price,
    sample,
    spaces,
    supernet,
)
from nasframe.core.prices import Opened
from nasframe.errors import ComponentError, FormatError, UnsupportedError

TASK = Task((4,), 3)


class Built(Space):
    """A space of a network that a function builds."""

    def __init__(self, make):
        self._make = make

    def build(self, filler):
        return self._make(filler)


def _mlp(name):
    """A candidate that maps 4 numbers to 4: ``linear_8`` through 8 numbers, else nothing."""
    if name == "none":
        return nn.Identity()
    width = int(name.removeprefix("linear_"))
    return nn.Sequential(nn.Linear(4, width, bias=False), nn.ReLU(), nn.Linear(width, 4, bias=False))


WIDTHS = {"none": 0, "linear_2": 2, "linear_5": 5}
ONE, TWO = (LayerChoice(name, tuple(WIDTHS)) for name in ("one", "two"))
HEAD = 4 * 3


def _chain(filler):
    """The choice `one` stands at two sites, `two` at one."""
    sites = [filler.layer(choice, _mlp) for choice in (ONE, TWO, ONE)]
    return nn.Sequential(*sites, nn.Linear(4, 3, bias=False))


COST = {name: 2 * 4 * width for name, width in WIDTHS.items()}  # multiply-adds of a candidate
CHAIN = Built(_chain)


class Around(Cost):
    """Sees what stands around the sites of a network, as a compiler of graphs gets it."""

    def of(self, model, task):
        return 0.0

    def of_call(self, module, *args, **kwargs):
        opened = Opened(module.to_empty(device="cpu"))
        if opened.holes(torch.device("cpu")):
            inputs, holes = torch.randn(1, 4), [torch.randn(1, 4) for _ in range(3)]
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.fill_(0.5)
            self.inputs, self.standing, self.given = inputs, holes, opened(holes, (inputs,), {})
        return 0.0


def _prices(space=CHAIN, task=TASK, name="flops"):
    return price(space, task, costs[name]())


def _doubles(space, mixed_op="softmax", seed=0):
    torch.manual_seed(seed)
    model = supernet(space, mixed_op).double()
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.copy_(torch.randn(alpha.shape, dtype=torch.float64))
    return model


def test_prices_are_the_fixed_part_and_each_candidate_over_all_sites_of_its_choice():
    prices = _prices()
    assert prices.fixed == HEAD
    assert list(prices.choices) == ["one", "two"]
    assert {name: each.fixed for name, each in prices.choices["two"].items()} == COST
    assert {name: each.fixed for name, each in prices.choices["one"].items()} == {
        name: 2 * cost for name, cost in COST.items()
    }
    assert [list(candidates) for candidates in prices.choices.values()] == [list(WIDTHS)] * 2


def test_sites_are_outputs_and_inputs_to_what_compiles_a_graph_around_them():
    cost = Around()
    price(Built(lambda filler: nn.Sequential(nn.Linear(4, 4, bias=False), _chain(filler))), TASK, cost)
    to_first_site, output = cost.given  # the other sites are given what stands in the one before
    halves = torch.full((4, 4), 0.5)
    assert torch.equal(to_first_site, cost.inputs @ halves)
    assert torch.equal(output, cost.standing[2] @ halves[:, :3])


def test_price_of_each_architecture_is_the_cost_of_its_network():
    for cost_name in ("flops", "parameters"):
        prices, cost = _prices(name=cost_name), costs[cost_name]()
        for one, two in itertools.product(WIDTHS, WIDTHS):
            genotype = Genotype({"one": (one,), "two": (two,)})
            assert prices.of(genotype) == cost.of(derived(CHAIN, genotype), TASK)


def test_expectation_over_architectures_is_the_sum_over_choices():
    model, prices = _doubles(CHAIN), _prices()
    p = model.choice_weights()
    enumerated = sum(
        p["one"][i] * p["two"][j] * prices.of(Genotype({"one": (one,), "two": (two,)}))
        for (i, one), (j, two) in itertools.product(enumerate(WIDTHS), enumerate(WIDTHS))
    )
    torch.testing.assert_close(expected_cost(model, prices), enumerated, rtol=1e-12, atol=0)


def test_gradient_in_alpha_is_the_closed_form():
    model = _doubles(CHAIN)
    alphas = {name: op.alpha for name, op in model.mixed_ops.items()}
    gradients = torch.autograd.grad(expected_cost(model, _prices()), list(alphas.values()))
    for (name, alpha), gradient in zip(alphas.items(), gradients, strict=True):
        sites = {"one": 2, "two": 1}[name]
        c = sites * torch.tensor(list(COST.values()), dtype=torch.float64)
        p = alpha.detach().exp() / alpha.detach().exp().sum()
        torch.testing.assert_close(gradient, p * (c - p @ c), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(mixed_ops.names()) - {"uniform_path"}))
def test_every_mixed_op_gets_the_gradient_of_the_expected_cost(name):
    """N-1: the penalty of the original reached the alphas as numbers, without a gradient."""
    model, prices = _doubles(CHAIN, name), _prices()
    alphas = list(model.parameters_at("upper"))
    gradients = torch.autograd.grad(expected_cost(model, prices), alphas)
    for alpha, gradient in zip(alphas, gradients, strict=True):
        assert gradient.abs().max() > 0
        for index in range(alpha.numel()):
            sides = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    alpha[index] += step
                    sides.append(expected_cost(model, prices).item())
                    alpha[index] -= step
            assert gradient[index].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-6)


def test_descending_the_expected_cost_alone_finds_the_cheapest_architecture():
    model, prices = _doubles(CHAIN), _prices()
    optimizer = torch.optim.SGD(list(model.parameters_at("upper")), lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        expected_cost(model, prices).backward()
        optimizer.step()
    assert [int(weights.argmax()) for weights in model.choice_weights().values()] == [0, 0]
    assert expected_cost(model, prices).item() == pytest.approx(HEAD, abs=0.1)


def test_a_choice_inside_a_candidate_is_priced_where_that_candidate_is_kept():
    outer, inner = LayerChoice("outer", ("plain", "nested")), LayerChoice("inner", tuple(WIDTHS))

    def make(filler):
        def candidate(name):
            if name == "plain":
                return nn.Linear(4, 4, bias=False)
            return nn.Sequential(nn.Linear(4, 4, bias=False), filler.layer(inner, _mlp))

        return nn.Sequential(filler.layer(outer, candidate), nn.Linear(4, 3, bias=False))

    space = Built(make)
    model, prices = _doubles(space), _prices(space)
    p = model.choice_weights()
    within = sum(weight * cost for weight, cost in zip(p["inner"], COST.values(), strict=True))
    expected = HEAD + p["outer"][0] * 16 + p["outer"][1] * (16 + within)
    torch.testing.assert_close(expected_cost(model, prices), expected, rtol=1e-12, atol=0)
    genotype = Genotype({"outer": ("nested",), "inner": ("linear_5",)})
    assert prices.of(genotype) == HEAD + 16 + 40
    assert prices.of(Genotype({"outer": ("plain",)})) == HEAD + 16


def test_value_choices_and_choices_of_one_input_are_priced_like_layers():
    def make(filler):
        width = filler.value(ValueChoice("width", ("2", "5")), lambda value: _mlp(f"linear_{value}"))
        branches = filler.inputs(
            InputChoice("input", ("0", "1")), lambda index: _mlp(("none", "linear_2")[index])
        )

        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.width, self.branches = width, branches

            def forward(self, x):
                return self.branches([x, self.width(x)])[:, :3]

        return Network()

    prices = _prices(Built(make))
    assert prices.fixed == 0
    assert {name: each.fixed for name, each in prices.choices["width"].items()} == {"2": 16, "5": 40}
    assert {name: each.fixed for name, each in prices.choices["input"].items()} == {"0": 0, "1": 16}


class _Wide(Space):
    """Vectors: a stem, a repeated block and a head at widths that two choices decide, kernels aside."""

    def build(self, filler):
        first, second = ValueChoice.of("first", (3, 2, 5)), ValueChoice.of("second", (2, 4))

        def joint(before):
            return filler.value(second, lambda after: nn.Linear(before, after), pad_output=True)

        def block(index):
            def at(width):
                return nn.Sequential(
                    filler.value(
                        ValueChoice.of(f"hidden_{index}", (1, 6)), lambda size: _through(width, size)
                    )
                )

            return filler.value(second, at, narrow_input=True, pad_output=True)

        return nn.Sequential(
            filler.value(first, lambda width: nn.Linear(4, width, bias=False), pad_output=True),
            filler.value(first, lambda width: _through(width, width), narrow_input=True, pad_output=True),
            filler.value(first, joint, narrow_input=True),
            filler.repeat(ValueChoice.of("depth", (2, 1)), block),
            filler.value(second, lambda width: nn.Linear(width, 3), narrow_input=True),
        )


def _through(width, size):
    return nn.Sequential(nn.Linear(width, size), nn.BatchNorm1d(size), nn.Linear(size, width))


@pytest.mark.parametrize("cost_name", ["flops", "parameters"])
def test_the_expectation_over_coupled_widths_and_depths_is_that_over_all_architectures(cost_name):
    space, cost = _Wide(), costs[cost_name]()
    model, prices = _doubles(space), _prices(space, name=cost_name)
    alphas = list(model.parameters_at("upper"))
    total, expected = 0.0, expected_cost(model, prices)
    by_genotype = {}
    for names in itertools.product(*(choice.candidates for choice in model.choices.values())):
        kept = dict(zip(model.choices, names, strict=True))
        genotype = model.genotype({choice: (name,) for choice, name in kept.items()})
        if genotype not in by_genotype:
            with torch.device("meta"):
                by_genotype[genotype] = cost.of(derived(space, genotype), TASK)
            assert prices.of(genotype) == by_genotype[genotype]
        shares = [
            op.weights()[model.choices[choice].candidates.index(kept[choice])]
            for choice, op in model.mixed_ops.items()
        ]
        total = total + torch.stack(shares).prod() * by_genotype[genotype]
    assert len(by_genotype) == 3 * 2 * (2 + 2**2)
    torch.testing.assert_close(expected, total, rtol=1e-10, atol=0)
    for one, other in zip(
        torch.autograd.grad(expected, alphas), torch.autograd.grad(total, alphas), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_cost_that_two_widths_decide_is_priced_for_each_pair():
    prices = _prices(_Wide(), name="flops")
    pairs = {
        (before, after): prices.choices["first"][before].choices["second"][after].fixed
        for before in ("3", "2", "5")
        for after in ("2", "4")
    }
    assert pairs == {(before, after): int(before) * int(after) for before, after in pairs}


def test_what_two_choices_decide_lies_with_the_inner_one_and_shares_add_up_to_the_whole():
    prices = _prices(_Wide(), name="flops")
    kept = {"first": "5", "second": "4", "hidden_0": "6", "hidden_1": "1", "depth": "2"}
    genotype = Genotype({name: (value,) for name, value in kept.items()})
    shares = prices.shares(genotype)
    assert set(shares) <= set(kept.items())
    assert shares["first", "5"] == 4 * 5 + 2 * 5 * 5  # the stem, and what goes from its width to its width
    assert prices.fixed + sum(shares.values()) == prices.of(genotype)
    with pytest.raises(FormatError, match="choice `second` must keep some"):
        prices.shares(Genotype({"first": ("5",)}))


def test_a_choice_inside_itself_is_not_priced():
    def make(filler):
        return filler.layer(ONE, lambda name: nn.Sequential(filler.layer(ONE, _mlp)))

    with pytest.raises(ComponentError, match="`one` must not be asked for inside one of its own candidates"):
        _prices(Built(make))


DARTS = {
    "channels": 4,
    "cells": 3,
    "nodes": 3,
    "stem_multiplier": 1,
    "operations": ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3"),
}


@pytest.mark.parametrize("cost_name", ["flops", "parameters"])
def test_in_the_darts_space_architectures_are_priced_exactly_though_edges_are_pruned(cost_name):
    task = Task((3, 16, 16), 5)
    space, cost = spaces["darts"](task, **DARTS), costs[cost_name]()
    prices = price(space, task, cost)
    for seed in range(3):
        genotype = sample(space, generator_for(seed))
        with torch.device("meta"):
            assert prices.of(genotype) == cost.of(derived(space, genotype), task)


def test_prices_are_those_of_derived_networks_whose_batch_norms_have_parameters():
    task = Task((3, 16, 16), 5)
    space = spaces["macro"](task, channels=2, stages=(2,), features=8)
    prices = price(space, task, costs["parameters"]())
    assert prices.choices["layer_0"]["identity"].fixed == 2 * 4 + 2 * 4  # 1x1 convolution, scale and shift
    assert prices.choices["layer_1"]["identity"].fixed == 0


def test_pricing_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    _prices()
    assert torch.equal(before, torch.get_rng_state())


def test_a_space_without_choices_costs_its_fixed_part():
    prices = _prices(Built(lambda filler: nn.Linear(4, 3)))
    assert prices == Prices(12.0)
    assert prices.expected({}).item() == 12.0


def _called_twice(filler):
    site = filler.layer(ONE, _mlp)
    return nn.Sequential(site, site)


class _Idle(nn.Module):
    def __init__(self, site):
        super().__init__()
        self.site = site

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_called_twice, "`one` must be called once in a forward pass, got 2"),
        (lambda filler: _Idle(filler.layer(ONE, _mlp)), "`one` must be called once in a forward pass, got 0"),
        (
            lambda filler: filler.value(ValueChoice("width", ("2", "5")), lambda value: nn.Linear(4, value)),
            "all candidates of choice `width` must return the same shapes",
        ),
        (
            lambda filler: filler.inputs(
                InputChoice("input", ("0", "1", "2"), num_chosen=2), lambda _: nn.Tanh()
            ),
            "choice `input` must keep one candidate, got 2",
        ),
    ],
)
def test_spaces_whose_cost_is_no_sum_over_choices_are_refused(make, message):
    with pytest.raises(UnsupportedError, match=message):
        _prices(Built(make))


def test_a_cost_that_is_no_sum_is_refused():
    class Depth(Cost):
        def of(self, model, task):
            return 1.0

    with pytest.raises(UnsupportedError, match="cost Depth: must be a sum"):
        price(CHAIN, TASK, Depth())


def test_weights_of_another_space_are_refused():
    prices = _prices()
    with pytest.raises(UnsupportedError, match="choice `one` must have 3 weights, got none"):
        prices.expected({"two": torch.ones(3)})
    with pytest.raises(UnsupportedError, match=r"choice `two` must have 3 weights, got a shape of \(2,\)"):
        prices.expected({"one": torch.ones(3), "two": torch.ones(2)})


@pytest.mark.parametrize(
    "choices", [{}, {"one": ("none",)}, {"one": ("none",), "two": ("conv",)}, {"one": (), "two": ("none",)}]
)
def test_genotypes_of_another_space_are_refused(choices):
    with pytest.raises(FormatError, match="is it the genotype of another space"):
        _prices().of(Genotype(choices))


@pytest.mark.parametrize(
    "space",
    [
        spaces["darts"](Task((3, 8, 8), 4), channels=2, cells=3, nodes=1),
        spaces["mobile_elastic"](Task((3, 16, 16), 5), depths=((1, 2),), widths=((4, 6),), strides=(1,)),
    ],
    ids=["darts", "mobile_elastic"],
)
def test_prices_come_back_from_json_as_they_were(space):
    prices = price(space, Task((3, 8, 8), 4), costs["flops"]())
    third = Prices(prices.fixed / 3, prices.choices, prices.prunable)  # of a float that decimals do not hold
    assert Prices.from_json(third.to_json()) == third


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "prices: must be JSON"),
        ("[]", "must be what nasframe wrote"),
        ('{"fixed": 1.0}', "format"),
        ('{"format": "nasframe.prices", "version": 2, "fixed": 1.0}', "version 1"),
        ('{"format": "nasframe.prices", "version": 1}', "fixed"),
        ('{"format": "nasframe.prices", "version": 1, "fixed": NaN}', "NaN is no number"),
        ('{"format": "nasframe.prices", "version": 1, "fixed": true}', "must be a number, got True"),
        ('{"format": "nasframe.prices", "version": 1, "fixed": 1, "prunable": "ab"}', "list of choice ids"),
        ('{"format": "nasframe.prices", "version": 1, "fixed": 1, "choices": {"a": [1]}}', "must be what"),
    ],
)
def test_what_are_no_prices_is_refused(text, said):
    with pytest.raises(FormatError, match=said):
        Prices.from_json(text)
