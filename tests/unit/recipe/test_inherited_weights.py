"""`retrain.inherit`: the retraining begins with the weights that the architecture has in the supernet."""

import pytest
import torch
from safetensors.torch import load_file

from nasframe import inherit, load_recipe, run
from nasframe.core import Checkpoints, derived, supernet
from nasframe.errors import RecipeError, UnsupportedError
from nasframe.recipe import resume

RECIPE = """
name: heir
device: cpu
threads: 1
trackers: []
data: {type: synthetic, num_train: 24, num_test: 4, num_classes: 3, height: 8, width: 8}
space:
  type: surgery
  network: {type: resnet, channels: 2, blocks: [1, 1]}
  rules: [{match: "layer*.conv2", choices: [original, sep_conv_3x3, skip_connect]}]
search: {trainer: {epochs: 1, batch_size: 6, optimizer: {lr: 0.1}}}
retrain:
  inherit: true
  trainer: {epochs: 1, batch_size: 6, optimizer: {lr: 1.0e-30, momentum: 0, weight_decay: 0}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "heir.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    return run(load_recipe(recipe), tmp_path_factory.mktemp("runs") / "whole")


def _weights(folder):
    """Of the retrained network, without the statistics of batch norms, which follow the examples."""
    found = load_file(folder / "retrain" / "model.safetensors")
    return {name: tensor for name, tensor in found.items() if "running" not in name and "num_" not in name}


def test_the_retraining_begins_with_the_weights_of_the_last_step_of_the_search(recipe, finished):
    loaded = load_recipe(recipe)
    space = loaded.space(loaded.data().task)
    model = supernet(space, loaded.search.mixed_op)
    model.load_state_dict(Checkpoints(finished.folder / "search" / "checkpoints").latest()["model"])
    heir = inherit(derived(space, finished.genotype), model, finished.genotype).state_dict()
    kept = _weights(finished.folder)  # which no step of that size has moved
    assert kept.keys() <= heir.keys()
    assert all(torch.equal(tensor, heir[name]) for name, tensor in kept.items())
    torch.manual_seed(0)
    new = derived(space, finished.genotype).state_dict()
    assert not torch.equal(kept["network.layer1.0.conv1.weight"], new["network.layer1.0.conv1.weight"])


def test_a_retraining_that_was_interrupted_begins_again_with_them(recipe, finished, tmp_path):
    def stop(stage, step, *others):
        if (stage, step) == ("retrain", 1):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run(load_recipe(recipe), tmp_path / "run", stop)
    again = _weights(resume(tmp_path / "run").folder)
    assert all(torch.equal(tensor, again[name]) for name, tensor in _weights(finished.folder).items())


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        (["genotype=GENOTYPE"], "must have a supernet that the search trains"),
        (["search.explorer=random_search", "search.score=synflow"], "must have a supernet that the search"),
        (["retrain.space.network.channels=4"], "must find the weights of the retraining's network"),
    ],
)
def test_where_there_is_nothing_to_inherit_a_recipe_is_refused(recipe, finished, changes, rule):
    found = str(finished.folder / "search" / "genotype.json")
    changes = [change.replace("GENOTYPE", found) for change in changes]
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, changes)
    assert [(each.path, each.kind.code) for each in caught.value.problems] == [("retrain.inherit", "NF108")]
    assert rule in caught.value.problems[0].rule


def test_a_run_refuses_what_cannot_inherit_before_anything_is_trained(recipe, tmp_path):
    loaded = load_recipe(recipe, ["retrain.space.network.channels=4"], check=False)
    with pytest.raises(UnsupportedError, match=r"inherit: .* must have one shape"):
        run(loaded, tmp_path / "run", lambda *told: pytest.fail("a step"))
