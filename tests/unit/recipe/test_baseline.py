"""A baseline beside the found network: its family, its match in cost, its training, and what is said."""

import json
import statistics

import pytest
import torch
from safetensors.torch import load_file

from nasframe import load_recipe, run
from nasframe.core import Genotype, Task, costs, derived, spaces
from nasframe.core.prices import Prices
from nasframe.errors import RecipeError
from nasframe.recipe import resume
from nasframe.recipe.baseline import Comparison, Contender, matched

TASK = Task((3, 8, 8), 3)
SPACE = {
    "operations": ("mb_k3_e3", "mb_k3_e6", "skip_connect"),
    "stem": "cifar",
    "stem_channels": 4,
    "first_channels": 4,
    "widths": (4, 4, 8),
    "depths": (2, 3, 1),
    "strides": (2, 2, 1),
    "features": 4,
}
RECIPE = """
name: compared
seed: 3
device: cpu
threads: 1
data: {type: synthetic, num_train: 32, num_test: 16, num_classes: 3, height: 8, width: 8}
space: %s
search:
  explorer: random_search
  score: parameters
  evaluations: 2
  cost: flops
  penalty: {type: budget, max: 1 M}
retrain:
  baseline: mobilenet_v2
  seeds: 2
  valid_fraction: 0.25
  trainer: {epochs: 2, batch_size: 8}
trackers: [jsonl]
"""


def _space(**changes):
    return spaces["mobile"](TASK, **{**SPACE, **changes})


def _flops(space, genotype):
    return costs["flops"]().of(derived(space, genotype), TASK)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "compared.yaml"
    path.write_text(RECIPE % json.dumps({"type": "mobile", **SPACE}))
    return path


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """A run that was interrupted in the second training of its baseline, and gone on with."""
    folder = tmp_path_factory.mktemp("runs") / "compared"

    def interrupt(stage, step, *others):
        if (stage, step) == ("baseline 2/2", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(recipe, check=False), folder, interrupt)
    heard = []
    done = resume(folder, lambda stage, step, *others: heard.append((stage, step)))
    assert {stage for stage, _ in heard} == {"baseline 2/2"}
    return done


@pytest.fixture(scope="module")
def told(finished):
    return json.loads((finished.folder / "report.json").read_text())["baseline"]


def test_the_family_has_one_block_everywhere_and_no_stage_thinner_than_the_one_before_but_for_a_full_one():
    family = _space().baselines()["mobilenet_v2"]
    depths = []
    for genotype in family:
        names = [kept for (kept,) in genotype.choices.values()]
        stages = names[:2], names[2:5], names[5:]
        assert all(stage == sorted(stage) for stage in stages)  # blocks before skips
        depths.append(tuple(stage.count("mb_k3_e6") for stage in stages))
        derived(_space(), genotype)
    assert sorted(depths) == [(1, 1, 1), (1, 2, 1), (1, 3, 1), (2, 2, 1), (2, 3, 1)]
    assert len(_space(operations=("mb_k3_e6",)).baselines()["mobilenet_v2"]) == 1
    assert not _space(operations=("mb_k5_e3", "skip_connect")).baselines()


def test_the_match_is_the_cheapest_that_costs_no_less_and_else_the_dearest():
    space, block = _space(), dict(zip(SPACE["operations"], (3.0, 5.0, 0.0), strict=True))
    priced = {name: Prices(cost) for name, cost in block.items()}
    prices = Prices(1.0, {f"layer_{index}": priced for index in range(6)})

    def cost_of_match(*blocks):
        names = [*blocks, *["skip_connect"] * (6 - len(blocks))]
        found = Genotype({f"layer_{index}": (name,) for index, name in enumerate(names)})
        return prices.of(matched(space, "mobilenet_v2", prices, found))

    # those of the family have 3 to 6 blocks of 5
    assert cost_of_match("mb_k3_e3") == 1 + 3 * 5
    assert cost_of_match(*["mb_k3_e6"] * 3) == 1 + 3 * 5
    assert cost_of_match(*["mb_k3_e6"] * 3, "mb_k3_e3") == 1 + 4 * 5
    dear = Prices(1.0, {**prices.choices, "layer_0": {**priced, "mb_k3_e3": Prices(100.0)}})
    found = Genotype({f"layer_{index}": ("mb_k3_e3",) for index in range(6)})
    assert dear.of(matched(space, "mobilenet_v2", dear, found)) == 1 + 6 * 5


def test_the_baseline_is_trained_and_tested_as_the_same_network_found_would_be(
    recipe, finished, told, tmp_path
):
    settings = [f"genotype={finished.folder / 'baseline' / 'genotype.json'}", "retrain.baseline=null"]
    alone = run(load_recipe(recipe, [*settings, "retrain.seeds=1"], check=False), tmp_path / "alone")
    one, other = (
        load_file(finished.folder / "baseline" / f"seed_{seed}" / "model.safetensors") for seed in (3, 4)
    )
    trained = load_file(alone.folder / "retrain" / "model.safetensors")
    assert all(torch.equal(one[name], tensor) for name, tensor in trained.items())
    assert not all(torch.equal(other[name], tensor) for name, tensor in trained.items())
    baseline = told["networks"][1]
    assert baseline["values"][0] == alone.metrics["test_accuracy"]
    assert baseline["test_accuracy"] == pytest.approx(statistics.fmean(baseline["values"]))
    known = Genotype.load(finished.folder / "baseline" / "genotype.json")
    assert (
        alone.metrics["derived_cost"] == baseline["cost"] == _flops(_space(), known)
    )  # a known one is priced


