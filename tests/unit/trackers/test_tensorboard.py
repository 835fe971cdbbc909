import io
import json
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import TENSORS
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context as HParamsContext

from nasframe.core import Conclusion, Graph, HeatMap, Record
from nasframe.trackers.tensorboard import TensorBoard

with warnings.catch_warnings():  # of what TensorBoard brings with it
    warnings.simplefilter("ignore", DeprecationWarning)
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin

CELL = Graph("normal cell", ("in", "0", "out"), (("in", "0", "skip_connect"), ("0", "out", "")))


def _record(step, offset=0.0):
    return Record(
        step,
        {"search/train_loss": step + offset, "alphas/normal_2_0/skip_connect": 0.5},
        {"alphas/normal_2_0": torch.tensor([0.25, 0.5, step + offset])},
        {"genotype/normal": CELL},
    )


def _write(directory, start, steps, offset=0.0):
    tracker = TensorBoard(directory, start, pictures_every=1)
    for step in steps:
        tracker.log(_record(step, offset))
    tracker.close()


def _weights(step):
    """A record of a choice with two candidates; the second is pruned from step 3 on."""
    names = ("skip_connect", "none") if step < 3 else ("skip_connect",)
    scalars = {f"alphas/normal_2_0/{name}": index + step / 8 for index, name in enumerate(names)}
    return Record(step, scalars, {"alphas/normal_2_0": torch.tensor(list(scalars.values()))})


def _served(directory):
    """What TensorBoard's own server would read."""
    multiplexer = EventMultiplexer(size_guidance={TENSORS: 0}).AddRunsFromDirectory(str(directory))
    multiplexer.Reload()
    return TBContext(
        data_provider=MultiplexerDataProvider(multiplexer, str(directory)), logdir=str(directory)
    )


def _read(directory):
    events = EventAccumulator(
        str(directory / "tensorboard"), size_guidance={"scalars": 0, "histograms": 0, "images": 0}
    )
    events.Reload()
    return events


def test_scalars_histograms_and_graphs_are_read_back_by_their_tags(tmp_path):
    _write(tmp_path, 1, [1, 2])
    events = _read(tmp_path)
    assert set(events.Tags()["scalars"]) == {"search/train_loss", "alphas/normal_2_0/skip_connect"}
    assert [(each.step, each.value) for each in events.Scalars("search/train_loss")] == [(1, 1.0), (2, 2.0)]
    (_, second) = events.Histograms("alphas/normal_2_0")
    assert second.histogram_value.num == 3
    assert second.histogram_value.sum == 2.75
    image = events.Images("genotype/normal")[0]
    assert image.width > 100
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_a_record_can_be_read_as_soon_as_it_is_logged(tmp_path):
    tracker = TensorBoard(tmp_path, 1)
    tracker.log(_record(1))
    assert [each.step for each in _read(tmp_path).Scalars("search/train_loss")] == [1]
    tracker.close()


@pytest.mark.parametrize("start", [1, 3, 5])
def test_after_a_resume_nothing_is_there_twice_and_nothing_is_missing(tmp_path, start):
    _write(tmp_path, 1, range(1, 5))
    _write(tmp_path, start, range(start, 7), offset=0.25)
    events = _read(tmp_path)
    expected = [(step, step + (0.25 if step >= start else 0)) for step in range(1, 7)]
    assert [(each.step, each.value) for each in events.Scalars("search/train_loss")] == expected
    assert [each.step for each in events.Histograms("alphas/normal_2_0")] == list(range(1, 7))
    assert [each.step for each in events.Images("genotype/normal")] == list(range(1, 7))


def test_a_histogram_is_of_the_finite_values_and_left_out_without_any(tmp_path):
    tracker = TensorBoard(tmp_path, 1)
    nan = float("nan")
    tracker.log(Record(1, histograms={"some": torch.tensor([1.0, nan]), "none": torch.tensor([nan, nan])}))
    tracker.close()
    events = _read(tmp_path)
    assert events.Tags()["histograms"] == ["some"]
    assert events.Histograms("some")[0].histogram_value.num == 1


def test_writers_of_the_same_second_are_read_in_their_order(tmp_path):
    for index in range(9):  # names of one second end in a count, which sorts 10 before 9
        TensorBoard(tmp_path / f"other-{index}", 1).close()
    for start, stop in [(1, 5), (3, 7)]:
        tracker = TensorBoard(tmp_path, start)
        for step in range(start, stop):
            tracker.log(Record(step, {"value": float(step)}))
        tracker.close()
    assert [event.step for event in _read(tmp_path).Scalars("value")] == [1, 2, 3, 4, 5, 6]


def test_pictures_are_drawn_at_the_first_step_then_every_so_many_and_at_the_last(tmp_path):
    tracker = TensorBoard(tmp_path, 1, pictures_every=3)
    for step in range(1, 9):
        tracker.log(Record(step, graphs={"genotype/normal": CELL} if step < 7 else {}, is_last=step == 8))
    tracker.close()
    # nothing new was to be drawn after step 6
    assert [each.step for each in _read(tmp_path).Images("genotype/normal")] == [1, 3, 6]
    tracker = TensorBoard(tmp_path / "other", 1, pictures_every=3)
    for step in range(1, 6):
        tracker.log(Record(step, graphs={"genotype/normal": CELL}, is_last=step == 5))
    tracker.close()
    assert [each.step for each in _read(tmp_path / "other").Images("genotype/normal")] == [1, 3, 5]


