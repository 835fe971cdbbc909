"""The audit: what it says when vulnerabilities are found, when none are, and when nobody can be asked."""

import subprocess
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit"
REFUSED = "requests.exceptions.ConnectionError: Max retries exceeded with url: /v1/query"


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        ("No known vulnerabilities found", 0, 0),
        ("Name Version ID\\nx 1.0 CVE-2026-1", 1, 1),
        (REFUSED, 1, 0),
        ("usage: pip-audit", 2, 2),
    ],
)
def test_a_vulnerability_fails_and_an_absent_database_is_said(
    tmp_path: Path, said: str, status: int, expected: int
) -> None:
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\nprintf '%b\\n' '{said}' >&2\nexit {status}\n")
    tool.chmod(0o755)
    done = subprocess.run(["bash", str(AUDIT), str(tool)], capture_output=True, text=True, check=False)
    assert done.returncode == expected
    assert ("audit skipped: the database" in done.stdout) == (said == REFUSED)
    assert (said.partition("\\n")[0] in done.stdout) == (said != REFUSED)
