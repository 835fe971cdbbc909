"""SPOS and FairNAS: which paths are trained, and what of a path is scored."""

import collections
import copy
import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from nasframe import load_recipe, testing
from nasframe.core import (
    Batch,
    Genotype,
    Model,
    Task,
    WeightUpdate,
    algorithms,
    derived,
    generator_for,
    inherit,
    objectives,
    sample,
    scores,
    spaces,
    supernet,
)
from nasframe.errors import RecipeError, UnsupportedError
from nasframe.testing import example_space, example_testbed

BLOCKS = ("identity", "mb_k3_e3", "mb_k5_e6")
SETTINGS = {"channels": 2, "stages": (1, 2), "features": 4}


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return supernet(spaces["macro"](Task((3, 8, 8), 3), **SETTINGS), "uniform_path")


@pytest.fixture
def batch() -> Batch:
    return Batch(torch.randn(6, 3, 8, 8, generator=generator_for(0)), torch.arange(6) % 3)


def update_of(model: Model, lr: float = 0.1) -> WeightUpdate:
    optimizer = torch.optim.SGD(model.parameters_at("lower"), lr=lr)
    return WeightUpdate(model, objectives["cross_entropy"](), optimizer)


def watched(model: Model) -> list[tuple[int, ...]]:
    """The paths that run, one a forward pass."""
    ran: list[tuple[int, ...]] = []
    ops = [model.mixed_ops[f"layer_{layer}"] for layer in range(3)]
    model.register_forward_pre_hook(lambda *_: ran.append(tuple(op.active[0] for op in ops)))
    return ran


def test_spos_trains_one_uniformly_drawn_path_a_step(model, batch):
    ran, update = watched(model), update_of(model, lr=0.0)
    algorithm = algorithms["single_path"](model, objectives["cross_entropy"]())
    count = 270
    for _ in range(count):
        algorithm.step(batch, batch, update)
    assert len(ran) == count
    counts = collections.Counter(ran)
    assert len(counts) == 27
    statistic = sum((counts[path] - count / 27) ** 2 / (count / 27) for path in counts)
    assert statistic < 26 + 5 * math.sqrt(2 * 26)  # chi-squared with 26 degrees of freedom


def test_spos_changes_the_weights_of_the_path_alone(model, batch):
    ran = watched(model)
    before = copy.deepcopy(model.state_dict())
    algorithms["single_path"](model, objectives["cross_entropy"]()).step(batch, batch, update_of(model))
    ((*path,),) = ran
    for name, value in model.named_parameters():
        parts = name.split(".candidates.")
        if len(parts) == 2:
            layer, candidate = int(parts[0].rsplit(".", 1)[1]), int(parts[1].split(".")[0])
            moved = not torch.equal(before[name], value)
            assert moved is (path[layer] == candidate), name


def test_a_path_of_a_space_with_inputs_is_an_architecture_of_it():
    """Of a node that keeps two of three inputs two run; an edge that is left out runs its `none`."""
    torch.manual_seed(0)
    model = supernet(example_space(), "uniform_path")
    algorithm = algorithms["single_path"](model, objectives["cross_entropy"]())
    batch = Batch(torch.randn(5, 4), torch.arange(5) % 3)
    for _ in range(10):
        algorithm.step(batch, batch, update_of(model))
        kept = {
            name: tuple(model.choices[name].candidates[index] for index in sorted(op.active))
            for name, op in model.mixed_ops.items()
        }
        running = [index for index, edge in enumerate(("edge_0", "edge_1")) if kept[edge] != ("none",)]
        assert len(running) == model.choices["node"].num_chosen
        genotype = {name: names for name, names in kept.items() if names != ("none",)}
        genotype["node"] = tuple(map(str, running))
        path = inherit(derived(example_space(), Genotype(genotype)), model, Genotype(genotype))
        assert torch.allclose(path(batch.inputs), model(batch.inputs), atol=1e-6)


@pytest.mark.parametrize("name", ["single_path", "fairnas"])
def test_a_supernet_that_cannot_run_one_architecture_is_refused(name):
    space = spaces["darts"](
        Task((3, 8, 8), 3), channels=2, cells=3, nodes=2, operations=("skip_connect", "sep_conv_3x3")
    )
    model = supernet(space, "uniform_path")
    with pytest.raises(
        UnsupportedError, match=f"^{name}: choice `.*` must have a candidate .*, such as `none`"
    ):
        algorithms[name](model, objectives["cross_entropy"]())
    with pytest.raises(UnsupportedError, match=f"^{name}: each mixed op must draw its paths"):
        algorithms[name](supernet(example_space()), objectives["cross_entropy"]())


def test_fairnas_runs_each_candidate_once_before_an_update(model, batch):
    """Chu et al. 2021, strict fairness."""
    ran, update = watched(model), update_of(model)
    algorithm = algorithms["fairnas"](model, objectives["cross_entropy"]())
    orders = set()
    for _ in range(8):
        ran.clear()
        algorithm.step(batch, batch, update)
        assert len(ran) == 3
        for layer in range(3):
            order = tuple(path[layer] for path in ran)
            assert sorted(order) == [0, 1, 2]
            orders.add((layer, order))
    assert len(orders) > 6  # each choice for itself, anew in each step