def test_a_heat_map_shows_all_epochs_after_a_resume_as_well(tmp_path):
    for name, starts in {"whole": [(1, 7)], "resumed": [(1, 5), (4, 7)]}.items():
        for start, stop in starts:
            tracker = TensorBoard(tmp_path / name, start, pictures_every=2)
            for step in range(start, stop):
                tracker.log(_weights(step))
            tracker.close()
    whole, resumed = (_read(tmp_path / name).Images("heat_maps/normal_2_0") for name in ("whole", "resumed"))
    assert [each.step for each in whole] == [1, 2, 4, 6]
    assert [(each.step, each.encoded_image_string) for each in resumed] == [
        (each.step, each.encoded_image_string) for each in whole
    ]


def test_images_are_shown_in_rows_of_eight_as_large_as_eyes_need_them(tmp_path):
    images = torch.zeros(10, 3, 8, 16)
    images[9, 1] = 1.0
    tracker = TensorBoard(tmp_path, 1)
    tracker.log(Record(1, images={"search/inputs": images}))
    tracker.close()
    (shown,) = _read(tmp_path).Images("search/inputs")
    pixels = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)))
    assert pixels.shape == (2 * 64 + 2, 8 * 128 + 7 * 2, 3)
    is_green = (pixels == (0, 255, 0)).all(-1)
    assert is_green.sum() == 64 * 128
    assert is_green[66:, 130:258].all()


def test_the_board_opens_with_a_chart_for_what_belongs_together(tmp_path):
    tracker = TensorBoard(tmp_path, 1)
    tags = [
        "search/lr",
        "search/train_loss",
        "search/valid_loss",
        "alphas/a/x",
        "alphas/a/y",
        "alphas/entropy",
    ]
    tracker.log(Record(1, dict.fromkeys(tags, 1.0)))
    tracker.log(Record(2, {**dict.fromkeys(tags, 1.0), "health/skips/normal": 0.0}))
    tracker.close()
    tracker = TensorBoard(tmp_path, 3)  # which knows of the tags before
    tracker.log(Record(3, {"search/lr": 1.0}))
    tracker.close()
    layout = json.loads(CustomScalarsPlugin(_served(tmp_path)).layout_impl(RequestContext(), ""))
    charts = {
        category["title"]: {chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]}
        for category in layout["category"]
    }
    assert {name: list(each) for name, each in charts.items()} == {
        "search": ["loss", "lr"], "alphas": ["entropy", "a"], "health": ["skips"],
    }  # fmt: skip
    matched = [tag for tag in tags if any(re.match(each, tag) for each in charts["search"]["loss"])]
    assert matched == ["search/train_loss", "search/valid_loss"]


@pytest.mark.parametrize("stages", [("search", "retrain/seed_1", "retrain"), ("retrain",)])
def test_a_search_comes_before_what_follows_it_though_folders_are_read_by_their_names(tmp_path, stages):
    for stage in stages:
        tags = ["search/lr", "alphas/entropy"] if stage == "search" else ["retrain/lr"]
        tracker = TensorBoard(tmp_path / stage, 1)
        tracker.log(Record(1, dict.fromkeys(tags, 1.0)))
        tracker.close()
    layout = json.loads(CustomScalarsPlugin(_served(tmp_path)).layout_impl(RequestContext(), ""))
    shown = [category["title"] for category in layout["category"] if category["chart"]]
    assert shown == (["search", "retrain", "alphas"] if "search" in stages else ["retrain"])
    assert len(shown) == len(layout["category"])  # no category is empty


def _conclude(tracker, seed, accuracy):
    settings = {"seed": seed, "data.type": "digits", "deterministic": True}
    matrix = HeatMap("test", ("a", "b"), ("a", "b"), np.eye(2))
    tracker.conclude(Conclusion(settings, {"test_accuracy": accuracy}, {"confusion/test": matrix}, "healthy"))
    tracker.close()


def test_runs_compare_by_their_settings_and_final_figures(tmp_path):
    for seed in (3, 4):
        tracker = TensorBoard(tmp_path / str(seed), 1)
        tracker.log(_record(1))
        tracker.log(_record(2))
        _conclude(tracker, seed, 0.5)
    _conclude(TensorBoard(tmp_path / "3", 3), 3, 0.25)  # it was stopped before it was done, and resumed
    events = _read(tmp_path / "3")
    assert [(each.step, each.value) for each in events.Scalars("result/test_accuracy")] == [(3, 0.25)]
    assert [each.step for each in events.Images("confusion/test")] == [3]
    context = HParamsContext(_served(tmp_path))
    metadata = context.hparams_metadata(RequestContext(), "")
    found = context.experiment_from_metadata(RequestContext(), "", True, metadata, None)
    assert [each.name for each in found.hparam_infos if each.differs] == ["seed"]
    assert {each.name for each in found.hparam_infos} == {"seed", "data.type", "deterministic"}
    assert "result/test_accuracy" in {each.name.tag for each in found.metric_infos}
    last = context.read_last_scalars(RequestContext(), "", None)
    found_by_run = {run: tags["result/test_accuracy"].value for run, tags in last.items()}
    assert found_by_run == {"3/tensorboard": 0.25, "4/tensorboard": 0.5}
