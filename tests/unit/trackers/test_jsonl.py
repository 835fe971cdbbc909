import json

import pytest
import torch

from nasframe.core import Record
from nasframe.errors import FormatError
from nasframe.trackers.jsonl import Jsonl


def _lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def _write(directory, start, steps):
    tracker = Jsonl(directory, start)
    for step in steps:
        tracker.log(Record(step, {"search/train_loss": step / 10}))
    tracker.close()


def test_a_record_is_one_line_of_its_scalars_and_can_be_read_at_once(tmp_path):
    tracker = Jsonl(tmp_path / "search", 1)
    tracker.log(Record(1, {"search/lr": 0.025, "search/valid_loss": torch.tensor(0.5)}, {"x": torch.ones(3)}))
    assert _lines(tmp_path / "search") == [{"step": 1, "search/lr": 0.025, "search/valid_loss": 0.5}]
    tracker.close()


@pytest.mark.parametrize("start", [1, 3, 6])
def test_after_a_resume_nothing_is_there_twice_and_nothing_is_missing(tmp_path, start):
    _write(tmp_path, 1, range(1, 6))
    _write(tmp_path, start, range(start, 8))
    assert [line["step"] for line in _lines(tmp_path)] == list(range(1, 8))


def test_a_line_that_was_torn_off_is_dropped(tmp_path):
    _write(tmp_path, 1, range(1, 4))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "search/tr')
    _write(tmp_path, 4, [4])
    assert [line["step"] for line in _lines(tmp_path)] == [1, 2, 3, 4]


def test_a_number_that_is_not_finite_is_null(tmp_path):
    tracker = Jsonl(tmp_path, 1)
    tracker.log(Record(1, {"a": float("nan"), "b": float("inf"), "c": 1.0}))
    tracker.close()
    assert _lines(tmp_path) == [{"step": 1, "a": None, "b": None, "c": 1.0}]


@pytest.mark.parametrize("line", ["no json", '["a list"]', '{"loss": 1}', '{"step": "one"}', ""])
def test_a_foreign_line_is_refused_and_named_and_the_file_stays(tmp_path, line):
    text = f'{{"step": 1}}\n{line}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(FormatError, match=r"metrics\.jsonl:2: must be"):
        Jsonl(tmp_path, 2)
    assert (tmp_path / "metrics.jsonl").read_text() == text


@pytest.mark.parametrize(
    "line", [b'{"step": 1, "a": "\xf3"}', b'{"step": NaN}', b'{"step": 1, "step": 2}', b"[" * 10**5]
)
def test_a_line_that_is_no_bounded_json_is_refused_and_the_file_stays(tmp_path, line):
    content = b'{"step": 1}\n' + line + b"\n"
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(FormatError, match=r"metrics\.jsonl:2: must be JSON"):
        Jsonl(tmp_path, 2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == content


def test_what_was_torn_within_a_character_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2, "\xc3')
    _write(tmp_path, 2, [2])
    assert [line["step"] for line in _lines(tmp_path)] == [1, 2]
