"""A whole run, from a recipe to its folder: small, but real."""

import html
import json
import textwrap
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from nasframe import Genotype, load_recipe, registries, run
from nasframe.core import choices_of, derived
from nasframe.errors import DataError, FormatError
from nasframe.recipe import open_run
from nasframe.recipe.rehearsal import _Enough, _Watch
from nasframe.recipe.run_directory import is_free
from nasframe.recipe.running import run_fitted_by

RECIPE = """
name: tiny
seed: 5
device: cpu
threads: 1
data: {type: synthetic, num_train: 40, num_test: 22, num_classes: 3, height: 8, width: 8}
space:
  {type: darts, channels: 2, cells: 3, nodes: 2,
   operations: [none, skip_connect, avg_pool_3x3, sep_conv_3x3]}
search:
  algorithm: {type: darts_bilevel, alpha_optimizer: {lr: 0.1}}
  augment: [flip]
  trainer: {epochs: 2, batch_size: 8, optimizer: {lr: 0.1}}
retrain:
  space: {channels: 3, drop_path: 0.2}
  augment: [flip]
  valid_fraction: 0.25
  trainer: {epochs: 3, batch_size: 8, optimizer: {lr: 0.1}}
"""
OPERATIONS = ("none", "skip_connect", "avg_pool_3x3", "sep_conv_3x3")
EDGES = [
    f"{cell}_{node}_{state}" for cell in ("normal", "reduce") for node in (2, 3) for state in range(node)
]
METRICS = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr", "images_per_second")


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe_file, tmp_path_factory):
    return run(load_recipe(recipe_file), tmp_path_factory.mktemp("runs") / "whole")


def _status(folder):
    return json.loads((folder / "status.json").read_text())


def _lines(folder, stage):
    """The records of a stage, without the one figure that no seed decides."""
    lines = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line[f"{stage}/images_per_second"]
    return lines


def _weights(folder):
    return load_file(folder / "retrain" / "model.safetensors")


def _same_weights(one, other):
    first, second = _weights(one), _weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_run_directory_holds_what_is_documented_and_nothing_else(finished):
    folder = finished.folder
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    events = {name for name in found if "/events.out.tfevents." in name}
    checkpoints = {name for name in found if "/checkpoints/" in name}
    assert {name.rpartition("/")[0] for name in events} == {"search/tensorboard", "retrain/tensorboard"}
    # 20 examples in batches of 8, 2 epochs; 30 in batches of 8, the last 2 of 3 epochs
    assert checkpoints == {
        *(f"search/checkpoints/step-{step:09d}.pt" for step in (2, 4)),
        *(f"retrain/checkpoints/step-{step:09d}.pt" for step in (6, 9)),
        *(f"{stage}/checkpoints/manifest.json" for stage in ("search", "retrain")),
    }
    assert found - events - checkpoints == {
        "lock", "recipe.yaml", "provenance.json", "environment.json", "status.json",
        "report.html", "report.json",
        "search/metrics.jsonl", "search/genotype.json",
        "retrain/metrics.jsonl", "retrain/model.safetensors", "retrain/config.json",
    }  # fmt: skip


def test_the_status_of_a_finished_run_is_done(finished):
    status = _status(finished.folder)
    assert (status["ended"], status["reason"]) == ("done", None)
    assert status["finished"] == ["search", "retrain", "report"]
    assert status["steps"] == {"search": 4, "retrain": 9}
    precisions = {
        stage: [each["value"] for each in settings if each["name"] == "precision"]
        for stage, settings in status["active"].items()
    }
    assert precisions == {"search": ["float32"], "retrain": ["float32"]}
    assert "precision" not in status  # which stands in one place
    assert all(status["seconds"][stage] > 0 for stage in status["finished"])


def test_the_report_tells_what_each_class_was_taken_for_and_how_little_few_examples_say(finished):
    report = json.loads((finished.folder / "report.json").read_text())
    counts_KK = torch.tensor(report["confusion"]["counts"])
    assert len(report["confusion"]["classes"]) == 3
    assert counts_KK.sum() == 22
    assert counts_KK.trace() / 22 == pytest.approx(finished.metrics["test_accuracy"])
    (note,) = report["notes"]
    assert note.endswith("of 22 examples alone: the standard error of an accuracy of 50 % is then 11 points")


