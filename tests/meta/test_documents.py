"""What the documents say runs, and what they name exists."""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from nasframe.cli import main

ROOT = Path(__file__).parents[2]


def code_blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


def test_every_test_that_the_list_of_faults_names_exists():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/faults.md").read_text(encoding="utf-8")))
    defined = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named
    assert named <= defined


@pytest.mark.slow
def test_the_algorithm_of_the_readme_runs_as_a_plugin(tmp_path):
    plugin, _ = code_blocks("README.md", "python")
    (tmp_path / "single_level.py").write_text(plugin, encoding="utf-8")
    command = next(block for block in code_blocks("README.md", "sh") if "--plugin" in block).split()
    tiny = [
        "space.channels=4", "space.nodes=2", "search.trainer.max_steps=2", "retrain.trainer.max_steps=2",
        "retrain.space.channels=4",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", *command, *tiny, "--out", "run"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert "single_level" in (tmp_path / "run" / "recipe.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path):
    _, code = code_blocks("README.md", "python")
    assert code.count("trainer.epochs=1") == 2
    code = code.replace("trainer.epochs=1", "trainer.max_steps=2")  # an epoch takes long
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(network)"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Genotype(normal=")
    assert "Linear" in done.stdout


def test_the_readme_prints_what_validate_prints(tmp_path, monkeypatch, capsys):
    (shown,) = re.findall(r"```\n\$ (nasframe validate .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    command, printed = shown.split("\n", 1)
    (tmp_path / "my.yaml").write_text(
        "name: my_search\ndata: digit\nspace: {type: darts, chanels: 8}\n"
        "search:\n  algorithm: {type: darts_bilevel, order: 3}\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(command.split()[1:])
    assert (ended.value.code, capsys.readouterr().err) == (2, printed)


def test_the_recipe_of_the_readme_is_valid(tmp_path):
    import nasframe

    (recipe,) = code_blocks("README.md", "yaml")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.replace("~/data/cifar10", str(tmp_path)), encoding="utf-8")
    assert nasframe.load_recipe(path).space.settings["channels"] == 16


def test_the_committed_comparisons_are_at_least_the_median_of_random_architectures():
    (path,) = (ROOT / "benchmarks/results").glob("*_against_random.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert len(result["random"]) >= 8
    median = statistics.median(run["test_accuracy"] for run in result["random"])
    assert all(run["test_accuracy"] >= median for run in result["searched"].values())


def test_the_renaming_of_the_promise_works(tmp_path, monkeypatch, capsys):
    (code,) = code_blocks("docs/stability.md", "python")
    (tmp_path / "slope.py").write_text(code, encoding="utf-8")
    schedule = "search.trainer.schedule={type: ramp, rate: 2}"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["config", "digits_darts", schedule, "--plugin", "slope.py"])
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert "type: slope" in said.out
    assert "speed: 2.0" in said.out
    assert said.err.count("warning: command line: search.trainer.schedule") == 2


def test_the_sizes_of_the_page_on_scaling_are_those_that_were_counted():
    sizes = json.loads((ROOT / "benchmarks/results/scaling.json").read_text(encoding="utf-8"))["sizes"]
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| ([\d,]+) \| (\d+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert sorted(rows) == sorted(
        (f"{size['weights']:,}", str(size["alphas"]), f"{size['gflop_per_image']:.1f}")
        for size in sizes.values()
    )