def test_the_report_has_both_networks_with_their_costs_and_where_they_differ(finished, told):
    found, baseline = told["networks"]
    assert [found["network"], baseline["network"]] == ["found", "mobilenet_v2"]
    genotypes = [Genotype.from_json(json.dumps(each["genotype"])) for each in (found, baseline)]
    assert genotypes[0] == finished.genotype
    assert [each["cost"] for each in (found, baseline)] == [_flops(_space(), each) for each in genotypes]
    assert found["cost"] == finished.metrics["derived_cost"]
    assert found["measured_cost"] is baseline["measured_cost"] is None  # counted, not measured
    differing = {name for name in genotypes[0].choices if genotypes[0][name] != genotypes[1][name]}
    assert {row["choice"] for row in told["choices"]} == differing
    page = (finished.folder / "report.html").read_text()
    assert "Beside mobilenet_v2" in page
    assert told["sentence"][1:] in page
    assert f"beside mobilenet_v2, {told['outcome']}" in page  # the page's first sentence


def _contender(name, values, measured=None):
    figures = [{"test_accuracy": value, "test_loss": 1 - value} for value in values]
    return Contender(name, Genotype({}), figures, 10.0, 0.5, measured)


def _sentence(found, baseline, measured=(None, None)):
    contenders = [_contender("found", found, measured[0]), _contender("plain", baseline, measured[1])]
    return Comparison(*contenders, "latency", "ms", Prices(0.5)).sentence()


def test_what_is_said_of_a_difference_depends_on_what_seeds_differ_by():
    assert _sentence([0.52], [0.5], (0.4, 0.41)) == (
        "found: 52.0% at 0.4 ms, plain: 50.0% at 0.41 ms; "
        "2.00 points better in one training of each, which may be chance (see retrain.seeds)"
    )
    # Welch: both variances 1e-4, n = 3, so the error is sqrt(2e-4 / 3), 4 degrees of freedom, t = 2.776
    clear, unclear = [0.59, 0.60, 0.61], [0.51, 0.52, 0.53]
    half = 2.7764451 * (2e-4 / 3) ** 0.5
    assert _sentence(clear, [0.49, 0.50, 0.51]).endswith(
        "10.00 points better, more than 3 seeds differ by chance "
        f"(95 % interval {100 * (0.1 - half):+.2f} to {100 * (0.1 + half):+.2f})"
    )
    assert "8.00 points worse, more than" in _sentence(unclear, clear)
    assert "2.00 points better on average, which 3 seeds cannot tell from chance" in _sentence(
        unclear, [0.49, 0.50, 0.51]
    )


def test_it_is_told_where_the_found_network_saves_and_where_it_spends():
    """Both stages' blocks and the second stage's number are chosen; the number is priced in blocks."""

    def block(wide, slim):
        return {"wide": Prices(wide), "slim": Prices(slim), "same": Prices(wide + 0.01)}

    deep = {"1": Prices(0.0, {"second": block(4.0, 1.5)}), "2": Prices(0.0, {"second": block(8.0, 3.0)})}
    prices = Prices(1.0, {"first": block(5.0, 2.0), "depth": deep})

    def comparison(found, baseline):
        kept = [{"first": (a,), "depth": (d,), "second": (b,)} for a, d, b in (found, baseline)]
        both = [
            Contender(name, Genotype(each), [{"test_accuracy": 0.5}], 10.0, None, None)
            for name, each in zip(("found", "plain"), kept, strict=True)
        ]
        return Comparison(*both, "latency", "ms", prices)

    told = comparison(("slim", "2", "wide"), ("wide", "1", "wide"))
    assert told.why() == (
        "by its parts, it saves 3 ms at first (slim instead of wide) and spends 4 ms more at second"
    )
    assert told.plain()["choices"] == [
        {"choice": "depth", "found": [["2", 0.0]], "baseline": [["1", 0.0]]},
        {"choice": "first", "found": [["slim", 2.0]], "baseline": [["wide", 5.0]]},
        {"choice": "second", "found": [["wide", 8.0]], "baseline": [["wide", 4.0]]},
    ]
    assert comparison(("slim", "1", "wide"), ("wide", "1", "wide")).why() == (
        "by its parts, it saves 3 ms at first (slim instead of wide)"
    )
    assert comparison(("wide", "1", "wide"), ("slim", "1", "wide")).why() == (
        "by its parts, it spends 3 ms more at first (wide instead of slim)"
    )
    assert not comparison(("wide", "1", "wide"), ("wide", "1", "wide")).why()
    assert not comparison(("same", "1", "wide"), ("wide", "1", "wide")).why()  # 0.01 of 10 ms


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["retrain.baseline=mobilenet_v3"], ["must be a family that the space names (`mobilenet_v2`)"]),
        (
            ["~search.cost", "~search.penalty", "retrain.inherit=true"],
            ["must cost what the found network costs", "must be left out with retrain.inherit"],
        ),
    ],
)
def test_a_baseline_that_cannot_be_compared_is_refused_before_anything_runs(recipe, settings, said):
    with pytest.raises(RecipeError) as refused:
        load_recipe(recipe, settings)
    rules = [problem.rule for problem in refused.value.problems if problem.path == "retrain.baseline"]
    assert len(rules) == len(said)
    assert all(part in rule for part, rule in zip(said, rules, strict=True))
