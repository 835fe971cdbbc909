"""A search by an explorer: scores, records, resume, budgets, and what is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from nasframe import Genotype, load_recipe, run
from nasframe.core import Task, choices_of, costs, derived, hold_out, spaces
from nasframe.errors import FaultWarning, FormatError, RecipeError, TrainingError, UnsupportedError
from nasframe.recipe import Run, resume

RECIPE = """
name: tiny
threads: 1
device: cpu
data: {type: synthetic, num_train: 32, num_test: 16, num_classes: 3, height: 8, width: 8}
space: {type: macro, channels: 2, features: 4}
search:
  explorer: {type: regularized_evolution, population: 4, sample: 2}
  score: parameters
  evaluations: 8
  trainer: {epochs: 2, batch_size: 8}
retrain: {trainer: {epochs: 1, batch_size: 8}}
trackers: [jsonl]
"""
SUPERNET = ["search.score=supernet", "search.algorithm=single_path", "search.mixed_op=uniform_path",
            "search.trainer.epochs=1", "search.evaluations=4"]  # fmt: skip


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search as the recipe says."""
    return run(load_recipe(recipe_file), tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture(scope="module")
def by_supernet(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search whose score is of a supernet."""
    return run(load_recipe(recipe_file, SUPERNET), tmp_path_factory.mktemp("runs") / "by_supernet")


def lines(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / "search" / name).read_text().splitlines()]


def table(path: Path) -> str:
    return f"search.score={{type: table, benchmark: {{type: nas_bench_macro, path: {path}}}}}"


def stop_at(number: int, in_stage: str = "search"):
    def progress(stage: str, step: int, num_steps: int, epoch: int, metrics: object) -> None:
        if (stage, step, epoch) == (in_stage, number, 0):
            raise KeyboardInterrupt

    return progress


def left(folder: Path) -> dict[str, str]:
    names = ["search/scores.jsonl", "search/metrics.jsonl", "search/genotype.json"]
    texts = {name: (folder / name).read_text() for name in names}
    return {name: re.sub(r'"search/images_per_second": [^,}]*', "", text) for name, text in texts.items()}


def test_the_best_by_the_table_is_found_told_and_retrained(recipe_file, macro_table, tmp_path):
    done = run(load_recipe(recipe_file, [table(macro_table)]), tmp_path / "run")
    accuracies, space = json.loads(macro_table.read_text()), spaces["macro"](Task())
    scored = lines(done.folder, "scores.jsonl")
    for line in scored:
        key = space.key(Genotype(line["genotype"]))
        assert line["score"] == pytest.approx(accuracies[key]["mean_acc"] / 100, abs=1e-12)
        assert line["budget"] == 1
    best = max(scored, key=lambda line: line["score"])
    assert done.genotype == Genotype(best["genotype"])
    records = lines(done.folder, "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 9))
    assert [record["search/score"] for record in records] == [line["score"] for line in scored]
    assert [record["search/best_score"] for record in records] == [
        max(line["score"] for line in scored[: index + 1]) for index in range(8)
    ]
    assert done.metrics["best_score"] == best["score"]
    assert "best score" in done.report.read_text()


def test_a_supernet_is_trained_only_where_the_score_needs_one(finished, by_supernet):
    assert not (finished.folder / "search" / "checkpoints").exists()
    records = lines(by_supernet.folder, "metrics.jsonl")
    assert ["search/train_loss" in record for record in records] == [True] + 4 * [False]
    assert ["search/score" in record for record in records] == [False] + 4 * [True]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]


def test_scores_of_a_supernet_that_has_learned_nothing_are_said_to_be_at_chance(
    recipe_file, finished, by_supernet
):
    recipe = load_recipe(recipe_file, SUPERNET)
    _, valid = hold_out(recipe.data().train, recipe.search.valid_fraction, recipe.seed)
    most = valid.batch(torch.arange(16)).targets.bincount().max().item()
    best = max(line["score"] for line in lines(by_supernet.folder, "scores.jsonl"))
    # after two steps; of 16 examples at least 13 would have to be right to be no luck at a chance of 3/8
    assert by_supernet.health == (
        f"at chance: by the best of 4 scores {round(16 * best)} of 16 held-out examples are right, "
        f"and {most} if all are answered alike"
    )
    assert finished.health == ""  # of parameters nobody knows


@pytest.mark.parametrize(
    ("overrides", "whole"), [([], "finished"), (SUPERNET, "by_supernet")], ids=["parameters", "supernet"]
)
def test_an_interrupted_search_ends_as_one_that_was_not(request, recipe_file, tmp_path, overrides, whole):
    recipe, whole = load_recipe(recipe_file, overrides), request.getfixturevalue(whole)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "broken", stop_at(2))
    assert len(lines(tmp_path / "broken", "scores.jsonl")) == 2
    with (tmp_path / "broken" / "search" / "scores.jsonl").open("a") as file:
        file.write('{"genotype": {"layer_0"')  # torn off by a kill
    assert resume(tmp_path / "broken").genotype == whole.genotype
    assert left(tmp_path / "broken") == left(whole.folder)


def test_a_training_for_a_score_goes_on_where_it_was_interrupted(recipe_file, tmp_path, monkeypatch):
    from nasframe.trainers.standard import Standard

    overrides = ["search.score=retraining", "search.evaluations=2"]
    recipe = load_recipe(recipe_file, overrides)
    whole = run(recipe, tmp_path / "whole")
    epochs, plain = [], Standard._train_epoch

    def counted(self, job, state):
        if job.stage == "scoring":
            epochs.append(state.epoch)
            if len(epochs) == 4:
                raise KeyboardInterrupt
        plain(self, job, state)

    monkeypatch.setattr(Standard, "_train_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "broken")
    assert (epochs, len(lines(tmp_path / "broken", "scores.jsonl"))) == ([0, 1, 0, 1], 1)
    resume(tmp_path / "broken")
    assert epochs[4:] == [1]  # the second epoch of the second network alone
    assert left(tmp_path / "broken") == left(whole.folder)
    assert not list((tmp_path / "broken" / "search" / "scoring").glob("*"))


def test_scores_of_another_search_are_refused(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "run", stop_at(3))
    path = tmp_path / "run" / "search" / "scores.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    for text, words in [
        (others[0] + first, r"scores\.jsonl:1: must be the score of what the explorer asks for"),
        ('{"score": 1}\n', r"scores\.jsonl:1: must be an object with `genotype`"),
        ('{"genotype": {}, "score": 1e999, "budget": 1}\n', r"scores\.jsonl:1"),
        ('{"genotype": {}, "score": null, "budget": 2}\n', r"scores\.jsonl:1: must be an object"),
        ("[]\n", r"scores\.jsonl:1: must be an object"),
    ]:
        path.write_text(text)
        with pytest.raises(FormatError, match=words):
            resume(tmp_path / "run")


def test_an_architecture_that_is_asked_for_again_keeps_its_score(recipe_file, tmp_path):
    overrides = ["space.stages=[1]", "search.score=retraining", "search.trainer.epochs=1"]
    folder = run(load_recipe(recipe_file, overrides), tmp_path / "run").folder
    scored = lines(folder, "scores.jsonl")
    assert len(scored) == 8
    assert len({line["score"] for line in scored}) <= len({str(line["genotype"]) for line in scored}) <= 3


PLUGIN = """
from nasframe.core import Genotype, Score, Testbed, scores
from nasframe.errors import TrainingError

@scores.register("fragile")
class Fragile(Score):
    '''Has no score for a light network.'''

    def __init__(self, testbed: Testbed, *, least: int = 9000) -> None:
        self._testbed, self._least = testbed, least

    def of(self, genotype: Genotype, budget: float = 1.0) -> float:
        size = sum(p.numel() for p in self._testbed.network(genotype).parameters())
        if size < self._least:
            raise TrainingError("its loss diverged")
        return float("inf") if size < self._least + 2000 else -size
"""


def test_an_architecture_without_a_score_counts_as_the_worst(recipe_file, tmp_path):
    (tmp_path / "fragile.py").write_text(PLUGIN)
    recipe = load_recipe(recipe_file, ["search.score=fragile"], [tmp_path / "fragile.py"], check=False)
    with pytest.warns(
        FaultWarning, match="an architecture has no score and counts as the worst: its loss div"
    ):
        done = run(recipe, tmp_path / "run")
    scored = [line["score"] for line in lines(done.folder, "scores.jsonl")]
    assert None in scored
    assert done.metrics["best_score"] == max(score for score in scored if score is not None)
    none = load_recipe(recipe_file, ["search.score={type: fragile, least: 1000000}"], check=False)
    with (
        pytest.warns(FaultWarning, match="no score"),
        pytest.raises(TrainingError, match="must have a score, but none"),
    ):
        run(none, tmp_path / "none")


def test_halving_trains_for_shares_of_the_epochs_and_returns_one_of_the_whole(recipe_file, tmp_path):
    overrides = ["search.explorer={type: successive_halving, count: 4, eta: 2}", "search.score=retraining",
                 "search.trainer.epochs=4", "search.evaluations=9"]  # fmt: skip
    left = []

    def hear(stage, step, num_steps, epoch, metrics):
        left.append(metrics.get("work_left"))

    done = run(load_recipe(recipe_file, overrides), tmp_path / "run", hear)
    done_by = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 3.25, 3.5]  # of 3.5 whole trainings
    assert left[:9] == pytest.approx([(3.5 - each) / each for each in done_by])
    scored = lines(done.folder, "scores.jsonl")
    assert [line["budget"] for line in scored] == [0.25] * 4 + [0.5] * 2 + [1.0] + [0.25] * 2
    assert done.genotype == Genotype(scored[6]["genotype"])
    assert [record["search/budget"] for record in lines(done.folder, "metrics.jsonl")] == [
        line["budget"] for line in scored
    ]


def test_a_share_of_less_than_an_epoch_is_refused(recipe_file, tmp_path):
    overrides = ["search.explorer={type: successive_halving, count: 9}", "search.score=retraining"]
    with pytest.raises(
        UnsupportedError, match=r"a share of 0\.111111 of its epochs must be at least one, but"
    ):
        run(load_recipe(recipe_file, overrides), tmp_path / "run")


def test_what_is_scored_keeps_the_budget_of_a_cost(recipe_file, finished, tmp_path):
    task, space = Task((3, 8, 8), 3), spaces["macro"](Task((3, 8, 8), 3), channels=2, features=4)
    count = costs["parameters"]()
    sizes = [
        count.of(derived(space, Genotype(line["genotype"])), task)
        for line in lines(finished.folder, "scores.jsonl")
    ]
    limit = sorted(sizes)[len(sizes) // 2]
    overrides = ["search.cost=parameters", f"search.penalty={{type: budget, max: {limit}}}"]
    done = run(load_recipe(recipe_file, overrides), tmp_path / "kept")
    scored = lines(done.folder, "scores.jsonl")
    assert len(scored) == 8
    assert all(0 < line["score"] <= limit < max(sizes) for line in scored)
    assert done.metrics["derived_cost"] == done.metrics["best_score"]
    assert done.metrics["max_cost"] == limit


@pytest.mark.parametrize(
    ("overrides", "path", "rule"),
    [
        (["~search.score"], "search.score", "must be given, because `regularized_evolution` asks for scores"),
        (["~search.explorer"], "search.explorer", "must be given, because `parameters` tells scores to an"),
        (["search.explorer=successive_halving"], "search.explorer", "`parameters` costs the same for any"),
        (
            ["search.algorithm=single_path", "search.mixed_op=uniform_path"],
            "search.score",
            "must be of a supernet, because `single_path` trains the weights of one",
        ),
        (["search.score=supernet", "search.valid_fraction=0"], "search.valid_fraction", "`supernet`"),
        (["search.cost=flops"], "search.cost", "has no alphas to pay by `linear`"),
        (
            ["search.explorer={type: evolution, mutants: 90}"],
            "search.explorer",
            "mutants and children must together be at most the population",
        ),
        (["search.score=retraining", "search.trainer.optimizer={type: sgd, nesterov: true, momentum: 0}"],
         "search.trainer.optimizer", "esterov"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_with_its_reason(recipe_file, overrides, path, rule):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file, overrides)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert rule in problem.rule


def test_a_table_of_another_space_is_refused(recipe_file, macro_table):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file, [table(macro_table), "space.stages=[2, 3, 2]"])
    (problem,) = caught.value.problems
    assert problem.path == "search.score.benchmark"
    assert "knows the architectures of the space `macro` with stages [2, 3, 3] alone" in problem.rule


def test_whatever_a_search_without_held_out_examples_needs_none(recipe_file):
    assert load_recipe(recipe_file, ["search.valid_fraction=0"]).search.valid_fraction == 0


def test_all_architectures_of_a_space_over_the_budget_end_the_search(recipe_file, tmp_path, monkeypatch):
    from nasframe.recipe import exploring

    monkeypatch.setattr(exploring, "_MOST_REFUSED", 20)
    monkeypatch.setattr(exploring.CostLimit, "allows", lambda self, genotype: False)
    overrides = ["search.cost=parameters", "search.penalty={type: budget, max: 1 M}"]
    with pytest.raises(UnsupportedError, match="must find an architecture within the budget, but none of 20"):
        run(load_recipe(recipe_file, overrides), tmp_path / "run")


def test_a_finished_search_is_not_run_again(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    before = left(folder)
    shutil.rmtree(folder / "retrain")
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "finished": ["search"]}))
    resume(folder)
    assert left(folder) == before
    assert len(choices_of(spaces["macro"](Task()))) == 8
