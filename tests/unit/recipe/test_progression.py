"""Searches in stages: small, but real."""

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from nasframe import Genotype, load_recipe, run
from nasframe.core import Checkpoints
from nasframe.errors import RecipeError
from nasframe.recipe import rehearsal, resume
from nasframe.recipe.minimal import minimal_mapping
from nasframe.recipe.planning import _stage_counts
from nasframe.recipe.progression import Progression
from nasframe.recipe.yaml_text import dump_yaml

RECIPE = """
name: tiny
seed: 3
device: cpu
threads: 1
data: {type: synthetic, num_train: 16, num_test: 16, num_classes: 3, height: 8, width: 8}
space:
  {type: darts, channels: 2, cells: 3, nodes: 1, stem_multiplier: 1,
   operations: [none, skip_connect, avg_pool_3x3, sep_conv_3x3]}
search:
  algorithm: {type: darts_bilevel, alpha_optimizer: {lr: 0.2}}
  augment: [flip]
  trainer: {epochs: 2, batch_size: 8, optimizer: {lr: 0.1}}
  stages:
    - {}
    - {keep: 3, inherits: [weights, alphas], space: {channels: 4}}
    - {keep: 2, space: {cells: 4, skip_dropout: 0.4}, trainer: {epochs: 1}}
retrain: {trainer: {epochs: 1, batch_size: 8}}
"""
OPERATIONS = ("none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3")
EDGES = ("normal_2_0", "normal_2_1", "reduce_2_0", "reduce_2_1")
KILLS = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "kills.py"), run_name="kills")
OUTCOME = KILLS["outcome"]


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe_file, tmp_path_factory):
    return run(load_recipe(recipe_file), tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def lines(finished):
    text = (finished.folder / "search" / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def _weights(line):
    """What each edge's candidates weigh in a record, by name."""
    return {
        edge: {name: line[tag] for name in OPERATIONS if (tag := f"alphas/{edge}/{name}") in line}
        for edge in EDGES
    }


def test_the_records_of_all_stages_read_as_one_search(lines):
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["search/stage"] for line in lines] == [1, 1, 2, 2, 3]
    assert [line["search/lr"] for line in lines[::2]] == [
        0.1,
        0.1,
        0.1,
    ]  # each stage has a schedule of its own


@pytest.mark.parametrize(("before", "num_kept"), [(1, 3), (3, 2)])
def test_a_stage_has_the_strongest_candidates_of_the_one_before(lines, before, num_kept):
    former, following = _weights(lines[before]), _weights(lines[before + 1])
    for edge in EDGES:
        falling = sorted(former[edge], key=former[edge].__getitem__, reverse=True)
        kept = set(falling[:num_kept])
        assert kept - {"none"}
        assert set(following[edge]) == kept


def test_a_stage_inherits_what_it_says_and_begins_the_rest_anew(recipe_file, tmp_path):
    recipe, begun, ended = load_recipe(recipe_file, check=False), [], []

    def numbers(model):
        alphas = {
            name: dict(zip(model.choices[name].candidates, op.alpha.tolist(), strict=True))
            for name, op in model.mixed_ops.items()
        }
        return alphas, model.network.classifier.weight.detach().clone()

    def train(space, model, section, stretch):
        begun.append(numbers(model))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(len(begun)))
        ended.append(numbers(model))
        return stretch.before + 1

    Progression(recipe, recipe.data().task, lambda name: tmp_path / name).run(train)
    for edge in EDGES:
        assert begun[1][0][edge] == {name: ended[0][0][edge][name] for name in begun[1][0][edge]}
        assert max(map(abs, begun[2][0][edge].values())) < 0.01  # drawn around 0
    assert [weight.shape for _, weight in begun] == [
        (3, 8),
        (3, 16),
        (3, 8),
    ]  # channels times 4 by reductions
    assert torch.equal(begun[1][1][:, :8], ended[0][1])
    assert torch.equal(begun[1][1][:, 8:], ended[0][1])
    assert not torch.equal(begun[2][1], ended[1][1][:, :8])


def test_what_is_found_is_of_the_last_stage(finished, lines):
    last = _weights(lines[-1])
    for edge, kept in finished.genotype.choices.items():
        if edge in EDGES:
            (name,) = kept
            assert name in last[edge]
    assert finished.genotype == Genotype.load(finished.folder / "search" / "genotype.json")


def test_each_stage_has_its_folder(finished):
    folder = finished.folder / "search"
    assert {path.name for path in folder.glob("stage_*")} == {"stage_1", "stage_2", "stage_3"}
    assert not (folder / "checkpoints").exists()
    assert {path.name for path in (folder / "stage_1").iterdir()} == {"checkpoints", "outcome"}
    assert {path.name for path in (folder / "stage_3").iterdir()} == {"checkpoints"}


@pytest.mark.parametrize(
    ("label", "step", "lost"),
    [
        ("search 1/3", 2, ()),  # after the last step of a stage
        ("search 2/3", 1, ()),  # before the first checkpoint of one
        ("search 3/3", 1, ("search/stage_1/outcome",)),  # so that all after it is done again
    ],
)
def test_a_search_that_was_stopped_ends_like_one_that_was_not(
    recipe_file, finished, tmp_path, label, step, lost
):
    def progress(stage, this_step, num_steps, epoch, metrics):
        if (stage, this_step) == (label, step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(recipe_file), tmp_path / "run", progress)
    for name in lost:
        shutil.rmtree(tmp_path / "run" / name)
    done = resume(tmp_path / "run")
    expected, found = OUTCOME(finished.folder), OUTCOME(done.folder)
    for part, value in expected.items():
        assert found[part] == value, part
    last = Path("search", "stage_3", "checkpoints")
    before, after = (
        Checkpoints(folder / last).latest()["model"] for folder in (finished.folder, done.folder)
    )
    assert all(torch.equal(value, after[name]) for name, value in before.items() if value is not None)


