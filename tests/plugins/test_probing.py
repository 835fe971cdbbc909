"""Third parties' plugins are probed in processes of their own."""

import os
from collections.abc import Callable
from pathlib import Path

import nasframe.core  # noqa: F401 (declares the registries)
from nasframe.recipe.discovery import probe_plugins

GOOD = "class Mine:\n    def __init__(self, *, speed: float = 1.0) -> None: ...\n"


def test_each_plugin_is_probed_apart_and_each_failure_has_its_reason(
    third_party: Callable[..., Path],
) -> None:
    sources = {
        "good": "import os\nos.environ['UNIT_PROBED'] = '1'\n" + GOOD,
        "missing": "import not_there_at_all",
        "crashing": "import os; os._exit(7)",
        "positional": GOOD.replace("self, *", "self, x, *"),
    }
    for name, source in sources.items():
        third_party(name, source, schedules=f"unit_{name} = Mine")
    states = {state.name: state for state in probe_plugins(["schedules"])}
    assert states["unit_good"].failure is None
    assert states["unit_good"].source == "good 1.0"
    for name, words in {
        "missing": "not_there_at_all",
        "crashing": "status 7",
        "positional": "must take nothing by position",
    }.items():
        assert words in str(states[f"unit_{name}"].failure)
    assert "UNIT_PROBED" not in os.environ, "probing changes nothing here"


def test_nothing_is_probed_where_there_are_no_plugins() -> None:
    assert probe_plugins(["reports"]) == []
