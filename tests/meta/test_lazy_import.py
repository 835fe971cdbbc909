"""What is imported when: the command line answers before torch is there."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "pydantic", "omegaconf", "rich", "numpy"}


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
    check = f"\nimport sys\nheavy = {HEAVY} & set(sys.modules)\nassert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code + check], check=True, capture_output=True)


@pytest.mark.parametrize("recipe", ["digits_darts", "digits_proxyless"])
def test_a_recipe_imports_nothing_big_that_it_does_not_need(recipe: str) -> None:
    code = (
        f"import sys\nfrom nasframe import load_recipe\nload_recipe('{recipe}')\n"
        "needless = {'datasets', 'tensorboard', 'matplotlib', 'torch._dynamo'} & set(sys.modules)\n"
        "assert not needless, needless"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_no_step_waits_for_pytorchs_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from nasframe.core import optimizers\n"
        "for name in ('sgd', 'adam', 'adamw'):\n"
        "    weight = torch.nn.Parameter(torch.ones(2))\n"
        "    optimizer = optimizers[name]([weight], lr=0.1)\n"
        "    optimizer.zero_grad()\n"
        "    (2 * weight).sum().backward()\n"
        "    optimizer.step()\n"
        "    optimizer.load_state_dict(optimizer.state_dict())\n"
        "    assert (weight < 1).all() and optimizer.state\n"
        "needless = {'torch._dynamo', 'sympy'} & set(sys.modules)\n"
        "assert not needless, needless"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
