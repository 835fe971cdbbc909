import hashlib
import json
import os
import platform
import re
import subprocess

import pytest
import torch

import nasframe
from nasframe.core import Prices
from nasframe.errors import FormatError
from nasframe.recipe.run_directory import RunDirectory, is_free, no_run

TEXT = "name: tiny\n"


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_run_holds_its_recipe_its_environment_and_its_status(tmp_path):
    directory = RunDirectory.create(tmp_path / "a" / "run", "tiny", TEXT, "cpu")
    assert directory.root == tmp_path / "a" / "run"
    assert _names(directory.root) == ["environment.json", "recipe.yaml", "status.json"]
    assert directory.recipe.read_text() == TEXT
    status = directory.status()
    assert (status["ended"], status["finished"], status["seconds"]) == ("running", [], {})


def test_the_environment_says_what_made_the_run(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    environment = json.loads(directory.environment.read_text())
    assert environment["nasframe"] == nasframe.__version__
    assert environment["torch"] == torch.__version__
    assert environment["python"] == platform.python_version()
    assert environment["threads"] == torch.get_num_threads()
    assert isinstance(environment["command"], list)
    assert "git" in environment
    assert "accelerator" in environment
    assert environment["device"] == "cpu"


def test_the_environment_says_how_many_threads_the_recipe_takes_and_how_memory_is_allocated(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    directory = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu", 1 + torch.get_num_threads())
    environment = json.loads(directory.environment.read_text())
    assert environment["threads"] == 1 + torch.get_num_threads()
    assert environment["allocator"]["MALLOC_ARENA_MAX"] == "2"


def test_by_default_a_run_is_named_by_recipe_time_and_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = RunDirectory.create(None, "tiny", TEXT, "cpu").root
    assert root.parent == tmp_path / "runs" / "tiny"
    digest = hashlib.sha256(TEXT.encode()).hexdigest()[:8]
    assert re.fullmatch(rf"\d{{8}}-\d{{6}}-{digest}", root.name)


def test_outside_of_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.fspath(tmp_path.parent))
    directory = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    assert json.loads(directory.environment.read_text())["git"] is None


def test_an_empty_folder_is_as_good_as_a_new_one(tmp_path):
    (tmp_path / "run").mkdir()
    assert RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu").recipe.exists()


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "other.txt").write_text("mine")
    with pytest.raises(FormatError, match="must be a new or empty folder, but holds something"):
        RunDirectory.create(tmp_path, "tiny", TEXT, "cpu")
    assert _names(tmp_path) == ["other.txt"]


def test_a_run_that_ended_before_it_trained_anything_gives_its_folder_to_the_next(tmp_path):
    first = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    assert not is_free(tmp_path / "run")  # it runs
    first.prices(lambda: Prices(1.0))
    first.update_status(ended="failed", reason="no such image", health={"verdict": "old"})
    assert is_free(tmp_path / "run")
    second = RunDirectory.create(tmp_path / "run", "tiny", f"{TEXT}# other", "cpu")
    assert second.recipe.read_text() == f"{TEXT}# other"
    assert (second.known_prices(), second.status()["ended"]) == (None, "running")
    assert {"reason", "health"}.isdisjoint(second.status())


@pytest.mark.parametrize("kept", ["a step", "a record", "a file of the user's", "a link", "a checkpoint"])
def test_a_folder_of_a_run_that_left_something_is_refused_and_left_alone(tmp_path, kept):
    directory = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    steps, records = {"search": 1 if kept == "a step" else 0}, {"search": 1} if kept == "a record" else {}
    directory.update_status(ended="failed", steps=steps, records=records)
    if kept == "a file of the user's":
        (directory.stage("notes") / "metrics.jsonl").write_text("mine")
    if kept == "a link":  # to a file of a name that a run overwrites
        (tmp_path / "metrics.jsonl").write_text("mine")
        (directory.stage("search") / "metrics.jsonl").symlink_to(tmp_path / "metrics.jsonl")
    if kept == "a checkpoint":
        (directory.stage("search") / "checkpoints").mkdir()
        (directory.stage("search") / "checkpoints" / "step-000000000.pt").write_bytes(b"")
    before = _names(directory.root)
    with pytest.raises(FormatError, match="must be a new or empty folder"):
        RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    assert _names(directory.root) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FormatError, match="must be a new or empty folder, but is a file; choose"):
        RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")


