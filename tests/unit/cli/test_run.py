"""What a run ends with on the terminal."""

import pytest

from nasframe.cli.run import _resumable
from nasframe.errors import StorageError
from nasframe.recipe.run_directory import RunDirectory


@pytest.mark.parametrize("num_steps", [0, 3])
def test_a_run_that_a_full_disk_ends_is_told_how_to_go_on_if_it_has_done_something(tmp_path, num_steps):
    def fail() -> None:
        with _resumable(tmp_path, ["own.py"]):
            directory = RunDirectory.create(tmp_path / "now", "tiny", "name: tiny", "cpu")
            directory.update_status(ended="failed", steps={"search": num_steps})
            raise StorageError("the disk is full")

    with pytest.raises(StorageError) as caught:
        fail()
    told = f"go on with: nasframe resume {tmp_path / 'now'} --plugin own.py"
    notes = getattr(caught.value, "__notes__", [])
    assert any(told in note for note in notes) is (num_steps > 0)
