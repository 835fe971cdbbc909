"""Whatever a plugin does wrong is told with what to do, and leaves everything else working."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nasframe
from nasframe.cli import main
from nasframe.cli.output import wrapped
from nasframe.declarations import PLUGIN_API
from nasframe.errors import ComponentError

SCHEDULE = """
from nasframe.core import Schedule
class Mine(Schedule):
    '''Stays.'''
    def __call__(self, base_lr, epoch, num_epochs): return base_lr
"""
ThirdParty = Callable[..., Path]
Doctor = Callable[..., tuple[Any, dict[str, Any]]]


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Runs `nasframe doctor --json` in a folder of the test's own: its exit code, and findings by name."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[Any, dict[str, Any]]:
        with pytest.raises(SystemExit) as caught:
            main(["doctor", "--json", *arguments])
        told = json.loads(capsys.readouterr().out)
        assert told["ok"] is (caught.value.code == 0)
        return caught.value.code, {finding["name"]: finding for finding in told["findings"]}

    return run


def declare(folder: Path, distribution: str, entries: str) -> Path:
    """Metadata of a distribution in a folder, without any module."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(entries)
    return info


def test_an_installation_in_order_is_told_so(doctor: Doctor, third_party: ThirdParty, tmp_path: Path) -> None:
    third_party("fine", SCHEDULE, schedules="unit_fine = Mine")
    code, found = doctor()
    assert code == 0
    assert {finding["topic"] for finding in found.values()} == {"versions", "devices", "folders", "plugins"}
    assert found["torch"]["found"] == __import__("torch").__version__
    assert found["nasframe"]["found"].startswith(nasframe.__version__)
    assert found["schedules unit_fine"]["found"] == "works, from fine 1.0"
    assert found["runs"]["found"] == str(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_each_broken_plugin_is_told_with_what_to_do(doctor: Doctor, third_party: ThirdParty) -> None:
    third_party("raising", "raise RuntimeError('no fuel')", schedules="unit_raising = Mine")
    third_party("endless", "while True: pass", schedules="unit_endless = Mine")
    third_party("shadowing", SCHEDULE, schedules="constant = Mine")
    third_party("one", SCHEDULE, schedules="unit_twice = Mine")
    third_party("other", SCHEDULE, schedules="unit_twice = Mine")
    third_party("newer", f"nasframe_api = '2'\nraise RuntimeError{SCHEDULE}", schedules="unit_newer = Mine")
    folder = third_party("misspelled", SCHEDULE, schedulez="unit_misspelled = Mine")
    declare(folder, "half", "[nasframe.schedules]\nunit_half = unit_not_there.schedule:Mine\n")
    unreadable = declare(folder, "unreadable", "[nasframe.schedules]\nunit_x = a:B\nunit_x = a:C\n")
    left_over = declare(folder, "~ld", "[nasframe.schedules]\nunit_endless = old:Old\n")
    declare(folder, "stranger", "[console_scripts]\nx = a:B\nx = a:C\n")
    code, found = doctor("--time-limit", "1")
    assert code == 1
    wrong = {name: finding["found"] for name, finding in found.items() if finding["state"] == "wrong"}
    assert set(wrong) == {
        *(f"schedules unit_{name}" for name in ("raising", "endless", "twice", "newer", "half")),
        "schedules constant", "nasframe.schedulez",
        str(unreadable / "entry_points.txt"), str(left_over / "entry_points.txt"),
    }  # fmt: skip
    for name, words in {
        "schedules unit_raising": ("RuntimeError: no fuel", "repair or uninstall raising 1.0"),
        "schedules unit_endless": ("did not end within 1 s", "repair or uninstall endless 1.0"),
        "schedules constant": ("claimed by nasframe and shadowing 1.0", "uninstall shadowing 1.0"),
        "schedules unit_twice": ("claimed by other 1.0 and one 1.0", "uninstall one of them"),
        "schedules unit_newer": (
            f"built for plugin API 2, but this nasframe has {PLUGIN_API}",
            "install a version",
        ),
        "schedules unit_half": ("half-installed: there is no module `unit_not_there`", "reinstall half 1.0"),
        "nasframe.schedulez": (
            "misspelled 1.0 declares unit_misspelled",
            "no such registry",
            "did you mean `schedules`?",
        ),
        str(unreadable / "entry_points.txt"): ("cannot be read", "unit_x", "reinstall"),
        str(left_over / "entry_points.txt"): ("left over from an uninstallation", "remove"),
    }.items():
        assert all(word in wrong[name] for word in words), wrong[name]


def test_broken_plugins_leave_everything_else_working(third_party: ThirdParty) -> None:
    folder = third_party("raising", "raise RuntimeError('no fuel')", schedules="unit_raising = Mine")
    third_party("newer", f"nasframe_api = '2'\nraise RuntimeError{SCHEDULE}", schedules="unit_newer = Mine")
    third_party("shadowing", SCHEDULE, schedules="step = Mine")
    third_party("fine", f"nasframe_api = '{PLUGIN_API}'{SCHEDULE}", schedules="unit_fine = Mine")
    declare(folder, "half", "[nasframe.schedules]\nunit_half = unit_not_there:Mine\n")
    declare(folder, "~ine", "[nasframe.schedules]\nunit_fine = old:Old\n")
    schedules = nasframe.registries["schedules"]
    assert schedules["unit_fine"]()(0.1, 0, 1) == 0.1
    assert schedules["unit_fine"] is schedules["unit_fine"]
    recipe = nasframe.load_recipe("digits_darts", ["search.trainer.schedule=unit_fine"])
    assert recipe.search.trainer.settings["schedule"].name == "unit_fine"
    for name, words in {
        "unit_raising": "no fuel",
        "unit_newer": "built for plugin API 2",
        "unit_half": "half-installed",
        "step": "claimed by nasframe and shadowing",
    }.items():
        with pytest.raises(nasframe.errors.RecipeError, match=words):
            nasframe.load_recipe("digits_darts", [f"search.trainer.schedule={name}"], check=False)


@pytest.mark.parametrize(
    ("source", "is_refused"),
    [
        ("nasframe_api = '1'\n", False),
        ("nasframe_api = '1.7'\n", False),
        ("nasframe_api = 1\n", False),
        ("", False),
        ("nasframe_api = '10'\n", True),
        ("nasframe_api = '0.9'\n", True),
        ("nasframe_api = 3\n", True),
    ],
)
def test_the_major_version_of_the_plugin_api_decides(
    third_party: ThirdParty, source: str, is_refused: bool
) -> None:
    third_party(
        "versioned", source + "class Mine:\n    def __init__(self) -> None: ...\n", schedules="unit_v = Mine"
    )
    schedules = nasframe.registries["schedules"]
    if is_refused:
        with pytest.raises(ComponentError, match=r"versioned 1\.0 is built for plugin API"):
            schedules["unit_v"]
    else:
        assert schedules["unit_v"].__name__ == "Mine"


def test_a_plugin_for_another_api_is_not_run_to_learn_so(third_party: ThirdParty, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    third_party(
        "eager", f"open({str(mark)!r}, 'w')\nnasframe_api = '2'\nMine = 1\n", schedules="unit_eager = Mine"
    )
    with pytest.raises(ComponentError, match="plugin API 2"):
        nasframe.registries["schedules"]["unit_eager"]
    assert not mark.exists()


def test_folders_that_cannot_be_written_are_told(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").touch()
    monkeypatch.setenv("HF_HOME", "/proc/nowhere")
    code, found = doctor()
    assert code == 1
    assert "--out" in found["runs"]["found"]
    assert "HF_HOME" in found["downloaded data"]["found"]
    assert found["temporary files"]["state"] == "ok"


def test_a_package_of_the_wrong_version_is_told(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, version, requires in (
        ("nasframe", "0.1.0", ["unit-old>=2", "unit-gone>=1"]),
        ("unit-old", "1.5", []),
    ):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
        (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, found = doctor()
    assert code == 1
    assert found["unit-old"]["found"] == "1.5, must be >=2; pip install 'unit-old>=2'"
    assert found["unit-gone"]["found"] == "not installed, must be >=1; pip install 'unit-gone>=1'"


def test_findings_are_printed_by_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["doctor"])
    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert [line for line in out.splitlines() if line and not line.startswith(" ")] == [
        "versions", "devices", "folders", "plugins", "all is well",
    ]  # fmt: skip


def test_long_findings_are_wrapped_between_words_in_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "constant: " + "is claimed by two distributions, uninstall one of them; " * 4
    assert wrapped(text, indent=9) == text  # pytest's output is no terminal
    monkeypatch.setenv("COLUMNS", "60")
    reading, writing = os.openpty()
    with os.fdopen(writing, "w") as terminal, os.fdopen(reading):
        monkeypatch.setattr(sys, "stdout", terminal)
        lines = wrapped(text, indent=9).split("\n")
        monkeypatch.undo()
    assert len(lines) > 3
    assert all(len(line) <= 60 and line.startswith(" " * 9) for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == text.strip()