def test_fairnas_adds_the_gradients_of_the_paths_up_and_updates_once(model, batch):
    model.eval()  # no pass moves statistics that another reads
    twin, ran = copy.deepcopy(model), watched(model)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    metrics = algorithms["fairnas"](model, objectives["cross_entropy"]()).step(batch, batch, update_of(model))
    losses = []
    for path in ran:
        twin.take(Genotype({f"layer_{layer}": (BLOCKS[index],) for layer, index in enumerate(path)}))
        loss = nn.functional.cross_entropy(twin(batch.inputs), batch.targets)
        loss.backward()  # adds up
        losses.append(loss.item())
    for name, value in twin.named_parameters():
        expected = before[name] - (0.1 * value.grad if value.grad is not None else 0)
        assert torch.allclose(dict(model.named_parameters())[name], expected, atol=1e-6), name
    assert float(metrics["train_loss"]) == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_fairnas_is_fair_by_one_pass_where_choices_have_different_numbers_of_candidates():
    torch.manual_seed(0)
    model = supernet(example_space(), "uniform_path")
    counts: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)

    def note(*_: object) -> None:
        for name, op in model.mixed_ops.items():
            counts[name].update(op.active)

    model.register_forward_pre_hook(note)
    batch = Batch(torch.randn(5, 4), torch.arange(5) % 3)
    algorithms["fairnas"](model, objectives["cross_entropy"]()).step(batch, batch, update_of(model))
    assert counts["merge"] == {0: 2, 1: 2, 2: 2}  # three paths keep two each
    assert sorted(counts["hidden"].values()) == [1, 2]


def test_a_uniform_path_has_no_alphas_and_gives_each_candidate_the_same_weight(model):
    assert model.kinds() == ("weight",)
    for op in model.mixed_ops.values():
        assert torch.equal(op.weights(), torch.full((3,), 1 / 3))


def test_log_probability_is_that_of_draws_without_replacement():
    torch.manual_seed(0)
    model = supernet(example_space(), "uniform_path")
    model.sample(generator_for(0))
    assert model.mixed_ops["merge"].log_probability().item() == pytest.approx(-math.log(3 * 2))


def test_validation_after_a_resume_is_of_the_path_that_was_drawn_last(model, batch):
    model.sample(generator_for(1))
    model.eval()
    torch.manual_seed(5)
    twin = supernet(spaces["macro"](Task((3, 8, 8), 3), **SETTINGS), "uniform_path").eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(batch.inputs), model(batch.inputs))


def test_a_path_must_be_drawn_before_it_is_trained(model, batch):
    with pytest.raises(UnsupportedError, match=r"UniformPath: choice `layer_0` must be drawn before it runs"):
        model(batch.inputs)
    assert model.eval()(batch.inputs).shape == (6, 3)


def test_the_score_of_a_path_is_its_accuracy_with_statistics_of_the_training_batches():
    """Guo et al. 2020, section 3.4: computed here in the supernet itself, layer by layer for the path."""
    bed = example_testbed()
    genotype = sample(bed.space, generator_for(2))
    value = scores["supernet"](bed, metric="loss", calibration_batches=1, batch_size=16).of(genotype)
    path = inherit(derived(bed.space, genotype), bed.supernet, genotype).train()
    for module in path.modules():  # with one batch of all examples, its statistics are those of training mode
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    images, labels = bed.train.batch(torch.arange(16)).inputs, bed.train.batch(torch.arange(16)).targets
    path(images)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(path.eval()(images), labels).item()
    assert value == pytest.approx(-loss, rel=1e-5)


def test_without_calibration_the_supernets_statistics_are_kept():
    bed = example_testbed()
    for module in bed.supernet.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.fill_(3.0)
    genotype = sample(bed.space, generator_for(2))
    value = scores["supernet"](bed, metric="loss", calibration_batches=0).of(genotype)
    path = inherit(derived(bed.space, genotype), bed.supernet, genotype)
    assert value == pytest.approx(-float(bed.evaluate(path)["loss"]), rel=1e-6)


@pytest.mark.parametrize("calibration_batches", [0, 2])
def test_paths_of_a_supernet_that_keeps_no_statistics_have_a_score(calibration_batches):
    space = spaces["nas_bench_201"](Task((3, 8, 8), 3), channels=2, cells=1, track_running_stats=False)
    bed = example_testbed(space)
    assert any(module.running_var is None for module in norms(bed.supernet))
    genotype = sample(space, generator_for(2))
    score = scores["supernet"](bed, metric="loss", calibration_batches=calibration_batches, batch_size=8)
    path = inherit(derived(space, genotype), bed.supernet, genotype).eval()
    if calibration_batches:
        for module in norms(path):
            module.train().momentum = None
            module.reset_running_stats()
        for batch in itertools.islice(bed.batches(8).forever(), calibration_batches):
            path(batch.inputs)
        path.eval()
    else:
        for module in norms(path):
            module.running_mean = module.running_var = None
    assert score.of(genotype) == pytest.approx(-float(bed.evaluate(path)["loss"]), rel=1e-5)


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_a_score_of_paths_that_the_supernet_has_otherwise_is_refused_before_it_is_trained():
    darts = "{type: darts, channels: 2, cells: 3, nodes: 1, operations: [none, max_pool_3x3, skip_connect]}"
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits_spos", [f"space={darts}"])
    (problem,) = caught.value.problems
    assert (problem.path, problem.kind.code) == ("search.score", "NF108")
    assert "must find the weights of single paths in the supernet" in problem.rule


def test_an_unknown_metric_is_refused_with_those_there_are():
    score = partial(scores["supernet"], metric="f1")(testing.example_testbed())
    with pytest.raises(UnsupportedError, match=r"metric must be `loss` or one of the objective \(accuracy"):
        score.of(sample(testing.example_testbed().space, generator_for(0)))
