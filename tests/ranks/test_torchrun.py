"""Real processes, started by torchrun: one is killed, all are started again, and nothing is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

from nasframe.recipe import open_run

ROOT = Path(__file__).parents[2]
RECIPE = """
name: killed
device: cpu
threads: 1
data: {type: synthetic, num_train: 32, num_test: 8, num_classes: 3, height: 8, width: 8}
space: {type: nas_bench_201, channels: 2, cells: 1, operations: [skip_connect, nor_conv_1x1]}
search:
  augment: [dying]
  trainer: {epochs: 2, batch_size: 8, checkpoint_steps: 1}
retrain:
  trainer: {epochs: 1, batch_size: 8}
trackers: [jsonl]
"""
PLUGIN = """
import os, signal
from nasframe.core import Augmentation, Batch, augmentations

@augmentations.register("dying")
class Dying(Augmentation):
    '''Kills the second rank at its fourth batch, once.'''

    def __init__(self) -> None:
        self._batches = 0

    def __call__(self, batch, generator):
        self._batches += 1
        if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"], self._batches) == ("1", "0", 4):
            open("killed", "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return batch
"""


def test_a_run_goes_on_after_one_of_its_ranks_was_killed(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "dying.py").write_text(PLUGIN)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    command = ["nasframe", "run", "recipe.yaml", "--plugin", "dying.py", "--out", "run", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", *command],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()  # the other rank says so, or is ended by torchrun before it can
    assert json.loads(done.stdout)["metrics"] == open_run(tmp_path / "run").metrics
    lines = (tmp_path / "run" / "search" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    steps = [line.partition(",")[0] for line in done.stderr.splitlines() if line.startswith("search: step")]
    assert steps.count("search: step 2/4") == 1, "the first epoch is not made again"
    assert steps[-1] == "search: step 4/4"
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["ended"], status["steps"]["search"]) == ("done", 4)
