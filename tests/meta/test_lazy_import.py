"""What is imported when: the command line answers before torch is there."""

import json
import subprocess
import sys
import textwrap

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


STEPS = {
    "a tracker's module": "import nasframe.trackers.tensorboard",
    "a recipe": """
        from nasframe import load_recipe
        recipes = [load_recipe(name) for name in ("digits_darts", "digits_proxyless")]
    """,
    "its data": "recipes[0].data()",
    "a step": """
        import torch
        from nasframe.core import optimizers
        for name in ("sgd", "adam", "adamw"):
            weight = torch.nn.Parameter(torch.ones(2))
            optimizer = optimizers[name]([weight], lr=0.1)
            optimizer.zero_grad()
            (2 * weight).sum().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
            assert (weight < 1).all() and optimizer.state
    """,
}


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """What was there after each step of one process."""
    lines = ["import json, sys", "there = {}"]
    for step, code in STEPS.items():
        lines += [textwrap.dedent(code), f"there[{step!r}] = list(sys.modules)"]
    code = "\n".join([*lines, "print(json.dumps(there))"])
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {step: set(names) for step, names in json.loads(done.stdout).items()}


@pytest.mark.parametrize(
    ("step", "needless"),
    [
        ("a tracker's module", {"tensorboard"}),
        ("a recipe", {"datasets", "tensorboard", "matplotlib", "torch._dynamo"}),
        ("its data", {"sklearn"}),
        ("a step", {"torch._dynamo", "sympy"}),  # PyTorch's compiler
    ],
)
def test_nothing_big_is_imported_that_is_not_needed(
    imported: dict[str, set[str]], step: str, needless: set[str]
) -> None:
    assert "nasframe.core" in imported[step]
    assert not needless & imported[step]
