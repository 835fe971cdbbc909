"""A step for which memory is short is undone and taken in pieces, as if it had been from the start."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from nasframe.algorithms.darts_bilevel import DartsBilevel
from nasframe.algorithms.weights_only import WeightsOnly
from nasframe.core import (
    Algorithm,
    ArchParam,
    AsGiven,
    BatchStream,
    Checkpoints,
    Job,
    Model,
    TensorSplit,
    optimizers,
    schedules,
    seed_for,
)
from nasframe.errors import FaultWarning, OutOfMemoryError
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.trainers.standard import Standard

CPU = torch.device("cpu")
STEPS = 6  # of an epoch: 24 examples in batches of 4
SGD = optimizers.component("sgd", lr=0.1, momentum=0.9)


class _Takes(torch.autograd.Function):
    """Asks the allocator, forward or backward, for more bytes than an address can say."""

    @staticmethod
    def forward(ctx, x, now, later):
        ctx.later = later
        if now:
            torch.empty(2**62, dtype=torch.uint8)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if ctx.later:
            torch.empty(2**62, dtype=torch.uint8)
        return gradient, None, None


class _Network(nn.Module):
    """Has a state of every sort, and from one pass on no memory for more than some examples."""

    def __init__(self, most=4, after=0, where="forward"):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3)
        self.second = nn.Linear(6, 3)
        self.alpha = ArchParam(torch.zeros(3))
        self.most, self.after, self.where, self.passes = most, after, where, 0

    def forward(self, x):
        hidden = self.drop(self.norm(self.first(x)))
        if self.training:
            self.passes += 1
            short = self.passes > self.after and len(x) > self.most
            hidden = _Takes.apply(hidden, short and self.where == "forward", short)
        return self.second(hidden) * torch.exp(self.alpha)


def _job(folder, make_algorithm, **network):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(36, 4, generator=generator)
    splits = [TensorSplit(part, part[:, :3].argmax(1)) for part in (x[:24], x[24:])]
    told = []
    job = Job(
        stage="search",
        seed=3,
        device=CPU,
        model=Model(_Network(**network)),
        objective=CrossEntropy(),
        make_algorithm=make_algorithm,
        train=splits[0],
        valid=splits[1],
        preprocess=AsGiven(),
        augment=(),
        describe=lambda record: record,
        start_tracking=lambda start: told.append,
        checkpoints=Checkpoints(folder),
        progress=lambda *told: None,
        note=told.append,
    )
    return job, told


def _fit(job, **settings):
    constant = schedules.component("constant")
    Standard(epochs=2, batch_size=4, optimizer=SGD, schedule=constant, **settings).fit(job)


def _darts(order):
    adam = optimizers.component("adam", lr=0.1, betas=(0.5, 0.999), weight_decay=1e-3)

    def make(model, objective):
        return DartsBilevel(model, objective, order=order, alpha_optimizer=adam)

    return make


class _InPiecesFrom(Algorithm):
    """Another algorithm, which takes batches in pieces from a step on, because somebody says so."""

    uses_valid = True

    def __init__(self, algorithm, step, pieces):
        self._algorithm, self._left, self._pieces = algorithm, step, pieces

    def begin_epoch(self, epoch, num_epochs):
        self._algorithm.begin_epoch(epoch, num_epochs)

    def step(self, train, valid, update_weights):
        if self._left == 0:
            self._algorithm.chunks = update_weights.chunks = self._pieces
        self._left -= 1
        return self._algorithm.step(train, valid, update_weights)


def _check_same(job, other):
    expected = other.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in job.model.state_dict().items())
    mine, theirs = job.checkpoints.latest(), other.checkpoints.latest()
    assert torch.equal(mine["random"]["cpu"], theirs["random"]["cpu"])
    for state in (mine, theirs):
        state["momenta"] = [each["momentum_buffer"] for each in state["optimizer"]["state"].values()]
    assert all(map(torch.equal, mine["momenta"], theirs["momenta"]))


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(
    ("order", "passes", "after", "step"),
    [
        (1, 2, 7, 3),  # passes of a step, the pass that has no memory, its step: here in the weights' pass
        (1, 2, 8, 4),  # in the alphas'
        (1, 2, 0, 0),  # in the very first one, before there is any momentum
        (2, 5, 18, 3),  # in one of the finite differences
        (2, 5, 19, 3),  # in the weights', after the alphas have moved
    ],
)
def test_a_step_that_finds_no_memory_is_undone_exactly_and_split_from_then_on(
    tmp_path, where, order, passes, after, step
):
    assert after // passes == step
    job, told = _job(tmp_path / "short", _darts(order), most=2, after=after, where=where)
    with pytest.warns(FaultWarning, match=f"search: from step {step + 1} on, .* in 2 pieces"):
        _fit(job)
    whole, _ = _job(
        tmp_path / "enough",
        lambda model, objective: _InPiecesFrom(_darts(order)(model, objective), step, 2),
    )
    _fit(whole)
    _check_same(job, whole)
    notes = [each for each in told if isinstance(each, str)]
    assert len(notes) == 1
    assert notes[0].startswith(f"search: from step {step + 1} on, batches were computed in 2 pieces")
    records = [each.scalars.get("search/chunks") for each in told if not isinstance(each, str)]
    assert records == [2.0, 2.0]


def test_the_weights_after_a_split_are_those_of_a_plain_loop_over_the_pieces(tmp_path):
    job, _ = _job(tmp_path, WeightsOnly, most=2, after=3)
    with pytest.warns(FaultWarning, match="in 2 pieces"):
        _fit(job)
    torch.manual_seed(0)
    network = _Network()
    torch.manual_seed(seed_for(3, "search", "train"))
    weights = [value for name, value in network.named_parameters() if name != "alpha"]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=3e-4)
    stream = BatchStream(
        job.train, AsGiven(), batch_size=4, device=CPU, training=True, seed=3, purpose=("search", "train")
    )
    batches = [batch for epoch in range(2) for batch in stream.epoch(epoch)]
    assert len(batches) == 2 * STEPS
    for step, batch in enumerate(batches):
        size = 4 if step < 3 else 2
        optimizer.zero_grad()
        for inputs, targets in zip(batch.inputs.split(size), batch.targets.split(size), strict=True):
            (nn.functional.cross_entropy(network(inputs), targets) * (size / 4)).backward()
        nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
    for name, value in network.state_dict().items():
        assert torch.equal(job.model.state_dict()[f"network.{name}"], value), name


def test_a_run_that_was_split_is_split_after_a_resume_too(tmp_path):
    def stop(stage, step, *told):
        if step == 7:
            raise KeyboardInterrupt

    job, _ = _job(tmp_path / "run", _darts(1), most=2, after=6)
    with pytest.warns(FaultWarning, match="in 2 pieces"), pytest.raises(KeyboardInterrupt):
        _fit(replace(job, progress=stop))  # in the second epoch
    with_memory, told = _job(tmp_path / "run", _darts(1))
    _fit(with_memory)
    whole, _ = _job(tmp_path / "whole", _darts(1), most=2, after=6)
    with pytest.warns(FaultWarning, match="in 2 pieces"):
        _fit(whole)
    _check_same(with_memory, whole)
    assert [each.scalars["search/chunks"] for each in told] == [2.0]


class _Whole(Algorithm):
    """Does not know how to take a batch in pieces."""

    uses_valid = False

    def __init__(self, model, objective): ...

    def step(self, train, valid, update_weights):
        return update_weights(train)


@pytest.mark.parametrize(
    ("make_algorithm", "settings", "most", "advice"),
    [
        (_Whole, {}, 2, r"_Whole takes batches whole: set search\.trainer\.batch_size=2 \(now 4\), or "),
        (WeightsOnly, {"on_out_of_memory": "stop"}, 2, r"set search\.trainer\.on_out_of_memory=split, or "),
        (WeightsOnly, {}, 1, r"nor do 2 pieces of it; choose fewer channels, cells or layers"),
    ],
)
@pytest.mark.filterwarnings("ignore:search. from step 4 on")
def test_where_a_step_cannot_be_split_the_error_names_the_setting_and_its_value(
    tmp_path, make_algorithm, settings, most, advice
):
    job, _ = _job(tmp_path, make_algorithm, most=most, after=3)
    what = r"search: step 4: a batch of 4 must fit the memory of cpu, but does not \(.*can't allocate memory"
    with pytest.raises(OutOfMemoryError, match=f"{what}.*{advice}"):
        _fit(job, **settings)


def test_an_evaluation_without_memory_names_its_batch_size(tmp_path):
    job, _ = _job(tmp_path, WeightsOnly)
    job.model.network.eval_only = job.model.network.register_forward_hook(
        lambda module, given, output: None if module.training else torch.empty(2**62, dtype=torch.uint8)
    )
    with pytest.raises(OutOfMemoryError, match=r"a batch of 6 must fit .*set eval_batch_size=3 \(now 6\)"):
        _fit(job, eval_batch_size=6)


_SHORT = """
import resource, sys, warnings
from pathlib import Path
from nasframe import load_recipe, run

