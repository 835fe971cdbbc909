"""The recipe's `search.cost` and `search.penalty`."""

import json
import shutil
from pathlib import Path

import pytest

from nasframe import load_recipe, run
from nasframe.core import (
    Checkpoints,
    choices_of,
    costs,
    datasets,
    derived,
    generator_for,
    sample,
    spaces,
)
from nasframe.errors import Problem, RecipeError, UnsupportedError
from nasframe.quantity import spell_amount
from nasframe.recipe import dump_recipe, resume
from nasframe.recipe.run_directory import RunDirectory
from nasframe.recipe.stages.search import Searching
from nasframe.recipe.stages.workshop import Workshop

PLUGIN = """
from nasframe.core import Algorithm, Cost


class Ignorant(Algorithm):
    \"\"\"Looks at the loss alone.\"\"\"

    def __init__(self, model, objective) -> None: ...

    def step(self, train, valid, update_weights):
        return update_weights(train)


class Peak(Cost):
    \"\"\"No sum over parts.\"\"\"

    def of(self, model, task):
        return 1.0
"""
TINY = """
name: tiny
data: {type: synthetic, num_train: 32, num_test: 16}
space: {type: macro, channels: 2, stages: [1, 1], features: 4}
search: {algorithm: %s, cost: %s, penalty: %s, trainer: {epochs: 2, batch_size: 8}}
retrain: {trainer: {epochs: 1, batch_size: 8}}
"""


def _recipe(
    folder: Path, algorithm: str = "darts_bilevel", cost: str = "flops", penalty: str = "linear"
) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(TINY % (algorithm, cost, penalty))
    return path


def _problems(path: Path) -> list[Problem]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return caught.value.problems


