"""A rank whose fellow is gone says so, wherever it waits for it.

One process starts two ranks; when both have met, one of them goes.
"""

import subprocess
import sys
from pathlib import Path

RANKS = """
import os
import sys
import time
from pathlib import Path

import torch
from torch import distributed

from nasframe.core.ranks import averaged, gathered, on_any, shared, total
from nasframe.errors import RankError

folder = Path(sys.argv[1])
number = 0 if os.fork() else 1
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
assert on_any(number == 1)
if number == 1:
    while not (folder / "met").exists():
        time.sleep(0.01)
    os._exit(0)
(folder / "met").touch()
os.wait()
for meet in (
    lambda: on_any(False),
    lambda: averaged([torch.ones(2)]),
    lambda: gathered(1),
    lambda: shared(lambda: 1),
    lambda: total(torch.ones(2)),
):
    try:
        meet()
    except RankError as error:
        print(error, flush=True)
os._exit(0)  # without a word to the other rank
"""


def test_a_rank_says_that_the_other_one_is_gone_wherever_they_meet(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RANKS, tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    told = ended.stdout.splitlines()
    assert len(told) == 5, ended.stderr
    for each in told:
        assert each.startswith("rank 0: all 2 ranks must take part to the end, but one is gone or waited too")
        assert each.endswith("look at what the others say, and go on with `nasframe resume`")