recipe, folder, mebibytes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def limit(stage, step, *told):
    "From the third step on there are so many mebibytes besides what the process has taken."
    if (stage, step) == ("search", 2):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (mebibytes << 20), resource.RLIM_INFINITY))
    if (stage, step) == ("search", 4):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

warnings.simplefilter("always")
run(load_recipe(recipe, check=False), folder, limit)
"""


SHORT = """
name: short
device: cpu
threads: 1
data: {type: synthetic, num_train: 256, num_test: 8, num_classes: 2, height: 32, width: 32}
space: {type: darts, channels: 8, cells: 2, nodes: 1, operations: [skip_connect, sep_conv_3x3]}
search: {trainer: {epochs: 1, batch_size: 32}}
retrain: {trainer: {epochs: 1, batch_size: 16, max_steps: 1}}
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_a_run_whose_address_space_ends_goes_on_in_pieces_and_says_so_everywhere(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(SHORT)
    folder = tmp_path / "run"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", _SHORT, str(recipe), str(folder), "32"],
        capture_output=True, text=True, check=False,
        # blocks that are freed go back to the system, so that the limit is met
        env={**environment, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "search: from step 3 on, batches were computed in" in done.stderr
    status = json.loads((folder / "status.json").read_text())
    report = json.loads((folder / "report.json").read_text())
    assert status["notes"] == report["notes"]
    assert status["notes"][0].startswith("search: from step 3 on, batches were computed in 2 pieces")
    assert "batches were computed in" in (folder / "report.html").read_text()
    (line,) = (folder / "search" / "metrics.jsonl").read_text().splitlines()
    splits = [note for note in status["notes"] if note.startswith("search: from step")]
    assert json.loads(line)["search/chunks"] == 2 ** len(splits)
