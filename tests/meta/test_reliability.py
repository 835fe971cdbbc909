"""The table of docs/reliability.md is what the committed results give."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = [ROOT / "benchmarks" / "results" / f"kills-{number}.json" for number in ("SIGKILL", "SIGTERM")]


def test_the_table_is_that_of_the_committed_results_and_nothing_was_lost():
    script = runpy.run_path(str(ROOT / "benchmarks" / "kills.py"), run_name="kills")
    results = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS]
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("<!-- table -->\n")
    assert rest.partition("<!-- end of table -->")[0].strip().splitlines() == list(script["table"](results))
    assert [found["lost"] + found["damaged"]["lost"] for found in results] == [0, 0]