def test_settings_of_the_device_are_told_as_a_plan_predicts_them(finished, recipe_file, tmp_path):
    told = json.loads((finished.folder / "report.json").read_text())["active"]
    assert told == _status(finished.folder)["active"]
    assert list(told) == ["search", "retrain"]
    values = {each["name"]: each["value"] for each in told["search"]}
    assert values == {
        "precision": "float32", "compile": "off", "channels_last": "off", "resident": "off",
        "prefetch": "off", "optimizer": "SGD in one call",
    }  # fmt: skip
    page = html.unescape((finished.folder / "report.html").read_text())
    assert all(each["reason"] in page for each in told["retrain"])
    watch = _Watch(torch.device("cpu"))
    with pytest.raises(_Enough):
        run_fitted_by(load_recipe(recipe_file, check=False), tmp_path / "plan", watch.fit)
    assert [asdict(setting) for setting in watch.found[0].active] == told["search"]


def test_the_recipe_of_a_run_runs_again_to_the_same_result(finished, tmp_path):
    torch.manual_seed(99)
    again = run(load_recipe(finished.folder / "recipe.yaml"), tmp_path / "again")
    assert (again.folder / "recipe.yaml").read_text() == (finished.folder / "recipe.yaml").read_text()
    for stage in ("search", "retrain"):
        assert _lines(again.folder, stage) == _lines(finished.folder, stage)
    assert again.genotype == finished.genotype
    assert again.metrics == finished.metrics
    assert _same_weights(again.folder, finished.folder)


def test_another_seed_gives_another_run(finished, recipe_file, tmp_path):
    overrides = ["seed=6", "search.trainer.epochs=1", "retrain.trainer.epochs=1", "trackers=[jsonl]"]
    other = run(load_recipe(recipe_file, overrides), tmp_path / "other")
    for stage in ("search", "retrain"):
        loss = f"{stage}/train_loss"
        assert _lines(other.folder, stage)[0][loss] != _lines(finished.folder, stage)[0][loss]


def _events(folder, stage):
    sizes = {"scalars": 0, "histograms": 0, "images": 0}
    events = EventAccumulator(str(folder / stage / "tensorboard"), size_guidance=sizes)
    events.Reload()
    return events


def test_the_event_files_of_the_search_have_the_tags_of_the_design(finished):
    events = _events(finished.folder, "search")
    tags = events.Tags()
    figures = {f"search/{name}" for name in (*METRICS, "alpha_loss")}
    weights = {f"alphas/{edge}/{operation}" for edge in EDGES for operation in OPERATIONS}
    of_cells = {f"{what}_{figure}" for what in ("skip", "none") for figure in ("share", "mass")}
    health = {f"health/{figure}/{cell}" for figure in of_cells for cell in ("normal", "reduce")}
    names = ("entropy", "rank_stability", "cut", "gap", "supernet_accuracy", "path_accuracy")
    health |= {f"health/{name}" for name in names}
    assert set(tags["scalars"]) == figures | weights | health | {"alphas/entropy"}
    assert set(tags["histograms"]) == {f"alphas/{edge}" for edge in EDGES}
    drawn = {"genotype/normal", "genotype/reduce"} | {f"heat_maps/{edge}" for edge in EDGES}
    assert set(tags["images"]) == drawn | {"search/inputs"}
    at_the_end = {
        f"health/{name}" for name in ("gap", "supernet_accuracy", "path_accuracy", "rank_stability")
    }
    for tag in tags["scalars"]:
        assert [event.step for event in events.Scalars(tag)] == ([2] if tag in at_the_end else [1, 2])
    for tag in tags["histograms"]:
        counts = [(event.step, event.histogram_value.num) for event in events.Histograms(tag)]
        assert counts == [(1, 4), (2, 4)]
    for tag in tags["images"]:
        assert [event.step for event in events.Images(tag)] == ([1, 2] if tag in drawn else [1])


def test_the_event_files_of_the_retrain_have_the_tags_of_the_design(finished):
    events = _events(finished.folder, "retrain")
    tags = events.Tags()
    figures = {f"retrain/{name}" for name in METRICS}
    assert set(tags["scalars"]) == figures | {f"result/{name}" for name in finished.metrics}
    assert tags["histograms"] == []
    pictures = {tag: [event.step for event in events.Images(tag)] for tag in tags["images"]}
    assert pictures == {"retrain/inputs": [1], "confusion/valid": [1, 3], "confusion/test": [4]}
    assert [event.step for event in events.Scalars("retrain/valid_accuracy")] == [1, 2, 3]
    for name, value in finished.metrics.items():
        (event,) = events.Scalars(f"result/{name}")
        assert (event.step, event.value) == (4, pytest.approx(value, rel=1e-6))


