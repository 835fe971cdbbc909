"""The parts of the benchmark of steps that can be wrong without a look at its figures."""

import importlib
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmarks, which are scripts and no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def measuring(load):
    return load("measuring")


def test_the_exponent_of_a_power_law_comes_out(measuring):
    sizes = [2.0, 3.0, 7.0, 20.0]
    assert measuring.growth_exponent(sizes, [5 * size**1.7 for size in sizes]) == pytest.approx(
        1.7, rel=1e-12
    )


def test_times_are_the_median_between_its_quartiles(measuring):
    assert measuring.Times.of([5.0, 1.0, 4.0, 2.0, 3.0]) == measuring.Times(3.0, 2.0, 4.0, 5)
    assert measuring.Times.of([7.0]) == measuring.Times(7.0, 7.0, 7.0, 1)


def test_contenders_take_turns_and_warm_up_untimed(measuring):
    calls = []
    steps = {name: partial(calls.append, name) for name in "ab"}
    seconds = measuring.in_turn(steps, repeats=3, warmup=2)
    assert "".join(calls) == "ab" * 5
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_the_relative_error_is_that_of_all_entries_together(measuring):
    want = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    got = [torch.tensor([3.0, 0.6]), torch.tensor([[4.8]])]
    assert measuring.relative_error(got, want) == pytest.approx(math.hypot(0.6, 0.8) / 5, rel=1e-6)


def test_operations_are_counted_without_views_and_with_what_they_write(measuring):
    one, other = torch.ones(4, 3), torch.ones(3, 5)
    with measuring.Operations() as operations:
        torch.relu(one @ other).view(-1)[2:]
    assert (operations.count, operations.written) == (2, 2 * 4 * 5 * 4)


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks can be forgotten on Linux alone"
)
def test_the_peak_is_that_of_the_steps_and_not_of_the_building(measuring):
    held = []

    def build():
        torch.ones(96 * 2**18).sum()  # 96 MiB, freed before the steps
        held.append(torch.ones(32 * 2**18))
        return lambda: torch.ones(64 * 2**18).sum()

    assert 60 <= measuring.peak_memory(build) / 2**20 < 80  # the kernel counts in batches


def tiny(load, race, **changes):
    """A race whose gradients are compared on as small a network as has everything."""
    if race.startswith(("all", "two")):
        small = load("paths").Setting(widths=(4, 6), depth=2, features=8, batch=2, dtype=torch.float64)
    else:
        kinds = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
        small = load("supernets").Setting(2, 3, 2, kinds, dtype=torch.float64, clip=None)
    found = load("races").RACES[race]
    contenders = {name: build for name, build in found.contenders.items() if name != "NNI 3.0"}
    return replace(found, contenders=contenders, settings={"check": small}, **changes)


@pytest.mark.parametrize(
    "race", ["first_order", "second_order", "exact", "others", "all_paths", "two_paths", "derived"]
)
def test_contenders_compute_the_same_gradient_but_for_known_faults(load, race):
    errors = tiny(load, race).check()
    assert errors
    assert max(errors.values()) <= load("races").AGREEMENT, errors


def test_a_fault_that_is_not_taken_out_is_seen(load):
    errors = tiny(load, "others", faults={}).check()
    assert min(errors.values()) > 1e-6, errors


def test_nni_computes_the_same_gradient_as_its_like(load):
    pytest.importorskip("nni", reason="NNI is in the environment of `make bench` alone")
    contenders = load("races").RACES["all_paths"].contenders
    race = replace(tiny(load, "all_paths"), contenders=contenders)
    assert max(race.check().values()) <= load("races").AGREEMENT


def test_the_plain_networks_have_the_published_numbers_of_weights(load):
    with torch.device("meta"):
        derived = load("peers.derived").Network(36, 20)
        supernet = load("peers.darts").Network(16, 8, load("peers.darts").ALL_OPERATIONS)
    counts = [sum(weight.numel() for weight in each.parameters()) for each in (derived, supernet)]
    assert counts == [
        3_349_342,
        1_930_618,
    ]  # "param size" of the authors' logs, their auxiliary head left out


def test_a_draw_is_the_same_for_everyone_and_runs_one_of_its_two_paths(load):
    draw = load("paths").draw
    for index in range(20):
        drawn = draw(index, [6, 7, 2])
        assert drawn == draw(index, [6, 7, 2])
        assert all(each.two[0] < each.two[1] and each.active in each.two for each in drawn)
    assert draw(0, [7] * 9) != draw(1, [7] * 9)


def test_what_nasframe_runs_is_what_was_drawn(load):
    paths = load("paths")
    ours = paths.Nasframe(
        paths.Setting(widths=(4, 6), depth=2, features=8, batch=2), update="two_paths", channels_last=False
    )
    ops = list(ours.model.mixed_ops.values())
    ours.model.sample(torch.Generator(), 2)
    drawn = paths.draw(0, [len(op.alpha) for op in ops])
    assert [(op.paths, op.active) for op in ops] == [(each.two, (each.active,)) for each in drawn]


def test_the_benchmark_runs_at_its_command_line(load, tmp_path, monkeypatch, capsys):
    steps = load("steps")
    for key, value in steps.ALLOCATOR.items():
        monkeypatch.setenv(key, value)
    race = tiny(load, "derived")
    small = dict.fromkeys(("check", "small"), race.settings["check"])
    monkeypatch.setattr(steps, "EXPERIMENTS", {"derived": replace(race, settings=small)})
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    arguments = [
        "--only=derived",
        "--size=small",
        "--no-memory",
        "--repeats=1",
        "--resume",
        f"--results={tmp_path}",
    ]
    steps.main(arguments)
    printed = capsys.readouterr().out
    assert all(name in printed for name in race.contenders)
    result = json.loads((tmp_path / "steps-small-derived.json").read_text())
    assert set(result["seconds"]) == set(race.contenders)
    assert result["machine"]["torch"] == torch.__version__
    steps.main(arguments)
    assert "there already" in capsys.readouterr().out


def test_an_unknown_experiment_is_refused_by_name(load, capsys):
    with pytest.raises(SystemExit) as ended:
        load("steps").main(["--only", "first_ordr"])
    assert ended.value.code == 2
    assert "must be among first_order" in capsys.readouterr().err


def test_a_stage_is_timed_from_its_first_step_on(load, monkeypatch):
    now = iter(range(0, 1000, 1))
    studies = load("studies")
    monkeypatch.setattr(studies.time, "perf_counter", lambda: float(next(now)))

    class Loop:
        def fit(self):
            self.save()
            for _ in range(2):
                self.step()
            self.save()

        def step(self):
            next(now)

        def save(self):
            next(now)

    clock = studies.Clock(begins_with="steps")
    with clock.timing("steps", Loop, "step"), clock.timing("saving", Loop, "save"):
        with clock.stage(Loop, "fit"):
            Loop().fit()
        Loop().save()  # belongs to no stage
    # `fit` looks at the clock at 0 and 12; the first step begins at 3, after a save that does not count; each
    # later call takes two ticks
    assert clock.seconds == {"steps": 4.0, "saving": 2.0}
    assert (clock.before, clock.whole) == (3.0, 9.0)
