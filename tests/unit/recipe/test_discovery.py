"""Shipped recipes and modules of the user's own."""

from pathlib import Path

import pytest

from nasframe.errors import FaultWarning, RecipeError
from nasframe.recipe.discovery import import_modules, shipped_recipes
from nasframe.registry import registries


def test_recipes_are_shipped() -> None:
    assert {"digits_darts", "cifar_darts", "cifar_darts_small"} <= set(shipped_recipes())
    assert all(path.is_file() for path in shipped_recipes().values())


def test_a_module_of_the_users_registers_its_components_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from nasframe.core import Schedule, schedules\n"
        "@schedules.register('unit_users_own')\n"
        "class Mine(Schedule):\n    def __call__(self, base_lr, epoch, num_epochs): return base_lr\n"
    )
    import_modules([path])
    import_modules([path])
    assert registries["schedules"].origin("unit_users_own").startswith("nasframe_plugin_mine_")


def test_a_module_whose_import_does_not_end_is_named_while_one_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasframe.declarations._LONG_SECONDS", 0.01)
    path = tmp_path / "sleepy.py"
    path.write_text("import time\ntime.sleep(0.3)\n")
    with pytest.warns(FaultWarning, match=f"--plugin {path} is still being imported after 0.01 s"):
        import_modules([path])


def test_each_module_that_cannot_be_imported_is_a_problem(tmp_path: Path) -> None:
    files = {"fails.py": "1 / 0", "exits.py": "raise SystemExit(3)", "wrong.py": "(", "text.txt": ""}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    paths = [tmp_path / name for name in [*files, "missing.py"]]
    for _ in range(2):
        with pytest.raises(RecipeError) as caught:
            import_modules(paths)
        assert [each.where for each in caught.value.problems] == ["command line"] * 5
        assert "ZeroDivisionError" in caught.value.problems[0].given
        assert caught.value.problems[4].rule == f"{tmp_path / 'missing.py'} must be a file"
