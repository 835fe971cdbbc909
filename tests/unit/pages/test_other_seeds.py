"""How much hangs on the seed is told by the runs of the same recipe that lie beside a run."""

import json

import pytest

from nasframe.pages.other_seeds import told_of_seeds


def _run(folder, seed, kept, accuracy, *, epochs=3, finished=True):
    folder.mkdir(parents=True)
    recipe = f"name: mine\nsearch:\n  seed: 7\nseed: {seed}\nretrain:\n  epochs: {epochs}\n"
    (folder / "recipe.yaml").write_text(recipe)
    choices = dict(zip("abc", ([each] for each in kept), strict=True))
    report = {"genotype": {"choices": choices}, "metrics": {"test_accuracy": accuracy}}
    if finished:
        (folder / "report.json").write_text(json.dumps(report))
    return report


@pytest.mark.parametrize("place", ["{}", "{}/run"], ids=["a folder of runs", "trials of a study"])
def test_finished_runs_of_the_same_recipe_with_other_seeds_are_told(tmp_path, place):
    here = _run(tmp_path / place.format("x"), 1, "pqr", 0.75)
    _run(tmp_path / place.format("above"), 2, "psr", 0.875)
    _run(tmp_path / place.format("below"), 0, "stu", 0.5)
    _run(tmp_path / place.format("other"), 3, "pqr", 0.75, epochs=4)  # another recipe
    _run(tmp_path / place.format("ended"), 4, "pqr", 0.75, finished=False)
    (tmp_path / "something else").mkdir()
    assert told_of_seeds(tmp_path / place.format("x"), here, "test_accuracy") == (
        "How much hangs on the seed: with seed 0 0 of 3 choices are decided as here, test accuracy 50.00%; "
        "with seed 2 2 of 3 choices are decided as here, test accuracy 87.50%."
    )


def test_a_run_without_others_is_not_told_of_any(tmp_path):
    here = _run(tmp_path / "x", 1, "pqr", 0.75)
    _run(tmp_path / "again", 1, "pqs", 0.75)  # the same seed says nothing of another one
    assert told_of_seeds(tmp_path / "x", here, "test_accuracy") == ""
    assert told_of_seeds(tmp_path, here, "test_accuracy") == ""


def test_ten_seeds_at_most_are_told_and_they_are_the_nearest(tmp_path):
    here = _run(tmp_path / "20", 20, "pqr", 0.75)
    for seed in (*range(8), *range(21, 28)):
        _run(tmp_path / str(seed), seed, "pqr", 0.75)
    told = told_of_seeds(tmp_path / "20", here, None)
    assert [int(part.split()[0]) for part in told.split("with seed ")[1:]] == [5, 6, 7, *range(21, 28)]