def _records(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "search" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_search_without_cost_is_the_default(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ndata: digits\nspace: darts\n")
    assert load_recipe(path).search.cost is None


def test_what_does_not_go_with_a_cost_is_refused(tmp_path, third_party):
    third_party("someone", PLUGIN, algorithms="ignorant = Ignorant", costs="peak = Peak")
    problems = _problems(_recipe(tmp_path, "ignorant", "peak"))
    assert [problem.path for problem in problems] == ["search.cost", "search.cost"]
    assert "`ignorant` must follow a penalty" in problems[0].rule
    assert "`peak` must be a sum over the parts" in problems[1].rule


def test_a_negative_weight_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="must be at least 0"):
        load_recipe(_recipe(tmp_path, penalty="{type: linear, weight: -1}"))


def test_a_run_records_the_expected_cost_and_that_of_the_preferred_architecture(tmp_path):
    recipe = _recipe(tmp_path, penalty="{type: linear, weight: 0.5}")
    finished = run(load_recipe(recipe), tmp_path / "run")
    records = _records(finished.folder)
    assert len(records) == 2
    assert all(record["search/expected_cost"] > 0 for record in records)
    task = datasets["synthetic"](num_train=32, num_test=16).task
    space = spaces["macro"](task, channels=2, stages=(1, 1), features=4)
    found = costs["flops"]().of(derived(space, finished.genotype), task)
    assert records[-1]["search/derived_cost"] == found


@pytest.mark.parametrize("penalty", ["{type: linear, weight: 0.5}", "{type: budget, max: 60 M}"])
def test_a_penalty_without_a_cost_is_refused_where_it_stands(tmp_path, penalty):
    (problem,) = _problems(_recipe(tmp_path, cost="null", penalty=penalty))
    assert problem.path == "search.penalty"
    assert problem.position[1:] == (5, 48)
    assert "there is no search.cost" in problem.rule


def test_weight_and_budget_together_are_refused(tmp_path):
    (problem,) = _problems(_recipe(tmp_path, penalty="{type: budget, max: 60 M, weight: 0.1}"))
    assert (problem.path, problem.rule) == ("search.penalty.weight", "`budget` has no such setting")


def test_a_budget_without_an_amount_is_refused(tmp_path):
    (problem,) = _problems(_recipe(tmp_path, penalty="budget"))
    assert (problem.path, problem.rule) == ("search.penalty.max", "must be given")


@pytest.mark.parametrize(
    ("cost", "amount", "units"),
    [("flops", "12 ms", "k, M, G"), ("latency", "60 M", "us, ms, s"), ("parameters", "few", "k, M, G")],
)
def test_an_amount_in_a_unit_that_the_cost_does_not_have_is_refused(tmp_path, cost, amount, units):
    (problem,) = _problems(_recipe(tmp_path, cost=cost, penalty=f"{{type: budget, max: {amount}}}"))
    assert problem.path == "search.penalty.max"
    assert problem.position[1] == 5
    assert problem.rule == (
        f"must be a positive number, alone or with one of the units {units} (of `{cost}`)"
    )
    assert problem.given == f"`{amount}`"


@pytest.mark.parametrize("amount", ["-3", "[1]", "true", "null"])
def test_an_amount_of_the_wrong_type_is_refused(tmp_path, amount):
    (problem,) = _problems(_recipe(tmp_path, penalty=f"{{type: mul_log, reference: {amount}}}"))
    assert (problem.path, problem.rule) == (
        "search.penalty.reference",
        "must be a positive float or text",
    )


HEEDLESS = """
from nasframe.core import Deriver, Genotype, Model


class Heedless(Deriver):
    \"\"\"Knows no budget.\"\"\"

    def derive(self, model: Model) -> Genotype: ...
"""


def test_a_deriver_that_knows_no_budget_is_refused(tmp_path, third_party):
    third_party("someone", HEEDLESS, derivers="heedless = Heedless")
    path = _recipe(tmp_path, penalty="{type: budget, max: 60 M}, deriver: heedless")
    (problem,) = _problems(path)
    assert (problem.path, problem.rule) == (
        "search.penalty",
        "`heedless` must keep the budget of `budget`, but knows none",
    )
    load_recipe(_recipe(tmp_path, penalty="linear, deriver: heedless"))


@pytest.mark.parametrize(
    "penalty", ["{type: budget, max: 60 M}", "{type: mul_log, reference: 6e7}", "linear"]
)
def test_a_complete_recipe_with_a_penalty_loads_again_to_the_same(tmp_path, penalty):
    recipe = load_recipe(_recipe(tmp_path, penalty=penalty))
    dumped = tmp_path / "dump.yaml"
    dumped.write_text(dump_recipe(recipe))
    assert load_recipe(dumped) == recipe


BUDGET = """
name: budget
data: {type: digits}
space: {type: macro, channels: 2, stages: [1, 2, 1], features: 4}
search:
  algorithm: {type: proxyless, update: %s, num_samples: 2, alpha_optimizer: {lr: 0.05}}
  mixed_op: binary_gate
  cost: %s
  penalty: {type: budget, max: %s, rate: 0.1}
  trainer: {epochs: 3, batch_size: 64, max_steps: 15}
retrain: {trainer: {epochs: 1, batch_size: 64, max_steps: 2}%s}
"""
DIGITS = datasets["digits"]().task
SMALL = spaces["macro"](DIGITS, channels=2, stages=(1, 2, 1), features=4)


def _budget(folder, update="all_paths", cost="flops", share=0.3, retrain=""):
    """The recipe, and a budget between the cheapest and the dearest architecture."""
    counted = costs[cost]()
    least, most = (counted.of(derived(SMALL, SMALL.genotype(key)), DIGITS) for key in ("0000", "2222"))
    max_cost = least + share * (most - least)
    path = folder / "budget.yaml"
    path.write_text(BUDGET % (update, cost, f"{max_cost / 1000!r} k", retrain))
    return path, max_cost


@pytest.mark.parametrize(
    ("update", "cost", "share"),
    [("two_paths", "flops", 0.02), ("all_paths", "parameters", 0.4), ("reinforce", "flops", 0.4)],
)
def test_the_network_that_a_search_under_a_budget_finds_keeps_it(tmp_path, update, cost, share):
    path, max_cost = _budget(tmp_path, update, cost, share)
    finished = run(load_recipe(path), tmp_path / "run")
    assert costs[cost]().of(finished.network(), DIGITS) <= max_cost
    records = _records(finished.folder)
    assert all(record["search/derived_cost"] <= max_cost * (1 + 1e-12) for record in records)
    assert records[-1]["search/budget_multiplier"] > 0
    assert finished.metrics["max_cost"] == pytest.approx(max_cost, rel=1e-12)
    assert finished.metrics["derived_cost"] == costs[cost]().of(finished.network(), DIGITS)
    assert f"largest {cost} allowed" in finished.report.read_text()


@pytest.mark.parametrize("share", [0.5, 1.5])
def test_a_budget_that_excludes_nothing_is_noted(tmp_path, share):
    recipe = load_recipe(_budget(tmp_path, share=share)[0], check=False)
    directory = RunDirectory.create(tmp_path / "run", "budget", dump_recipe(recipe), "cpu")
    Workshop(recipe, directory).prices(choices_of(SMALL), recipe.search.cost)
    notes = directory.status().get("notes", [])
    assert [note.partition(" of ")[0] for note in notes] == ["search.penalty: the budget"] * (share > 1)


@pytest.mark.parametrize("share", [1e-3, 0.999, 1.0])
def test_a_known_architecture_above_the_budget_is_noted(tmp_path, share):
    space = spaces["macro"](DIGITS, channels=2, stages=(1, 1), features=4)
    known = sample(space, generator_for(0))
    known.save(tmp_path / "known.json")
    parameters = sum(each.numel() for each in derived(space, known).parameters())
    path = tmp_path / "tiny.yaml"
    penalty = f"{{type: budget, max: {share * parameters}}}"
    path.write_text(TINY % ("darts_bilevel", "parameters", penalty))
    recipe = load_recipe(path, [f"genotype={tmp_path / 'known.json'}", "data=digits"], check=False)
    directory = RunDirectory.create(tmp_path / "run", "tiny", dump_recipe(recipe), "cpu")
    workshop = Workshop(recipe, directory)
    Searching(workshop, *[None] * 2).run()  # which search nothing
    notes = directory.status().get("notes", [])
    assert [f"costs {spell_amount(parameters)}, more than the budget" in note for note in notes] == [True] * (
        share < 1
    )


def test_a_search_under_a_budget_that_was_interrupted_has_the_same_multiplier(tmp_path):
    recipe = load_recipe(_budget(tmp_path)[0])
    whole = run(recipe, tmp_path / "whole")

    def interrupted(stage, step, num_steps, epoch, metrics):
        if (stage, step) == ("search", 12):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "stopped", interrupted)
    resumed = resume(tmp_path / "stopped")
    multipliers = [
        [record["search/budget_multiplier"] for record in _records(each.folder)] for each in (whole, resumed)
    ]
    assert multipliers[0] == multipliers[1]
    assert len(set(multipliers[0])) > 1
    states = [
        Checkpoints(each.folder / "search" / "checkpoints").latest()["algorithm"] for each in (whole, resumed)
    ]
    assert states[0]["_penalty"] == states[1]["_penalty"] == {"multiplier": multipliers[0][-1]}
    assert resumed.genotype == whole.genotype


