"""What is imported when: the command line answers before torch is there."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "code",
    [
        "import nasframe",
        "from nasframe.cli import main",
        "import sys; sys.argv = ['nasframe', '--help']\nfrom nasframe.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 0, end.code",
    ],
)
def test_nothing_heavy_is_imported_for_the_help(code: str) -> None:
    check = "\nimport sys\nheavy = {'torch', 'pydantic', 'omegaconf', 'rich', 'numpy'} & set(sys.modules)\nassert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code + check], check=True, capture_output=True)


def test_only_the_plugins_that_a_recipe_names_are_imported(tmp_path: object) -> None:
    code = (
        "import sys\nfrom nasframe import load_recipe\nload_recipe('digits_darts')\n"
        "assert 'datasets' not in sys.modules and 'tensorboard' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
