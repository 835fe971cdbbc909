"""The recipe's `search.cost`."""

import json
from pathlib import Path

import pytest

from nasframe import load_recipe, run
from nasframe.core import costs, datasets, derived, spaces
from nasframe.errors import RecipeError

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
search: {algorithm: %s, cost: %s, cost_weight: %s, trainer: {epochs: 2, batch_size: 8}}
retrain: {trainer: {epochs: 1, batch_size: 8}}
"""


def _recipe(folder: Path, algorithm: str = "darts_bilevel", cost: str = "flops", weight: str = "0.1") -> Path:
    path = folder / "tiny.yaml"
    path.write_text(TINY % (algorithm, cost, weight))
    return path


def test_a_search_without_cost_is_the_default(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: x\ndata: digits\nspace: darts\n")
    assert load_recipe(path).search.cost is None


def test_what_does_not_go_with_a_cost_is_refused(tmp_path, third_party):
    third_party("someone", PLUGIN, algorithms="ignorant = Ignorant", costs="peak = Peak")
    with pytest.raises(RecipeError) as caught:
        load_recipe(_recipe(tmp_path, "ignorant", "peak"))
    problems = caught.value.problems
    assert [problem.path for problem in problems] == ["search.cost", "search.cost"]
    assert "`ignorant` must follow a penalty" in problems[0].rule
    assert "`peak` must be a sum over the parts" in problems[1].rule


def test_a_negative_weight_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="must be at least 0"):
        load_recipe(_recipe(tmp_path, weight="-1"))


def test_a_run_records_the_expected_cost_and_that_of_the_preferred_architecture(tmp_path):
    finished = run(load_recipe(_recipe(tmp_path, weight="0.5")), tmp_path / "run")
    lines = (finished.folder / "search" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 2
    assert all(record["search/expected_cost"] > 0 for record in records)
    task = datasets["synthetic"](num_train=32, num_test=16).task
    space = spaces["macro"](task, channels=2, stages=(1, 1), features=4)
    found = costs["flops"]().of(derived(space, finished.genotype), task)
    assert records[-1]["search/derived_cost"] == found