def test_the_budget_is_that_of_the_network_that_is_retrained(tmp_path):
    path, _ = _budget(tmp_path, retrain=", space: {channels: 4}")
    task = DIGITS
    wide = spaces["macro"](task, channels=4, stages=(1, 2, 1), features=4)
    least = costs["flops"]().of(derived(wide, wide.genotype("0000")), task)
    finished = run(load_recipe(path, [f"search.penalty.max={1.2 * least}"]), tmp_path / "run")
    assert least <= costs["flops"]().of(finished.network(), task) <= 1.2 * least
    assert finished.metrics["derived_cost"] == costs["flops"]().of(finished.network(), task)


def test_a_budget_that_no_network_keeps_is_refused_before_the_search(tmp_path):
    path, _ = _budget(tmp_path)
    least = costs["flops"]().of(derived(SMALL, SMALL.genotype("0000")), DIGITS)
    with pytest.raises(UnsupportedError, match=f"max must be at least {least:,.0f}, what the cheapest"):
        run(load_recipe(path, ["search.penalty.max=10"], check=False), tmp_path / "run")
    assert not (tmp_path / "run" / "search" / "metrics.jsonl").exists()


def test_a_retraining_whose_choices_are_others_than_those_of_the_search_is_refused(tmp_path):
    path = tmp_path / "darts.yaml"
    path.write_text(
        """
name: darts
data: {type: synthetic, num_train: 16, num_test: 8}
space: {type: darts, channels: 2, cells: 3, nodes: 1, operations: [none, skip_connect, avg_pool_3x3]}
search: {cost: parameters, trainer: {epochs: 1, batch_size: 8}}
retrain: {space: {operations: [none, avg_pool_3x3, skip_connect]}}
"""
    )
    with pytest.raises(UnsupportedError, match=r"let `retrain.space` have the choices of `space`"):
        run(load_recipe(path, check=False), tmp_path / "run")


def test_what_was_measured_before_an_interruption_counts_after_it(tmp_path):
    path = _recipe(tmp_path, cost="{type: latency, warmup: 0, repeats: 2}")
    folder, twin = tmp_path / "run", tmp_path / "twin"

    def interrupt(stage, step, num_steps, epoch, metrics):
        if (stage, step) == ("search", 1):
            raise KeyboardInterrupt

    short = ["trackers=[jsonl]", "search.trainer.epochs=1", "retrain.trainer.max_steps=1"]
    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(path, short), folder, interrupt)
    measured = (folder / "search" / "prices.json").read_text()
    shutil.copytree(folder, twin)
    resume(folder)
    resume(twin)
    assert (folder / "search" / "prices.json").read_text() == measured
    one, other = (
        [{tag: value for tag, value in record.items() if "per_second" not in tag} for record in records]
        for records in map(_records, (folder, twin))
    )
    assert one == other
    assert one[0]["search/expected_cost"] > 0
