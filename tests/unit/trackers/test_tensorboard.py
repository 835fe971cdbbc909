import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nasframe.core import Graph, Record
from nasframe.trackers.tensorboard import TensorBoard

CELL = Graph("normal cell", ("in", "0", "out"), (("in", "0", "skip_connect"), ("0", "out", "")))


def _record(step, offset=0.0):
    return Record(
        step,
        {"search/train_loss": step + offset, "alphas/normal_2_0/skip_connect": 0.5},
        {"alphas/normal_2_0": torch.tensor([0.25, 0.5, step + offset])},
        {"genotype/normal": CELL},
    )


def _write(directory, start, steps, offset=0.0):
    tracker = TensorBoard(directory, start)
    for step in steps:
        tracker.log(_record(step, offset))
    tracker.close()


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
