"""The same recipe gives the same bits each time, where that is asked for."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nasframe import load_recipe, run
from nasframe.errors import UnsupportedError
from nasframe.recipe.devices import kernels_for, lost_by

KILLS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "kills.py"), run_name="kills")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ALGORITHMS = ["darts_bilevel, second order", "proxyless, two paths"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_recipe_gives_the_same_bits_twice_whatever_was_drawn_before(tmp_path, algorithm):
    path = tmp_path / "recipe.yaml"
    path.write_text(KILLS["recipe_text"](algorithm))
    found = []
    for name in ("one", "two"):
        torch.rand(len(found))  # what others drew must not matter
        run(load_recipe(path, ["search.trainer.epochs=1", "retrain.trainer.epochs=1"]), tmp_path / name)
        found.append(KILLS["outcome"](tmp_path / name))
    assert found[0] == found[1]


@pytest.mark.slow
def test_another_process_with_other_hashes_gives_the_same_bits(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(KILLS["recipe_text"](ALGORITHMS[0]))
    overrides = ["search.trainer.epochs=1", "retrain.trainer.epochs=1"]
    run(load_recipe(path, overrides), tmp_path / "here")
    subprocess.run(
        [sys.executable, "-m", "nasframe", "run", str(path), *overrides, "--out", str(tmp_path / "there")],
        check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "12345"},
    )  # fmt: skip
    assert KILLS["outcome"](tmp_path / "here") == KILLS["outcome"](tmp_path / "there")


def _switches():
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


@pytest.mark.parametrize("deterministic", [True, False])
def test_kernels_are_chosen_for_cuda_alone_and_as_before_afterwards(deterministic, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = _switches()
    with kernels_for(CPU, deterministic=deterministic):
        assert _switches() == before
    with kernels_for(CUDA, deterministic=deterministic):  # only switches are set
        assert _switches() == (deterministic, deterministic, not deterministic)
        assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is deterministic
    assert _switches() == before


def test_an_operation_without_a_deterministic_kernel_is_refused_with_what_to_set():
    with (
        pytest.raises(UnsupportedError, match=r"but has not \(put_ .*\); set deterministic=false"),
        kernels_for(CUDA, deterministic=True),
    ):
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))  # which has none on the CPU either
    assert _switches()[0] is False


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="size of tensor"), kernels_for(CUDA, deterministic=True):
        torch.zeros(2) + torch.zeros(3)


def test_what_is_lost_is_said_where_something_is():
    assert lost_by(CPU, deterministic=False) == lost_by(CUDA, deterministic=True) == ""
    assert "deterministic is false): another run differs" in lost_by(CUDA, deterministic=False)
    assert "mps promises no order" in lost_by(torch.device("mps"), deterministic=True)