def test_the_first_stage_is_the_search_that_it_would_be_alone(recipe_file, lines, tmp_path):
    alone = run(load_recipe(recipe_file, ["search.stages=[]"]), tmp_path / "run")
    text = (alone.folder / "search" / "metrics.jsonl").read_text()
    for line, staged in zip(map(json.loads, text.splitlines()), lines, strict=False):
        del line["search/images_per_second"]
        assert line == {name: staged[name] for name in line}
    assert "search/stage" not in text


def test_a_survey_counts_what_each_stage_learns(recipe_file):
    recipe = load_recipe(recipe_file, check=False)
    found = list(_stage_counts(recipe, recipe.data().task))
    assert [each.candidates for each in found] == [4, 3, 2]
    assert [each.alphas for each in found] == [4 * 4, 4 * 3, 4 * 2]


def test_a_later_stage_is_rehearsed_alone(recipe_file, tmp_path):
    text = recipe_file.read_text() + "trackers: []\n"
    (tmp_path / "recipe.yaml").write_text(text)
    rehearsal.main(str(tmp_path), "search", "2")
    found = json.loads((tmp_path / "result.json").read_text())["rehearsal"]
    (phase,) = found["phases"]
    assert (phase["num_steps"], found["num_epochs"]) == (1, 1)  # 8 examples in batches of 8, once


def test_stages_start_from_the_space_and_the_trainer_of_the_search(recipe_file):
    recipe = load_recipe(recipe_file, ["space.channels=6", "search.trainer.batch_size=4"], check=False)
    assert [stage.space.settings["channels"] for stage in recipe.search.stages] == [6, 4, 6]
    assert [stage.space.settings["cells"] for stage in recipe.search.stages] == [3, 3, 4]
    assert [stage.trainer.settings["batch_size"] for stage in recipe.search.stages] == [4, 4, 4]
    assert [stage.trainer.settings["epochs"] for stage in recipe.search.stages] == [2, 2, 1]


def test_the_least_text_of_a_recipe_says_of_its_stages_what_differs(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, check=False)
    least = minimal_mapping(recipe)
    assert least["search"]["stages"] == [
        {},
        {"space": {"channels": 4}, "keep": 3, "inherits": ["weights", "alphas"]},
        {"space": {"cells": 4, "skip_dropout": 0.4}, "trainer": {"epochs": 1}, "keep": 2},
    ]
    again = tmp_path / "again.yaml"
    again.write_text(dump_yaml(least))
    assert load_recipe(again, check=False) == recipe


WRONG = [
    ("search.stages.0.keep=3", "NF141", "search.stages.0.keep", "before anything is learned"),
    ("search.stages.0.inherits=[alphas]", "NF141", "search.stages.0.inherits", "none before it"),
    ("search.stages.2.keep=4", "NF141", "search.stages.2.keep", "must be at most 3"),
    ("search.cost=flops", "NF141", "search.cost", "prune by alphas alone"),
    ("search.stages.1.space.nodes=2", "NF141", "search.stages.1.space", "must have the choices of `space`"),
    ("search.stages.1.space.type=macro", None, "search.stages.1.space", ""),
    ("search.stages.1.space.stem=imagenet", "NF103", "search.stages.1.space", "images"),
    ("search.stages.1.kept=3", "NF051", "search.stages.1.kept", "has no such setting"),
    ("search.stages.1.inherits=[betas]", None, "search.stages.1.inherits.0", "alphas"),
    ("search.stages={keep: 3}", None, "search.stages", "must be a list of mappings"),
    ("search.stages=[4]", None, "search.stages.0", "must be a mapping"),
    ("search.stages.1.trainer.epochs=0", None, "search.stages.1.trainer.epochs", "greater than 0"),
]


@pytest.mark.parametrize(("override", "code", "path", "words"), WRONG)
def test_what_cannot_be_is_refused_where_it_stands(recipe_file, override, code, path, words):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file, [override])
    found = [each for each in caught.value.problems if each.path.startswith(path)]
    assert found, [(each.path, each.rule) for each in caught.value.problems]
    assert any(words in each.rule for each in found), [each.rule for each in found]
    assert code is None or {each.kind.code for each in found} == {code}


def test_an_explorer_has_no_stages(recipe_file):
    with pytest.raises(RecipeError, match="must be left out, because `random_search`"):
        load_recipe(recipe_file, ["search.explorer=random_search", "search.score=synflow"], check=False)


def test_a_mixed_op_without_alphas_has_nothing_to_prune_by(recipe_file):
    with pytest.raises(RecipeError, match="`uniform_path` has no alphas to prune by"):
        load_recipe(recipe_file, ["search.mixed_op=uniform_path"], check=False)


def test_stages_need_not_prune(recipe_file):
    stages = "search.stages=[{}, {inherits: [weights, alphas]}]"
    assert [stage.keep for stage in load_recipe(recipe_file, [stages]).search.stages] == [None, None]
