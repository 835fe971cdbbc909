"""Some real steps of a stage, in a process of their own, and what is made of them."""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch

from nasframe import load_recipe
from nasframe.algorithms.darts_bilevel import DartsBilevel
from nasframe.core import Algorithm, Genotype, Guard
from nasframe.errors import OutOfMemoryError
from nasframe.recipe.devices import device_named
from nasframe.recipe.rehearsal import (
    OutOfMemory,
    Phase,
    _Enough,
    _failure,
    _Measured,
    _num_bytes,
    _Watch,
    rehearse,
)
from nasframe.recipe.running import run_fitted_by

TINY = """
name: tiny
device: cpu
threads: 1
data: {type: synthetic, num_train: 80, num_test: 16, height: 8, width: 8}
space: {type: macro, channels: 2, stages: [1, 1], features: 4}
search:
  algorithm: {type: darts_bilevel, warmup_epochs: 3}
  trainer: {epochs: 8, batch_size: 8, optimizer: {momentum: 0.8}}
retrain: {trainer: {epochs: 2, batch_size: 8, max_steps: 12}, valid_fraction: 0}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return load_recipe(path, check=False)


def _rehearsed(recipe, folder):
    """A rehearsal in this process."""
    watch = _Watch(device_named("cpu"))
    with pytest.raises(_Enough):
        run_fitted_by(recipe, folder, watch.fit)
    return watch.found[0]


def test_a_search_is_measured_in_the_proportion_of_its_phases(recipe, tmp_path):
    # 40 images to train on in batches of 8: 5 steps an epoch, 3 epochs of warm-up and 5 with alphas
    found = _rehearsed(recipe, tmp_path / "run")
    assert [(phase.first_epoch, phase.num_steps) for phase in found.phases] == [(0, 15), (3, 25)]
    assert all(phase.num_measured >= 1 for phase in found.phases)
    assert (found.stage, found.batch_size, found.num_epochs, found.num_steps) == ("search", 8, 8, 40)
    steps = sum(phase.num_steps * phase.seconds_per_step for phase in found.phases)
    assert found.health_seconds > 0
    assert found.seconds == pytest.approx(steps + 8 * found.validation_seconds + found.health_seconds)
    assert 16 <= found.num_validated <= 40


class Looks(Guard):
    """Takes 1 s of a clock of its own at an epoch, 10 s at each third, and 100 s more at the last."""

    has_ended = False

    def __init__(self):
        self.now = 0.0

    def costly(self, epoch, *, is_last):
        return frozenset({"third"} if epoch % 3 == 0 else set()) | frozenset({"last"} if is_last else set())

    def measure(self, epoch, metrics, *, is_last):
        self.now += (10 if epoch % 3 == 0 else 1) + (100 if is_last else 0)
        return {}

    def judge(self, epoch, copy_upper):
        raise AssertionError("a rehearsal judges nothing")

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        raise AssertionError("nothing is loaded")


def test_looks_at_the_health_are_counted_by_what_they_measure(monkeypatch):
    guard = Looks()
    monkeypatch.setattr("nasframe.recipe.rehearsal.time.perf_counter", lambda: guard.now)
    watch = _Watch(device_named("cpu"))
    # of 10 epochs 3, 6 and 9 take 10 s, the last one 101 s, six others 1 s each
    assert watch._look(guard, 10) == 3 * 10 + 101 + 6 * 1
    assert watch._look(None, 10) == 0


class Spy(Algorithm):
    """Notes what it is given."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.steps: list[tuple[int, int, float]] = []

    def phases(self) -> frozenset[int]:
        return frozenset({2, 100})

    def begin_epoch(self, epoch, num_epochs):
        self.epochs.append(epoch)

    def step(self, train, valid, update_weights):
        momentum = update_weights.optimizer.param_groups[0]["momentum"]
        self.steps.append((self.epochs[-1], len(train), momentum))
        return update_weights(train)


def test_steps_are_those_of_the_recipe_and_of_the_phase_that_they_are_measured_for(recipe, tmp_path):
    spy, watch = Spy(), _Watch(device_named("cpu"))

    def fit(trainer, job):
        object.__setattr__(job, "make_algorithm", lambda model, objective: spy)
        watch.fit(trainer, job)

    with pytest.raises(_Enough):
        run_fitted_by(recipe, tmp_path / "run", fit)
    assert set(spy.steps) == {(0, 8, 0.8), (2, 8, 0.8)}
    assert [phase.first_epoch for phase in watch.found[0].phases] == [0, 2]
    assert sum(phase.num_measured for phase in watch.found[0].phases) == len(spy.steps) - 2