def test_the_event_files_have_the_recipe_and_its_settings(finished):
    for stage in ("search", "retrain"):
        (text,) = _events(finished.folder, stage).Tensors("recipe/text_summary")
        shown = text.tensor_proto.string_val[0].decode()
        assert textwrap.dedent(shown) == (finished.folder / "recipe.yaml").read_text()
    content = _events(finished.folder, "retrain").SummaryMetadata("_hparams_/session_start_info")
    settings = HParamsPluginData.FromString(content.plugin_data.content).session_start_info.hparams
    assert settings["search.trainer.epochs"].number_value == 2
    assert settings["search.algorithm.alpha_optimizer.lr"].number_value == 0.1
    assert settings["search.augment.0.type"].string_value == "flip"
    assert settings["space.operations"].string_value == ", ".join(OPERATIONS)
    assert settings["deterministic"].string_value == "true"


def test_a_run_can_be_looked_at_from_python(finished):
    lines = {stage: _lines(finished.folder, stage) for stage in ("search", "retrain")}
    for edge in EDGES:
        for name in OPERATIONS:
            tracked = [line[f"alphas/{edge}/{name}"] for line in lines["search"]]
            assert finished.alphas[edge][name] == tracked
    losses = [line["retrain/valid_loss"] for line in lines["retrain"]]
    assert finished.curves["retrain"]["valid_loss"] == losses
    assert finished.curves["health"].keys() >= {"entropy", "gap"}
    assert finished.genotype.graphs.keys() == {"normal", "reduce"}
    page = finished._repr_html_()
    assert f"{finished.metrics['test_accuracy']:.2%}" in page
    assert finished.genotype.draw()._repr_svg_() in page
    assert str(finished.folder) in page


def test_event_files_and_lines_say_the_same(finished):
    for stage in ("search", "retrain"):
        events = _events(finished.folder, stage)
        for line in _lines(finished.folder, stage):
            for tag in line.keys() - {"step"}:
                (event,) = (event for event in events.Scalars(tag) if event.step == line["step"])
                assert event.value == pytest.approx(line[tag], rel=1e-6)


def test_alphas_are_tracked_as_weights_that_sum_to_one_and_move(finished):
    first, last = _lines(finished.folder, "search")
    for line in (first, last):
        for edge in EDGES:
            assert sum(line[f"alphas/{edge}/{name}"] for name in OPERATIONS) == pytest.approx(1, abs=1e-6)
        assert 0 < line["alphas/entropy"] < torch.tensor(4.0).log().item()
    assert all(first[f"alphas/{edge}/none"] != last[f"alphas/{edge}/none"] for edge in EDGES)


def test_the_genotype_keeps_the_strongest_operations_of_the_last_record(finished):
    last = _lines(finished.folder, "search")[-1]
    assert finished.genotype == Genotype.load(finished.folder / "search" / "genotype.json")
    for cell in ("normal", "reduce"):
        assert set(finished.genotype[f"{cell}_2"]) == {"0", "1"}
        for node in (2, 3):
            for state in finished.genotype[f"{cell}_{node}"]:
                edge = f"{cell}_{node}_{state}"
                strongest = max(OPERATIONS[1:], key=lambda name, edge=edge: last[f"alphas/{edge}/{name}"])
                assert finished.genotype[edge] == (strongest,)


