import os
import pickle

import pytest
import torch

from nasframe.core import Checkpoints
from nasframe.errors import FaultWarning, FormatError


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _state(step):
    weight = torch.full((2,), float(step))
    return {"step": step, "model": {"weight": weight}, "optimizer": {"lr": 0.1, "betas": (0.9, 0.99)}}


def test_without_a_checkpoint_there_is_none_and_no_folder_is_made(tmp_path):
    assert Checkpoints(tmp_path / "none").latest() is None
    assert not (tmp_path / "none").exists()


def test_the_newest_state_comes_back_as_it_was(tmp_path):
    checkpoints = Checkpoints(tmp_path / "a" / "b")
    for step in (5, 12):
        checkpoints.save(step, _state(step))
    latest = checkpoints.latest()
    assert latest["step"] == 12
    assert latest["optimizer"] == {"lr": 0.1, "betas": (0.9, 0.99)}
    assert latest["model"]["weight"].tolist() == [12.0, 12.0]


def test_steps_are_ordered_as_numbers(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (9, 10, 99, 100, 1000):
        checkpoints.save(step, _state(step))
        assert checkpoints.latest()["step"] == step


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_ones_are_kept_and_nothing_else_remains(tmp_path, keep):
    checkpoints = Checkpoints(tmp_path)
    for step in range(1, 6):
        checkpoints.save(step, _state(step), keep=keep)
    assert _names(tmp_path) == ["manifest.json", *(f"step-{step:09d}.pt" for step in range(6 - keep, 6))]


def test_a_torn_checkpoint_gives_way_to_the_one_before_it(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, _state(1))
    checkpoints.save(2, _state(2))
    torn = tmp_path / "step-000000002.pt"
    torn.write_bytes(torn.read_bytes()[:100])
    with pytest.warns(
        FaultWarning, match=r"step-000000002\.pt: must have .* got 100; going on from .* step 1"
    ):
        assert checkpoints.latest()["step"] == 1


def test_a_write_that_fails_leaves_the_old_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, _state(1))
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        checkpoints.save(2, {"not data": lambda: None})
    assert checkpoints.latest()["step"] == 1
    checkpoints.save(3, _state(3))
    assert _names(tmp_path) == ["manifest.json", "step-000000001.pt", "step-000000003.pt"]


def test_when_none_can_be_read_it_is_said_of_each(tmp_path):
    for step in (1, 2):
        (tmp_path / f"step-{step:09d}.pt").write_bytes(b"")
    with pytest.raises(FormatError, match="no checkpoint can be read") as error:
        Checkpoints(tmp_path).latest()
    assert "step-000000001.pt" in str(error.value)
    assert "step-000000002.pt" in str(error.value)


def test_a_checkpoint_from_before_tensors_were_packed_is_read(tmp_path):
    state = {"model": {"weight": torch.tensor([1.0, 2.0])}}
    torch.save({"version": 2, "step": 1, "state": state}, tmp_path / "step-000000001.pt")
    latest = Checkpoints(tmp_path).latest()
    assert latest is not None
    assert latest["model"]["weight"].tolist() == [1.0, 2.0]


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path):
    torch.save({"version": 1, "step": 1, "state": {}}, tmp_path / "step-000000001.pt")
    with pytest.raises(FormatError, match=r"step-000000001\.pt: version must be 3, got 1"):
        Checkpoints(tmp_path).latest()


class _Command:
    def __init__(self, command):
        self._command = command

    def __reduce__(self):
        return os.system, (self._command,)


def test_reading_a_checkpoint_runs_no_code(tmp_path):
    witness = tmp_path / "witness"
    content = {"version": 2, "step": 1, "state": _Command(f"touch {witness}")}
    torch.save(content, tmp_path / "step-000000001.pt")
    with pytest.raises(FormatError, match="no checkpoint can be read"):
        Checkpoints(tmp_path).latest()
    assert not witness.exists()


def test_the_best_state_is_that_of_the_lowest_validation_loss_the_newer_of_two_equal_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.best() is None
    for step, loss in enumerate((0.9, 0.4, 0.7, 0.4, 0.6, None), 1):
        checkpoints.save(step, _state(step), keep=1, valid_loss=loss)
    assert checkpoints.best()["step"] == 4
    assert checkpoints.best()["model"]["weight"].tolist() == [4.0, 4.0]


def test_a_step_that_is_saved_again_keeps_the_validation_loss_that_was_measured(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, _state(1), valid_loss=0.3)
    checkpoints.save(1, _state(1))
    checkpoints.save(2, _state(2), keep=1, valid_loss=0.5)
    assert checkpoints.best()["step"] == 1


def test_a_best_state_that_is_damaged_is_refused_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, _state(1), valid_loss=0.3)
    (tmp_path / "step-000000001.pt").write_bytes(b"torn")
    with pytest.raises(FormatError, match=r"step-000000001\.pt: must be the checkpoint of the lowest"):
        checkpoints.best()


@pytest.mark.parametrize("num_gone", range(4))
def test_a_deletion_that_is_cut_off_leaves_what_can_be_read(tmp_path, monkeypatch, num_gone):
    """Whichever files are gone by then: warnings are errors here."""
    checkpoints = Checkpoints(tmp_path / "run")
    for step in (1, 2, 3):
        checkpoints.save(step, _state(step), keep=3)
    removed, unlink = [], os.unlink

    def cut_off(path, *others, **more):
        if len(removed) == num_gone:
            raise KeyboardInterrupt
        removed.append(path)
        unlink(path, *others, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", cut_off)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.delete()
    left = [step for step in (1, 2, 3) if f"step-{step:09}.pt" in _names(tmp_path / "run")]
    assert len(left) == 3 - max(num_gone - 1, 0)  # the manifest first
    assert Checkpoints(tmp_path / "run").latest()["step"] == left[-1]
    checkpoints.delete()
    assert not (tmp_path / "run").exists()
