"""Real runs that are killed at random moments end like runs that nobody killed.

Each time other searches are drawn; `benchmarks/kills.py` by itself takes all of them in turn.
"""

import json
import os
import random
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kills.py"
KILLS = runpy.run_path(str(SCRIPT), run_name="kills")


@pytest.mark.slow
def test_runs_that_are_killed_lose_nothing(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # of the searches and of the moments
    drawn, ways = random.Random(seed), KILLS["ALGORITHMS"]
    by_explorer = [name for name, parts in ways.items() if "explorer:" in parts[-1]]
    by_alphas = [name for name in ways if name not in by_explorer]
    algorithms = [drawn.choice(by_alphas), drawn.choice(by_explorer)]
    command = [
        sys.executable,
        str(SCRIPT),
        "--kills",
        "2",
        "--runs",
        "2",
        "--parts",
        "3",
        "--algorithms",
        *algorithms,
    ]
    command += ["--seed", str(seed), "--out", str(tmp_path)]
    done = subprocess.run(
        command, cwd=SCRIPT.parents[1], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert list(result["by_algorithm"]) == algorithms
    assert (result["seed"], result["lost"]) == (seed, 0)
    assert result["kills"] >= 2  # of both together: how many of each depends on the machine's speed


def test_what_a_kill_would_lose_is_counted(tmp_path, monkeypatch):
    """A run of which a line of metrics is doubled is one that lost something."""
    outcomes = iter([{"lines": [1, 2]}, {"lines": [1, 2]}, {"lines": [1, 1, 2]}])

    def finished(recipe, folder, drawn, seconds, number):
        folder.mkdir()
        (folder / "status.json").write_text('{"ended": "done"}')
        yield {"after": "search:1", "half_written": False}

    soak = KILLS["soak"]
    monkeypatch.setitem(soak.__globals__, "unkilled", lambda recipe, folder: (next(outcomes), 1.0))
    monkeypatch.setitem(soak.__globals__, "killed_run", finished)
    monkeypatch.setitem(soak.__globals__, "outcome", lambda folder: next(outcomes))
    runs = soak(list(KILLS["ALGORITHMS"])[:1], 2, 0, 7, tmp_path, signal.SIGKILL)
    assert [run["lost"] for run in runs] == [[], ["lines"]]
    assert KILLS["summary"](runs, 7)["lost"] == 1