def test_the_network_of_a_run_is_the_one_that_was_tested(finished):
    recipe = load_recipe(finished.folder / "recipe.yaml")
    data, model = recipe.data(), finished.network()
    assert not model.training
    batch = data.test.batch(torch.arange(22))
    with torch.no_grad():
        logits = model(data.preprocess.normalize(data.preprocess.scale(batch.inputs)))
    loss = torch.nn.functional.cross_entropy(logits, batch.targets).item()
    accuracy = (logits.argmax(1) == batch.targets).sum().item() / 22
    assert finished.metrics["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert finished.metrics["test_accuracy"] == pytest.approx(accuracy)
    expected = derived(recipe.retrain.space(data.task), finished.genotype)
    assert finished.metrics["parameters"] == sum(weight.numel() for weight in expected.parameters())
    assert set(finished.metrics) == {"test_loss", "test_accuracy", "parameters"}


def test_the_report_holds_metrics_curves_genotype_and_recipe(finished):
    content = json.loads((finished.folder / "report.json").read_text())
    retrain = _lines(finished.folder, "retrain")
    assert content["metrics"] == finished.metrics
    assert content["curves"]["retrain/valid_loss"] == [line["retrain/valid_loss"] for line in retrain]
    assert set(content["alphas"]) == set(EDGES)
    assert Genotype.from_json(json.dumps(content["genotype"])) == finished.genotype
    assert content["recipe"] == (finished.folder / "recipe.yaml").read_text()
    assert finished.report.read_text().startswith("<!")


def test_a_finished_run_can_be_opened(finished):
    assert open_run(finished.folder) == finished


def test_the_retrain_is_the_same_without_the_search_before_it(finished, recipe_file, tmp_path):
    found = finished.folder / "search" / "genotype.json"
    heard = set()

    def progress(stage, step, num_steps, epoch, metrics):
        heard.add(stage)

    torch.manual_seed(99)
    alone = run(load_recipe(recipe_file, [f"genotype={found}"]), tmp_path / "alone", progress)
    assert heard == {"retrain"}
    assert sorted(path.name for path in (alone.folder / "search").iterdir()) == ["genotype.json"]
    assert _lines(alone.folder, "retrain") == _lines(finished.folder, "retrain")
    assert _same_weights(alone.folder, finished.folder)
    assert alone.metrics == finished.metrics
    assert alone.report.exists()


_EXPORTER = """
from nasframe.core import Exporter

class Shapes(Exporter):
    "Writes the shapes of an example and of what the network makes of it."

    def __init__(self):
        pass

    def export(self, model, example, folder):
        path = folder / "shapes.txt"
        path.write_text(f"{model.training} {tuple(example.shape)} {tuple(model(example).shape)}")
        return path
"""


def test_exporters_write_the_network_in_evaluation_mode_below_export(
    finished, recipe_file, tmp_path, third_party
):
    third_party("shaping", _EXPORTER, exporters="shapes = Shapes")
    found = finished.folder / "search" / "genotype.json"
    overrides = [f"genotype={found}", "export=[shapes]", "retrain.trainer.max_steps=1", "trackers=[]"]
    done = run(load_recipe(recipe_file, overrides), str(tmp_path / "run"))
    assert [path.name for path in (done.folder / "export").iterdir()] == ["shapes.txt"]
    assert (done.folder / "export" / "shapes.txt").read_text() == "False (8, 3, 8, 8) (8, 3)"
    assert not (done.folder / "retrain" / "metrics.jsonl").exists()


def test_an_out_folder_that_holds_something_is_refused_before_anything_is_done(recipe_file, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(FormatError, match="must be a new or empty folder"):
        run(load_recipe(recipe_file), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("stage", ["search", "retrain"])
def test_a_run_that_failed_in_its_first_step_gives_its_folder_to_the_next(
    finished, recipe_file, tmp_path, stage
):
    known = [f"genotype={finished.folder / 'search' / 'genotype.json'}"] if stage == "retrain" else []
    recipe = load_recipe(recipe_file, [f"{stage}.trainer.optimizer.lr=1e39", *known], check=False)
    with pytest.raises(RuntimeError, match="overflow"):  # beyond float32, so that no step can be made
        run(recipe, tmp_path / "run")
    events = tmp_path / "run" / stage / "tensorboard"
    failed = set(events.iterdir())
    assert failed  # which trackers begin before the first step
    assert is_free(tmp_path / "run")
    quick = [f"{stage}.trainer.epochs=1" for stage in ("search", "retrain")]
    run(load_recipe(recipe_file, [*known, *quick]), tmp_path / "run")
    assert failed.isdisjoint(events.iterdir())
    assert len(_lines(tmp_path / "run", stage)) == 1


def test_an_interrupted_run_says_so_with_its_stage_and_step(recipe_file, tmp_path):
    def progress(stage, step, num_steps, epoch, metrics):
        status = _status(tmp_path / "run")
        assert (status["ended"], status["stage"]) == ("running", stage)
        if (stage, step) == ("search", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(load_recipe(recipe_file), tmp_path / "run", progress)
    status = _status(tmp_path / "run")
    assert (status["ended"], status["reason"], status["stage"]) == ("interrupted", None, "search")
    assert (status["steps"], status["finished"]) == ({"search": 3}, [])
    with pytest.raises(FormatError, match="must be a finished run; finish it with `nasframe resume"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_run_has_the_threads_of_its_recipe_for_as_long_as_it_lasts(recipe_file, tmp_path, error):
    before = torch.get_num_threads()

    def progress(*told):
        assert torch.get_num_threads() == 1
        raise error

    try:
        torch.set_num_threads(2)
        with pytest.raises(error):
            run(load_recipe(recipe_file), tmp_path / "run", progress)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_failed_run_says_why(recipe_file, tmp_path):
    Genotype({"other": ("0",)}).save(tmp_path / "genotype.json")
    recipe = load_recipe(recipe_file, [f"genotype={tmp_path / 'genotype.json'}"], check=False)
    with pytest.raises(FormatError, match="genotype"):
        run(recipe, tmp_path / "run")
    status = _status(tmp_path / "run")
    assert (status["ended"], status["stage"], status["finished"]) == ("failed", "retrain", ["search"])
    assert status["reason"].startswith("FormatError: genotype: ")


def test_a_run_without_its_data_fails_and_says_so(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["data.type=cifar10", f"data.path={tmp_path / 'nowhere'}"], check=False)
    with pytest.raises(DataError, match="nowhere"):
        run(recipe, tmp_path / "run")
    status = _status(tmp_path / "run")
    assert status["ended"] == "failed"
    assert "nowhere" in status["reason"]


def test_a_retrain_on_all_training_data_watches_nothing(recipe_file, tmp_path):
    overrides = ["search.trainer.max_steps=1", "retrain.trainer.epochs=1", "retrain.valid_fraction=0"]
    done = run(load_recipe(recipe_file, overrides), tmp_path / "run")
    (line,) = _lines(done.folder, "retrain")
    assert not any("valid" in tag for tag in line)
    assert _status(done.folder)["steps"] == {"search": 1, "retrain": 5}


def test_a_search_without_held_out_examples_is_refused_with_what_to_change(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file)
    recipe = replace(recipe, search=replace(recipe.search, valid_fraction=0.0))
    with pytest.raises(DataError, match=r"set search\.valid_fraction above 0"):
        run(recipe, tmp_path / "run")


_SPY = """
import torch
from nasframe.core import Algorithm

class Spy(Algorithm):
    "Notes the examples that weights and alphas learn from."

    seen = {"train": set(), "valid": set()}

    def __init__(self, model, objective):
        pass

    def step(self, train, valid, update_weights):
        for name, batch in (("train", train), ("valid", valid)):
            self.seen[name] |= {tuple(image.flatten().tolist()) for image in batch.inputs}
        return update_weights(train)
"""


def test_alphas_and_weights_learn_from_examples_apart(recipe_file, tmp_path, third_party):
    third_party("spyware", _SPY, algorithms="spy = Spy")
    overrides = ["search.algorithm.type=spy", "search.augment=[]", "search.trainer.epochs=6", "trackers=[]"]
    recipe = load_recipe(recipe_file, [*overrides, "retrain.trainer.max_steps=1"])
    run(recipe, tmp_path / "run")
    seen = registries["algorithms"]["spy"].seen
    # 20 each; an epoch leaves 4 out, others each time
    assert len(seen["train"]) > 16
    assert len(seen["valid"]) > 16
    assert not seen["train"] & seen["valid"]


_TWINS = """
from torch import nn
from nasframe.core import LayerChoice, Space

class Twins(Space):
    "Two layers that are one."

    def __init__(self, task):
        self.task = task

    def build(self, filler):
        size = 3 * 8 * 8
        choice = LayerChoice("layer", ("tanh", "relu"))
        layer = filler.layer(choice, lambda name: {"tanh": nn.Tanh(), "relu": nn.ReLU()}[name])
        shared = nn.Linear(size, size)
        return nn.Sequential(nn.Flatten(), shared, layer, shared, nn.Linear(size, self.task.num_outputs))
"""


def test_a_network_that_shares_parameters_is_saved_and_found_again(recipe_file, tmp_path, third_party):
    third_party("twinning", _TWINS, spaces="twins = Twins")
    overrides = ["space={type: twins}", "~retrain.space", "search.trainer.max_steps=1"]
    done = run(load_recipe(recipe_file, overrides), tmp_path / "run")
    network = done.network().network
    assert network[1] is network[3]
    assert done.metrics["parameters"] == 192 * 192 + 192 + 192 * 3 + 3


def test_the_choices_of_the_space_are_those_that_are_tracked(recipe_file):
    recipe = load_recipe(recipe_file)
    choices = choices_of(recipe.space(recipe.data().task))
    assert {name for name in choices if name.count("_") == 2} == set(EDGES)
