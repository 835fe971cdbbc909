"""The table of docs/reliability.md is what the committed results give."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("kills-*.json"))


def test_the_table_is_that_of_the_committed_results_and_nothing_was_lost():
    script = runpy.run_path(str(ROOT / "benchmarks" / "kills.py"), run_name="kills")
    results = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS]
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("<!-- table -->\n")
    assert rest.partition("<!-- end of table -->")[0].strip().splitlines() == list(script["table"](results))
    assert results
    assert [found["lost"] + found["damaged"]["lost"] for found in results] == [0] * len(results)


def test_the_table_of_a_long_run_is_that_of_the_committed_result_and_nothing_rose():
    script = runpy.run_path(str(ROOT / "benchmarks" / "health.py"), run_name="health")
    result = json.loads((ROOT / "benchmarks" / "results" / "health.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("<!-- health -->\n")
    assert rest.partition("<!-- end of health -->")[0].strip().splitlines() == list(script["table"](result))
    assert result["steps"] == 5000
    assert script["faults"](result["samples"]) == []