def _of_steps(*timings: tuple[str, float]) -> _Measured:
    """Timed steps of one phase, each with the figure that it returns."""
    measured = _Measured(Spy(), torch.device("cpu"))
    measured._timings = {0: [(frozenset({name}), seconds) for name, seconds in timings]}
    return measured


def test_the_first_step_does_not_count_and_a_slow_one_does_not_matter():
    measured = _of_steps(("loss", 50.0), ("loss", 1.0), ("loss", 1.0), ("loss", 9.0))
    assert list(measured.phases_of(30, 10)) == [Phase(0, 30, 1.0, 3)]


def test_steps_that_differ_in_their_figures_count_by_their_share():
    # every fourth step also moves the alphas
    timings = [("loss", 9.0), *[("loss", 1.0)] * 3, ("alpha_loss", 5.0), *[("loss", 1.0)] * 3]
    measured = _of_steps(*timings, ("alpha_loss", 5.0))
    (phase,) = measured.phases_of(100, 10)
    assert phase.seconds_per_step == pytest.approx((6 * 1 + 2 * 5) / 8)


def test_a_stage_of_one_step_takes_what_that_step_took():
    assert list(_of_steps(("loss", 3.0)).phases_of(1, 10)) == [Phase(0, 1, 3.0, 0)]


def test_phases_that_a_limit_of_steps_cuts_off_have_none():
    measured = _of_steps(("loss", 1.0), ("loss", 1.0))
    measured._timings[2] = [(frozenset({"loss"}), 2.0)] * 2
    assert [phase.num_steps for phase in measured.phases_of(25, 10)] == [20, 5]
    assert [phase.num_steps for phase in measured.phases_of(12, 10)] == [12, 0]


def test_a_checkpoint_is_the_sum_of_its_tensors_each_once():
    shared = torch.zeros(10, dtype=torch.float64)
    state = {"model": {"a": shared, "b": shared}, "rest": [torch.zeros(3), {"step": 1, "x": None}]}
    assert _num_bytes(state) == 10 * 8 + 3 * 4


def test_a_retrain_has_the_steps_that_its_trainer_will_make(recipe, tmp_path):
    Genotype({"layer_0": ("mb_k3_e3",), "layer_1": ("identity",)}).save(tmp_path / "known.json")
    found = _rehearsed(replace(recipe, genotype=tmp_path / "known.json"), tmp_path / "run")
    # 80 images in batches of 8: of the 20 steps of two epochs the limit leaves 12
    assert (found.stage, found.num_steps, found.num_epochs) == ("retrain", 12, 2)
    assert (found.validation_seconds, found.num_validated) == (0.0, 0)


def test_a_rehearsed_step_that_finds_no_memory_is_told_and_not_split(recipe, monkeypatch, tmp_path):
    def hungry(self, train, valid, update_weights):
        torch.empty(2**62, dtype=torch.uint8)

    monkeypatch.setattr(DartsBilevel, "step", hungry)
    watch = _Watch(torch.device("cpu"))
    with pytest.raises(OutOfMemoryError, match="must fit the memory of cpu") as error:
        run_fitted_by(recipe, tmp_path / "run", watch.fit)
    assert "can't allocate memory" in _failure(error.value)["out_of_memory"]


def test_a_process_that_the_system_ends_was_short_of_memory(recipe, tmp_path):
    plugin = tmp_path / "killed.py"
    plugin.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(OutOfMemory, match="the system ended the process"):
        rehearse(recipe, "search", Genotype(), [plugin])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_that_of_this_program_and_not_of_the_one_that_started_it():
    held = bytearray(b"x") * 1_500_000_000
    code = """
        import torch
        from nasframe.recipe.devices import peak_memory
        before = peak_memory(torch.device("cpu"))
        block = b"x" * 200_000_000
        del block
        print(before, peak_memory(torch.device("cpu")))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    before, after = map(int, done.stdout.split())
    assert before < len(held)
    assert 190e6 < after - before < 210e6


def test_a_search_that_pays_for_a_cost_has_the_phases_of_its_algorithm(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    overrides = ["search.cost=flops", "search.algorithm.order=2", "search.algorithm.second_order_from=5"]
    found = _rehearsed(load_recipe(path, overrides, check=False), tmp_path / "run")
    # 5 steps an epoch: warm-up before epoch 3, first order before epoch 5, second order to the end
    assert [(phase.first_epoch, phase.num_steps) for phase in found.phases] == [(0, 15), (3, 10), (5, 15)]
