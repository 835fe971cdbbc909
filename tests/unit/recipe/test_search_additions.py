"""Regularizers, perturbations and derivers in a recipe: what fits together, and what a run makes of them."""

import json
from pathlib import Path

import pytest

from nasframe import Genotype, load_recipe, run
from nasframe.errors import RecipeError
from nasframe.recipe.usage import fragment_of, partners_of
from nasframe.registry import registries

TINY = """
name: tiny
data: {type: synthetic, num_train: 32, num_test: 16}
space: {type: darts, channels: 2, cells: 3, nodes: 2, operations: [skip_connect, sep_conv_3x3]}
trackers: [jsonl]
retrain: {trainer: {epochs: 1, batch_size: 8}}
"""


def _recipe(folder: Path, **search: str) -> Path:
    path = folder / "tiny.yaml"
    lines = [f"  {key}: {value}\n" for key, value in search.items()]
    path.write_text(TINY + "search:\n  trainer: {epochs: 2, batch_size: 8}\n" + "".join(lines))
    return path


@pytest.mark.parametrize(
    ("search", "code", "path", "rule", "advice"),
    [
        (
            {"regularizers": "[beta_decay, zero_one]"},
            "NF121",
            "search.regularizers.1",
            "`zero_one` needs a mixed op with a gate from 0 to 1 for each candidate, which follows that "
            "candidate's alpha alone, but `softmax` is none",
            "choose another search.mixed_op (sigmoid), or leave it out",
        ),
        (
            {"regularizers": "[dirichlet_anchor]", "mixed_op": "concrete"},
            "NF121",
            "search.regularizers.0",
            "`dirichlet_anchor` needs a mixed op whose mixtures are drawn from a Dirichlet distribution, but "
            "`concrete` is none",
            "choose another search.mixed_op (dirichlet), or leave it out",
        ),
        (
            {"perturbation": "random", "mixed_op": "binary_gate", "algorithm": "proxyless"},
            "NF121",
            "search.perturbation",
            "`random` needs a mixed op that adds up all candidates, each times its share, and does nothing "
            "else, but `binary_gate` is none",
            "(concrete, dirichlet, sigmoid, softmax), or leave it out",
        ),
        (
            {"deriver": "perturbation", "mixed_op": "binary_gate", "algorithm": "proxyless"},
            "NF121",
            "search.deriver",
            "`perturbation` needs a mixed op that adds up all candidates",
            "or another search.deriver",
        ),
        (
            {"regularizers": "[beta_decay]", "algorithm": "weights_only"},
            "NF122",
            "search.regularizers.0",
            "`beta_decay` needs an algorithm whose alphas follow a penalty, but `weights_only` does not",
            "choose another search.algorithm, or leave it out",
        ),
        (
            {"deriver": "perturbation", "valid_fraction": "0", "algorithm": "weights_only"},
            "NF085",
            "search.valid_fraction",
            "must be above 0, because `perturbation` validates on held-out examples",
            "",
        ),
        (
            {"deriver": "threshold", "cost": "parameters", "penalty": "{type: budget, max: 1 M}"},
            "NF089",
            "search.penalty",
            "`threshold` must keep the budget of `budget`, but knows none",
            "",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("NF") else None,
)
def test_what_does_not_fit_is_refused_with_the_reason(
    tmp_path: Path, search: dict[str, str], code: str, path: str, rule: str, advice: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(_recipe(tmp_path, **search), check=False)
    (problem,) = caught.value.problems
    assert (problem.kind.code, problem.path) == (code, path)
    assert rule in problem.rule
    assert advice in problem.advice


@pytest.mark.parametrize(
    "search",
    [
        {"regularizers": "[zero_one]", "mixed_op": "sigmoid", "deriver": "threshold"},
        {"regularizers": "[beta_decay]", "mixed_op": "binary_gate", "algorithm": "proxyless"},
        {"perturbation": "adversarial", "mixed_op": "dirichlet", "regularizers": "[dirichlet_anchor]"},
    ],
)
def test_what_fits_is_accepted(tmp_path: Path, search: dict[str, str]) -> None:
    load_recipe(_recipe(tmp_path, **search))


def test_a_second_order_step_through_a_perturbed_one_is_refused(tmp_path: Path) -> None:
    search = {"perturbation": "random", "algorithm": "{type: darts_bilevel, order: 2}"}
    with pytest.raises(RecipeError, match="order must be 1 where weights are trained at perturbed mixtures"):
        load_recipe(_recipe(tmp_path, **search))


def test_a_component_says_what_it_works_with() -> None:
    by_registry = {each.registry: each for each in partners_of(registries["regularizers"], "zero_one")}
    assert by_registry["mixed_ops"].fitting == ["sigmoid"]
    assert "weights_only" in by_registry["algorithms"].unfitting
    fragment = fragment_of(registries["regularizers"], "zero_one")
    assert fragment is not None
    assert fragment["search"]["regularizers"] == [{"type": "zero_one", "weight": 10.0}]
    assert fragment["search"]["mixed_op"] == "sigmoid"


def test_a_run_records_the_terms_and_derives_by_the_rule(tmp_path: Path) -> None:
    search = {
        "mixed_op": "sigmoid",
        "regularizers": "[zero_one]",
        "perturbation": "random",
        "deriver": "threshold",
    }
    done = run(load_recipe(_recipe(tmp_path, **search), check=False), tmp_path / "run")
    lines = (done.folder / "search" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 2
    for record in records:
        gates = [
            value for tag, value in record.items() if tag.startswith("alphas/") and tag != "alphas/entropy"
        ]
        expected = -10 * sum((gate - 0.5) ** 2 for gate in gates) / len(gates)
        assert record["search/zero_one"] == pytest.approx(expected, rel=1e-3, abs=1e-7)
        # that of the shares: two gates near a half each
        assert record["alphas/entropy"] == pytest.approx(0.6931, abs=1e-3)
    # no gate has reached the threshold in so few steps: each node keeps its strongest input alone
    assert {len(done.genotype[f"{cell}_{node}"]) for cell in ("normal", "reduce") for node in (2, 3)} == {1}


def test_a_run_derives_by_validations_at_its_end(tmp_path: Path) -> None:
    recipe = load_recipe(_recipe(tmp_path, deriver="perturbation"), check=False)
    done = run(recipe, tmp_path / "run")
    assert Genotype.load(done.folder / "search" / "genotype.json") == done.genotype
    assert len(done.genotype["normal_2"]) == 2
    assert done.network().kinds() == ("weight",)