def test_changes_of_the_status_add_up_and_leave_no_partial_file(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    directory.update_status(stage="search")
    directory.update_status(ended="failed", reason="why")
    status = RunDirectory.open(tmp_path / "run").status()
    assert (status["stage"], status["ended"], status["reason"]) == ("search", "failed", "why")
    assert _names(directory.root) == ["environment.json", "recipe.yaml", "status.json"]


def test_a_folder_of_runs_is_asked_for_the_newest_one_that_serves(tmp_path):
    for age, name in enumerate(("tiny/new", "tiny/old", "other")):
        directory = RunDirectory.create(tmp_path / "runs" / name, "tiny", TEXT, "cpu")
        os.utime(directory.recipe, (1e9 - age, 1e9 - age))
    newest = tmp_path / "runs" / "tiny" / "new"
    with pytest.raises(FormatError, match=rf"did you mean `{newest}`, one of 3 runs in it"):
        RunDirectory.open(tmp_path / "runs")
    finished = tmp_path / "runs" / "other"
    (finished / "report.json").write_text("{}")
    assert f"did you mean `{finished}`" in no_run(tmp_path / "runs")
    assert f"did you mean `{newest}`" in no_run(tmp_path / "runs", finished=False)
    with pytest.raises(FormatError, match=rf"there is nothing at .*; did you mean `{newest}`"):
        RunDirectory.open(tmp_path / "runs" / "tiny" / "news")


def test_a_folder_without_a_recipe_is_not_a_run(tmp_path):
    with pytest.raises(FormatError, match=r"must be a run directory, but has no recipe\.yaml"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize("status", [None, "{}", '{"version": 2}'])
def test_a_run_of_another_version_is_refused(tmp_path, status):
    directory = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    path = directory.root / "status.json"
    path.unlink() if status is None else path.write_text(status)
    with pytest.raises(FormatError, match=r"status\.json: version must be 1, got"):
        RunDirectory.open(directory.root)


def test_a_status_that_is_no_json_is_refused_by_name(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    (directory.root / "status.json").write_text('{"version"')
    with pytest.raises(FormatError, match=r"status\.json: must be JSON"):
        RunDirectory.open(directory.root)


def test_files_lie_where_they_are_documented(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    paths = [directory.genotype, directory.weights, directory.report, directory.export]
    assert [str(path.relative_to(directory.root)) for path in paths] == [
        "search/genotype.json", "retrain/model.safetensors", "report.json", "export"
    ]  # fmt: skip
    directory.checkpoints("search").save(1, {})
    assert _names(directory.root / "search") == ["checkpoints"]


def test_a_run_directory_whose_links_lead_out_of_it_is_refused(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    run.stage("search")
    (tmp_path / "mine").write_text("mine")
    (run.root / "inside").symlink_to(run.root / "search")
    RunDirectory.open(run.root)
    for name in ("report.json", "search/partial"):
        (run.root / name).symlink_to(tmp_path / "mine")
        with pytest.raises(FormatError, match=f"{name}: must not be a link out of the run directory"):
            RunDirectory.open(run.root)
        (run.root / name).unlink()
    (tmp_path / "linked").symlink_to(run.root)
    assert RunDirectory.open(tmp_path / "linked").root == run.root


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"version": 1, "version": 1}', "a key occurs twice"),
        ('{"version": NaN}', "NaN is no number"),
        ("[" * 10**6, "nests too deep"),
        ("[1]", "must be an object"),
    ],
)
def test_a_status_from_elsewhere_is_read_within_bounds(tmp_path, text, said):
    run = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    (run.root / "status.json").write_text(text)
    with pytest.raises(FormatError, match=said):
        RunDirectory.open(run.root)


def test_no_program_that_a_folder_names_runs_when_git_is_asked(tmp_path, monkeypatch):
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "file").touch()
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "x"],
        ["config", "core.fsmonitor", str(hook)],
    ):
        subprocess.run([*git, *command], cwd=repository, check=True, capture_output=True)
    monkeypatch.chdir(repository)
    run = RunDirectory.create(tmp_path / "run", "tiny", TEXT, "cpu")
    assert json.loads(run.environment.read_text())["git"]
    assert not (tmp_path / "ran").exists()
