"""Whatever happens to a checkpoint's file is noticed, told, and the one before it is used."""

import random

import pytest
import torch

from nasframe.core import Checkpoints
from nasframe.errors import FaultWarning, FormatError

SEED = 20


def _state(step):
    return {"step": step, "weights": torch.full((300,), float(step)), "name": "tiny"}


@pytest.fixture
def two(tmp_path):
    """Checkpoints of the steps 1 and 2, and the file of the newest."""
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        assert checkpoints.save(step, _state(step))
    return checkpoints, tmp_path / "step-000000002.pt"


def _check_told(checkpoints, what):
    with pytest.warns(FaultWarning, match=rf"step-000000002\.pt: {what}.*of step 1"):
        assert checkpoints.latest()["step"] == 1


def test_a_truncation_at_any_percent_is_told_and_the_one_before_is_used(two):
    checkpoints, newest = two
    whole = newest.read_bytes()
    for percent in range(100):
        newest.write_bytes(whole[: len(whole) * percent // 100])
        _check_told(checkpoints, rf"must have {len(whole)} bytes")
    newest.write_bytes(whole)
    assert checkpoints.latest()["step"] == 2


def test_a_bit_flipped_anywhere_is_told_and_the_one_before_is_used(two):
    checkpoints, newest = two
    whole, drawn = newest.read_bytes(), random.Random(SEED)
    print(f"seed {SEED}")
    for place in drawn.sample(range(8 * len(whole)), 200):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        newest.write_bytes(flipped)
        _check_told(checkpoints, "damaged")


def test_one_that_is_missing_is_told_and_the_one_before_is_used(two):
    checkpoints, newest = two
    newest.unlink()
    _check_told(checkpoints, "must be there")


def test_a_file_that_the_manifest_does_not_list_was_never_finished(two, tmp_path):
    checkpoints, newest = two
    newest.rename(tmp_path / "step-000000003.pt")
    newest.write_bytes((tmp_path / "step-000000003.pt").read_bytes())
    assert checkpoints.latest()["step"] == 2
    checkpoints.save(4, _state(4))
    assert not (tmp_path / "step-000000003.pt").exists()


def test_one_of_the_same_step_that_is_cut_short_leaves_the_one_that_is_there(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, {**_state(2), "name": "old"}, keep=1)
    (tmp_path / "manifest.json.partial").mkdir()  # the state is written, what lists it cannot be
    with pytest.warns(FaultWarning, match="checkpoint of step 2 is not there"):
        assert not checkpoints.save(2, {**_state(2), "name": "new"}, keep=1)
    assert checkpoints.latest()["name"] == "old"
    (tmp_path / "manifest.json.partial").rmdir()
    for name in ("new", "newer", "newest"):
        assert checkpoints.save(2, {**_state(2), "name": name}, keep=1)
        assert checkpoints.latest()["name"] == name
        assert len(list(tmp_path.glob("*.pt"))) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 9, "checkpoints": {}}', '{"version": 1}'])
def test_a_damaged_manifest_is_told_and_the_files_are_still_read(two, tmp_path, text):
    checkpoints, _ = two
    (tmp_path / "manifest.json").write_text(text)
    with pytest.warns(FaultWarning, match=r"manifest\.json: cannot be read"):
        assert checkpoints.latest()["step"] == 2


def test_without_a_manifest_files_of_earlier_versions_are_read(two, tmp_path):
    checkpoints, _ = two
    (tmp_path / "manifest.json").unlink()
    assert checkpoints.latest()["step"] == 2


def test_when_all_are_damaged_nothing_is_begun_anew(two, tmp_path):
    checkpoints, _ = two
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"no checkpoint can be read: .*000002\.pt: .*000001\.pt: "):
        checkpoints.latest()


def test_the_best_one_is_kept_besides_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    losses = {1: 0.9, 2: 0.4, 3: None, 4: 0.6, 5: float("nan"), 6: 0.7}
    for step, loss in losses.items():
        checkpoints.save(step, _state(step), keep=2, valid_loss=loss)
    kept = sorted(int(path.stem.removeprefix("step-")) for path in tmp_path.glob("*.pt"))
    assert kept == [2, 5, 6]
    assert checkpoints.latest()["step"] == 6


def test_on_a_full_disk_the_old_one_stays_and_the_next_is_written_when_there_is_room(small_disk):
    checkpoints = Checkpoints(small_disk / "checkpoints")
    assert checkpoints.save(1, _state(1))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(900_000))
    large = {**_state(3), "more": torch.zeros(60_000)}
    with pytest.warns(FaultWarning, match="No space left on device; the checkpoint of step 2 is not there"):
        assert not checkpoints.save(2, large)
    assert not list(small_disk.rglob("*.partial"))
    assert checkpoints.latest()["step"] == 1
    filler.unlink()
    assert checkpoints.save(3, large)
    assert checkpoints.latest()["step"] == 3


def test_in_a_folder_that_refuses_it_is_told_that_none_is_there(refusing_folder):
    with pytest.warns(FaultWarning, match="must be writable, but Operation not permitted"):
        assert not Checkpoints(refusing_folder / "checkpoints").save(1, _state(1))
