"""The parts of P-DARTS against independent computations.

Chen, Xie, Wu and Tian, ICCV 2019 (arXiv 1904.12760), sections 3.2 and 3.3.
"""

import math

import pytest
import torch

import nasframe
from nasframe.core import Task, supernet
from nasframe.derivers.darts import DartsRule
from nasframe.derivers.limited import Limited
from nasframe.ops.skip_dropout import SkipDropout
from nasframe.spaces.darts import Darts

OPERATIONS, NODES = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"), 4
TASK = Task((1, 8, 8), 3)


@pytest.fixture(scope="module")
def model():
    return supernet(Darts(TASK, channels=1, cells=3, nodes=NODES, operations=OPERATIONS))


def _set(model, seed):
    """Alphas that like skip connections."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for op in model.mixed_ops.values():
            op.alpha.copy_(torch.randn(len(OPERATIONS), generator=generator))
            op.alpha[OPERATIONS.index("skip_connect")] += 1.5


def _topology(rows):
    """The rule of DARTS on the rows of a cell: (node, state, operation) of two inputs for each node."""
    found = []
    for node in range(2, 2 + NODES):
        best = []
        for state in range(node):
            without_none = {name: p for name, p in rows[node, state].items() if name != "none"}
            name = max(without_none, key=without_none.__getitem__)
            best.append((without_none[name], state, name))
        best.sort(key=lambda entry: -entry[0])
        found += [(node, state, name) for _, state, name in best[:2]]
    return found


def _paper(shares, limit):
    """Section 3.3 in plain numbers: the weakest skip's weight becomes 0, until few enough are left."""
    pairs = {}
    for cell in ("normal", "reduce"):
        rows = {
            (node, state): dict(zip(OPERATIONS, shares[f"{cell}_{node}_{state}"], strict=True))
            for node in range(2, 2 + NODES)
            for state in range(node)
        }
        while len(skips := [each for each in _topology(rows) if each[2] == "skip_connect"]) > limit:
            node, state, _ = min(skips, key=lambda each: rows[each[0], each[1]]["skip_connect"])
            rows[node, state]["skip_connect"] = 0.0
        pairs[cell] = [(name, state) for _, state, name in _topology(rows)]
    return pairs


def _pairs(genotype):
    text = genotype.to_darts()
    again = nasframe.Genotype.from_darts(text)
    return {
        cell: [
            (again[f"{cell}_{node}_{state}"][0], int(state))
            for node in range(2, 2 + NODES)
            for state in again[f"{cell}_{node}"]
        ]
        for cell in ("normal", "reduce")
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [0, 2, 3])
def test_skip_connections_are_restricted_as_in_the_paper(model, seed, limit):
    _set(model, seed)
    shares = {name: weights.tolist() for name, weights in model.choice_weights().items()}
    assert _pairs(Limited(limits={"skip_connect": limit}).derive(model)) == _paper(shares, limit)


def test_what_keeps_the_limit_is_what_darts_derives(model):
    _set(model, 1)
    assert Limited(limits={"skip_connect": 2 * NODES}).derive(model) == DartsRule().derive(model)
    assert Limited(limits={}).derive(model) == DartsRule().derive(model)


def test_an_edge_that_has_nothing_else_keeps_its_skip_connection():
    only = supernet(Darts(TASK, channels=1, cells=3, nodes=2, operations=("none", "skip_connect")))
    kept = Limited(limits={"skip_connect": 1}).derive(only).choices
    assert [kept[f"normal_{node}_{state}"] for node in (2, 3) for state in (0, 1)] == [("skip_connect",)] * 4


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.6])
def test_the_chance_of_dropout_decays_exponentially_over_a_stage(progress):
    layer = SkipDropout(0.7)
    layer.anneal(progress)
    chance = 0.7 * math.exp(-0.2 * 25 * progress)  # 0.2 an epoch of 25
    torch.manual_seed(0)
    out = layer(torch.ones(40_000))
    dropped = (out == 0).double().mean().item()
    assert abs(dropped - chance) < 4 * (chance * (1 - chance) / 40_000) ** 0.5
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / (1 - chance)))
    x = torch.randn(5)
    assert torch.equal(layer.eval()(x), x)


