"""What is done with a finished run."""

import json
import runpy
from pathlib import Path

import pytest
import torch

import nasframe
from nasframe.cli import main
from nasframe.recipe import open_run

RECIPE = """
name: tiny
data: {type: synthetic, num_train: 40, num_test: 12, num_classes: 3, height: 8, width: 8}
space: {type: darts, channels: 2, cells: 3, nodes: 1, operations: [none, skip_connect, sep_conv_3x3]}
trackers: []
search:
  algorithm: darts_bilevel
  mixed_op: softmax
  trainer: {epochs: 1, batch_size: 8, max_steps: 2}
retrain:
  trainer: {epochs: 1, batch_size: 8, max_steps: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    (root / "tiny.yaml").write_text(RECIPE)
    return nasframe.run(nasframe.load_recipe(root / "tiny.yaml", check=False), root / "run").folder


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code, *capsys.readouterr()


def test_the_retrained_network_is_written_in_the_format_that_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "model.py"
    arguments = ["--format", "source", "--out", str(path.parent), "--json"]
    code, out, _ = told(capsys, "export", str(folder), *arguments)
    (told_of,) = json.loads(out)
    assert (code, told_of["path"], told_of["num_examples"]) == (0, str(path), 8)
    assert 0 <= told_of["max_difference"] < 1e-5
    inputs = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        expected = open_run(folder).network()(inputs)
        module = runpy.run_path(str(path))
        torch.testing.assert_close(module["load"]()(inputs), expected)
    assert module["CLASSES"] == ("pattern 0", "pattern 1", "pattern 2")


def test_a_file_goes_into_the_run_directory_where_nothing_else_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = told(capsys, "export", str(folder), "--format", "source")
    noted = json.loads((folder / "export" / "checks.json").read_text())["model.py"]["max_difference"]
    told_of = f"  off by {noted:.2g} at most, on 8 test examples\n"
    assert (code, out) == (0, f"{folder}/export/model.py\n{told_of}")
    assert noted < 1e-5
    written = {path.name for path in (folder / "export").iterdir()}
    assert written == {"model.py", "model.safetensors", "checks.json"}


def test_what_cannot_be_exported_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = told(capsys, "export", str(folder), "--format", "onx")
    assert code == 2
    assert "onx" in err
    assert "`onnx`" in err
    code, _, err = told(capsys, "export", str(tmp_path), "--format", "onnx")
    assert code == 1
    assert "must be a run directory" in err