def test_the_chance_is_that_of_the_authors_code_epoch_by_epoch():
    # train_search.py: 25 epochs, of which the first 10 train the weights alone; an epoch later there at first
    space = Darts(
        TASK, channels=1, cells=3, nodes=1, operations=OPERATIONS, skip_dropout=0.7, skip_dropout_restart=0.4
    )
    model = supernet(space)
    layer = next(module for module in model.modules() if isinstance(module, SkipDropout))
    x = torch.ones(1, 1, 200, 200)
    for epoch in (0, 4, 9, 10, 13, 24):
        model.anneal(epoch / 25)
        chance = 0.7 * ((25 - epoch) / 25 if epoch < 10 else math.exp(-0.2 * (epoch - 10)))
        torch.manual_seed(epoch)
        dropped = (layer(x) == 0).double().mean().item()
        assert abs(dropped - chance) < 4 * (chance * (1 - chance) / x.numel()) ** 0.5


def test_it_stands_at_the_skip_connections_of_the_supernet_that_keep_the_size():
    space = Darts(TASK, channels=2, cells=3, nodes=1, operations=OPERATIONS, skip_dropout=0.5)
    layers = [module for module in supernet(space).modules() if isinstance(module, SkipDropout)]
    assert len(layers) == 2  # the edges of the normal cell; both of each reduction cell halve
    genotype = nasframe.core.sample(space, torch.Generator().manual_seed(0))
    assert not any(isinstance(each, SkipDropout) for each in nasframe.derived(space, genotype).modules())


def test_cifar_pdarts_has_the_settings_of_the_paper():
    # Chen et al. 2019, sections 4.1.1 and 4.1.2, and the authors' train_search.py and train_cifar.py
    recipe = nasframe.load_recipe("cifar_pdarts", check=False)
    stages, retrain = recipe.search.stages, recipe.retrain
    spaces = [stage.space.settings for stage in stages]
    assert [each["cells"] for each in spaces] == [5, 11, 17]
    assert [each["skip_dropout"] for each in spaces] == [0.0, 0.4, 0.7]
    assert [stage.keep for stage in stages] == [None, 5, 3]
    for stage, space in zip(stages, spaces, strict=True):
        trainer = stage.trainer.settings
        assert (trainer["epochs"], trainer["batch_size"]) == (25, 96)
        assert trainer["optimizer"].settings["lr"] == 0.025
        assert trainer["schedule"].settings["min_lr"] == 0
        assert (space["channels"], space["skip_dropout_restart"]) == (16, 10 / 25)
        assert stage.inherits == ()
    algorithm = recipe.search.algorithm.settings
    assert (algorithm["order"], algorithm["warmup_epochs"]) == (1, 10)
    alphas = algorithm["alpha_optimizer"].settings
    assert (alphas["lr"], alphas["betas"], alphas["weight_decay"]) == (6e-4, (0.5, 0.999), 1e-3)
    assert recipe.search.deriver.settings == {"limits": {"skip_connect": 2}}
    space, trainer = retrain.space.settings, retrain.trainer.settings
    assert (space["channels"], space["cells"], space["drop_path"]) == (36, 20, 0.3)
    assert (trainer["epochs"], trainer["batch_size"]) == (600, 128)


def test_the_recipe_has_the_stages_of_the_paper_in_small():
    stages = nasframe.load_recipe("digits_pdarts", check=False).search.stages
    settings = [stage.space.settings for stage in stages]
    assert [each["cells"] for each in settings] == sorted({each["cells"] for each in settings})  # it grows
    assert [stage.keep for stage in stages] == [None, 5, 3]
    assert [len(each["operations"]) for each in settings] == [8, 8, 8]
    assert [each["skip_dropout"] for each in settings] == [0.0, 0.4, 0.7]
    assert [stage.inherits for stage in stages] == [(), (), ()]  # each begins anew
