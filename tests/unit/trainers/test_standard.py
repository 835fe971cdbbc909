"""The loop: what it computes, what it records, and what it saves."""

import copy
import math
import threading
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import nn

import nasframe
from nasframe.algorithms.darts_bilevel import DartsBilevel
from nasframe.algorithms.proxyless import Proxyless
from nasframe.algorithms.single_path import SinglePath
from nasframe.algorithms.weights_only import WeightsOnly
from nasframe.core import (
    Algorithm,
    ArchParam,
    AsGiven,
    Augmentation,
    Batch,
    BatchStream,
    Checkpoints,
    Guard,
    Job,
    Model,
    Record,
    Task,
    TensorSplit,
    WeightAverage,
    inherit,
    optimizers,
    schedules,
)
from nasframe.derivers.darts import DartsRule
from nasframe.errors import DataError, FaultWarning, UnsupportedError
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.spaces.nas_bench_201 import NasBench201
from nasframe.trainers import _precision
from nasframe.trainers.standard import Standard

CPU = torch.device("cpu")
CLASSES = 3
SGD = optimizers.component("sgd", lr=0.3, momentum=0.9, weight_decay=0.01)
COSINE = schedules.component("cosine", min_lr=0.02)
CONSTANT = schedules.component("constant")


class _Network(nn.Module):
    """Two layers with dropout between them, and an alpha that scales the logits."""

    def __init__(self, dropout=0.0, alpha=False):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, CLASSES))
        self.alpha = ArchParam(torch.zeros(CLASSES)) if alpha else None
        self.dtypes, self.progress = set(), []

    def anneal(self, progress):
        self.progress.append(progress)

    def forward(self, x):
        logits = self.layers(x)
        self.dtypes.add(logits.dtype)
        return logits if self.alpha is None else logits * torch.exp(self.alpha)


def _model(**settings):
    torch.manual_seed(0)
    return Model(_Network(**settings))


def _split(count, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator, dtype=torch.float64).to(dtype)
    return TensorSplit(x, x[:, :CLASSES].argmax(1))


class _Watched:
    """A job, and everything that its trainer told."""

    def __init__(self, folder, model=None, **changes):
        self.records, self.starts, self.steps = [], [], []
        self.job = Job(
            stage="search",
            seed=3,
            device=CPU,
            model=model or _model(),
            objective=CrossEntropy(),
            make_algorithm=WeightsOnly,
            train=_split(22),
            valid=_split(10, seed=1),
            preprocess=AsGiven(),
            augment=(),
            describe=lambda record: record,
            start_tracking=self._start_tracking,
            checkpoints=Checkpoints(folder),
            progress=lambda stage, step, num_steps, epoch, metrics: self.steps.append(
                (stage, step, num_steps, epoch)
            ),
        )
        self.job = replace(self.job, **changes)

    def _start_tracking(self, start):
        self.starts.append(start)
        return self.records.append

    def fit(self, **settings):
        defaults = {"epochs": 3, "batch_size": 4, "optimizer": SGD, "schedule": COSINE, "eval_batch_size": 4}
        Standard(**{**defaults, **settings}).fit(self.job)
        return self


def _weights(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def _equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class _Noted(Algorithm):
    """Trains the weights, and notes what it was given."""

    uses_valid = True

    def __init__(self, model, objective):
        self.model, self.batches, self.rates, self.epochs = (model,), [], [], []

    def begin_epoch(self, epoch, num_epochs):
        self.epochs.append((epoch, num_epochs))

    def step(self, train, valid, update_weights):
        assert self.model[0].training
        self.batches.append((train, valid))
        self.rates.append(update_weights.optimizer.param_groups[0]["lr"])
        return update_weights(train)


def _noted(watched, **settings):
    algorithms = []

    def make(model, objective):
        algorithms.append(_Noted(model, objective))
        return algorithms[-1]

    watched.job = replace(watched.job, make_algorithm=make)
    watched.fit(**settings)
    return algorithms[0]


@pytest.mark.parametrize(
    ("max_grad_norm", "weight_decay_on"), [(None, "all"), (0.2, "all"), (None, "matrices")]
)
def test_the_weights_are_those_of_a_plain_loop_bit_for_bit(tmp_path, max_grad_norm, weight_decay_on):
    watched = _Watched(tmp_path)
    plain = copy.deepcopy(watched.job.model).train()
    of_biases = {} if weight_decay_on == "all" else {"weight_decay": 0}
    groups = [
        {"params": [layer.weight for layer in plain.network.layers[::3]]},
        {"params": [layer.bias for layer in plain.network.layers[::3]], **of_biases},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.3, momentum=0.9, weight_decay=0.01)
    batches = BatchStream(
        watched.job.train,
        AsGiven(),
        batch_size=4,
        device=CPU,
        training=True,
        seed=3,
        purpose=("search", "train"),
    )
    losses = []
    for epoch in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 + (0.3 - 0.02) * (1 + math.cos(math.pi * epoch / 3)) / 2
        for batch in batches.epoch(epoch):
            loss = nn.functional.cross_entropy(plain(batch.inputs), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            if max_grad_norm is not None:
                nn.utils.clip_grad_norm_(plain.parameters(), max_grad_norm)
            optimizer.step()
            losses.append(loss.item())
    watched.fit(max_grad_norm=max_grad_norm, weight_decay_on=weight_decay_on)
    assert _equal(_weights(watched.job.model), _weights(plain))
    means = [sum(losses[start : start + 5]) / 5 for start in (0, 5, 10)]
    assert [record.scalars["search/train_loss"] for record in watched.records] == pytest.approx(means)


def test_each_epoch_leaves_a_record_with_the_figures_of_its_stage(tmp_path):
    def describe(record):
        return Record(record.step, {**record.scalars, "alphas/entropy": 1.5})

    records = _Watched(tmp_path, describe=describe).fit().records
    assert [record.step for record in records] == [1, 2, 3]
    figures = {"train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr", "images_per_second"}
    for record in records:
        assert set(record.scalars) == {f"search/{figure}" for figure in figures} | {"alphas/entropy"}
        assert record.scalars["search/images_per_second"] > 0
    rates = [0.02 + 0.28 * (1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in range(3)]
    assert [record.scalars["search/lr"] for record in records] == pytest.approx(rates)


def test_progress_hears_each_step_once(tmp_path):
    steps = _Watched(tmp_path, stage="retrain").fit(epochs=2).steps
    assert steps == [("retrain", step, 10, 1 + (step - 1) // 5) for step in range(1, 11)]


def test_the_validation_of_a_record_is_that_of_the_model_at_the_end_of_the_epoch(tmp_path):
    watched = _Watched(tmp_path).fit()
    batch = watched.job.valid.batch(torch.arange(10))
    with torch.no_grad():
        outputs = watched.job.model.eval()(batch.inputs)
    last = watched.records[-1].scalars
    loss = nn.functional.cross_entropy(outputs, batch.targets).item()
    assert last["search/valid_loss"] == pytest.approx(loss, rel=1e-6)
    assert last["search/valid_accuracy"] == pytest.approx(
        (outputs.argmax(1) == batch.targets).sum().item() / 10
    )


def _paths(folder, mixed_op, algorithm, **changes):
    """A search that trains drawn paths of images 1 8 8."""
    torch.manual_seed(0)
    task = Task((1, 8, 8), CLASSES)
    space = NasBench201(
        task, channels=2, cells=1, operations=("skip_connect", "nor_conv_1x1", "avg_pool_3x3")
    )
    x = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    train, valid = (
        TensorSplit(x[:22], torch.arange(22) % CLASSES),
        TensorSplit(x[22:], torch.arange(10) % CLASSES),
    )
    model = nasframe.supernet(space, mixed_op)
    changes = {"train": train, "valid": valid, "make_algorithm": algorithm, **changes}
    return space, _Watched(folder, model, **changes).fit(epochs=2, eval_batch_size=32)


def test_a_drawn_path_is_validated_with_the_statistics_of_the_training_examples_in_it(tmp_path):
    space, watched = _paths(tmp_path, "binary_gate", Proxyless)
    job = watched.job
    train, valid = job.train.batch(torch.arange(22)), job.valid.batch(torch.arange(10))
    genotype = DartsRule().derive(job.model)
    network = inherit(nasframe.derived(space, genotype), job.model, genotype)
    with torch.no_grad():
        mixed = network.eval()(valid.inputs)  # by the running statistics of all paths
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 1.0  # the statistics of one pass
        network.train()(train.inputs)
        outputs = network.eval()(valid.inputs)
    last = watched.records[-1].scalars
    loss, other = (nn.functional.cross_entropy(each, valid.targets).item() for each in (outputs, mixed))
    assert last["search/valid_loss"] == pytest.approx(loss, rel=1e-5)
    assert last["search/valid_loss"] != pytest.approx(other, rel=1e-3)


def test_validating_drawn_paths_leaves_no_trace(tmp_path):
    states = []
    for name, changes in (("with", {}), ("without", {"valid": _split(0)})):
        _, watched = _paths(tmp_path / name, "uniform_path", SinglePath, **changes)
        states.append(watched.job.model.state_dict())
    assert _equal(*states)


@pytest.mark.parametrize("was_training", [True, False])
def test_evaluation_weighs_batches_by_their_size_and_leaves_the_model_as_it_was(was_training):
    model = Model(nn.Sequential(nn.Linear(4, CLASSES), nn.BatchNorm1d(CLASSES))).train(was_training)
    before = copy.deepcopy(model.state_dict())
    split = _split(11)
    metrics = Standard(eval_batch_size=4).evaluate(model, CrossEntropy(), split, AsGiven())
    assert model.training is model.network[1].training is was_training
    assert _equal(model.state_dict(), before)
    whole = split.batch(torch.arange(11))
    with torch.no_grad():
        outputs = model.eval()(whole.inputs)
    assert metrics["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, whole.targets).item())
    assert metrics["accuracy"] == pytest.approx((outputs.argmax(1) == whole.targets).double().mean().item())


class _Shift(Augmentation):
    def __call__(self, batch, generator):
        return Batch(batch.inputs + 1000, batch.targets)


def test_training_batches_alone_are_augmented(tmp_path):
    watched = _Watched(tmp_path, augment=[_Shift()])
    seen = []
    watched.job.model.register_forward_pre_hook(
        lambda model, inputs: seen.append((model.training, inputs[0].min().item() > 500))
    )
    algorithm = _noted(watched)
    for train, valid in algorithm.batches:
        assert train.inputs.min() > 500
        assert valid.inputs.max() < 500
    assert {shifted for training, shifted in seen if training} == {True}
    assert {shifted for training, shifted in seen if not training} == {False}


def test_held_out_batches_go_round_and_round_shuffled(tmp_path):
    watched = _Watched(tmp_path)
    algorithm = _noted(watched)
    held_out = {tuple(row) for row in watched.job.valid.batch(torch.arange(10)).inputs.tolist()}
    epochs = [algorithm.batches[start : start + 2] for start in range(0, 14, 2)]
    orders = set()
    for epoch in epochs:
        rows = [tuple(row) for _, valid in epoch for row in valid.inputs.tolist()]
        assert len(set(rows)) == 8  # two full batches of ten examples, none twice
        assert set(rows) <= held_out
        orders.add(tuple(rows))
    assert len(orders) == len(epochs)


def test_the_algorithm_hears_of_each_epoch_and_the_model_of_its_progress(tmp_path):
    watched = _Watched(tmp_path)
    assert _noted(watched).epochs == [(0, 3), (1, 3), (2, 3)]
    assert watched.job.model.network.progress == pytest.approx([0, 1 / 3, 2 / 3])


def test_max_steps_ends_within_an_epoch_with_a_record_and_a_checkpoint(tmp_path):
    watched = _Watched(tmp_path).fit(max_steps=7)
    assert [step[1:3] for step in watched.steps] == [(step, 7) for step in range(1, 8)]
    assert [record.step for record in watched.records] == [1, 2]
    assert "search/valid_loss" in watched.records[-1].scalars
    assert Checkpoints(tmp_path).latest()["step"] == 7
    again = _Watched(tmp_path).fit(max_steps=7)
    assert (again.steps, again.records) == ([], [])
    assert _equal(_weights(again.job.model), _weights(watched.job.model))


def test_max_steps_beyond_the_epochs_changes_nothing(tmp_path):
    assert len(_Watched(tmp_path).fit(max_steps=100).steps) == 15


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"warmup_epochs": 1}, [0, 0.06, 0.12, 0.18, 0.24, *[0.3] * 5, *[0.15] * 5]),
        ({"each_step": True}, [0.3 * math.cos(math.pi * step / 30) ** 2 for step in range(15)]),
    ],
)
def test_the_learning_rate_can_move_each_step(tmp_path, settings, expected):
    algorithm = _noted(_Watched(tmp_path), schedule=schedules.component("cosine", **settings))
    assert algorithm.rates == pytest.approx(expected)


def test_chunks_give_the_step_of_the_whole_batch(tmp_path):
    fitted = []
    for chunks in (1, 3):
        job = {"train": _split(22, dtype=torch.float64), "valid": _split(10, 1, torch.float64)}
        watched = _Watched(tmp_path / str(chunks), _model().double(), **job).fit(chunks=chunks)
        fitted.append((_weights(watched.job.model), watched.records[-1].scalars["search/train_loss"]))
    for name, weight in fitted[0][0].items():
        torch.testing.assert_close(fitted[1][0][name], weight, rtol=1e-12, atol=1e-14)
    assert fitted[1][1] == pytest.approx(fitted[0][1], rel=1e-12)


def test_bfloat16_is_for_the_forward_pass_alone(tmp_path):
    watched = _Watched(tmp_path).fit(precision="bfloat16")
    exact = _Watched(tmp_path / "exact").fit()
    assert watched.job.model.network.dtypes == {torch.bfloat16}
    assert exact.job.model.network.dtypes == {torch.float32}
    for one, other in zip(watched.records, exact.records, strict=True):
        # bfloat16 has 8 bits: three epochs stay within some percent of each other
        assert one.scalars["search/train_loss"] == pytest.approx(other.scalars["search/train_loss"], rel=0.05)
    assert {weight.dtype for weight in watched.job.model.parameters()} == {torch.float32}


class _Differences(Algorithm):
    """Trains the weights, as if it also subtracted gradients at nearby weights."""

    uses_valid = False
    takes_differences = True

    def __init__(self, model, objective):
        pass

    def step(self, train, valid, update_weights):
        return update_weights(train)


@pytest.mark.parametrize("fast", [torch.bfloat16, None])
def test_auto_takes_what_the_device_is_fast_in(tmp_path, monkeypatch, fast):
    monkeypatch.setattr(_precision, "fast_precision", lambda device: fast)
    watched = _Watched(tmp_path).fit(precision="auto")
    assert watched.job.model.network.dtypes == {fast or torch.float32}


def test_auto_takes_no_lower_precision_for_finite_differences(tmp_path, monkeypatch):
    monkeypatch.setattr(_precision, "fast_precision", lambda device: torch.bfloat16)
    watched = _Watched(tmp_path, make_algorithm=_Differences).fit(precision="auto")
    assert watched.job.model.network.dtypes == {torch.float32}


def test_finite_differences_in_bfloat16_are_refused_before_anything_is_computed(tmp_path):
    watched = _Watched(tmp_path, make_algorithm=_Differences)
    with pytest.raises(
        UnsupportedError, match=r"must be float32 or auto .* takes finite differences, got bfl"
    ):
        Standard(precision="bfloat16").check(watched.job.model, watched.job.objective, _Differences)
    with pytest.raises(UnsupportedError, match="must be float32 or auto"):
        watched.fit(precision="bfloat16")
    assert watched.job.model.network.dtypes == set()


@pytest.mark.parametrize(("began", "resumed"), [(torch.bfloat16, None), (None, torch.bfloat16)])
def test_a_resumed_stage_keeps_the_precision_that_auto_took_at_first(tmp_path, monkeypatch, began, resumed):
    def stop(record):
        raise KeyboardInterrupt

    monkeypatch.setattr(_precision, "fast_precision", lambda device: began)
    with pytest.raises(KeyboardInterrupt):
        _Watched(tmp_path, start_tracking=lambda start: stop).fit(precision="auto", checkpoint_steps=1)
    monkeypatch.setattr(_precision, "fast_precision", lambda device: resumed)
    watched = _Watched(tmp_path).fit(precision="auto")
    assert watched.steps[0][1] > 1
    assert watched.job.model.network.dtypes == {began or torch.float32}


class _Layout(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, CLASSES)
        self.seen = set()

    def forward(self, images):
        self.seen.add(images.is_contiguous(memory_format=torch.channels_last))
        return self.head(self.conv(images).mean((2, 3)))


def test_channels_last_changes_the_memory_and_not_the_result(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(12, 3, 6, 5, generator=generator)
    split = TensorSplit(images, torch.arange(12) % CLASSES)
    fitted = []
    for channels_last in (False, True):
        torch.manual_seed(1)
        model = Model(_Layout())
        watched = _Watched(tmp_path / str(channels_last), model, train=split, valid=split)
        watched.fit(channels_last=channels_last)
        assert model.network.seen == {channels_last}
        weight = model.network.conv.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last
        fitted.append(_weights(model))
    for name, weight in fitted[0].items():
        torch.testing.assert_close(fitted[1][name], weight, rtol=1e-4, atol=1e-6)


def test_an_algorithm_that_needs_held_out_examples_is_refused_without_any(tmp_path):
    watched = _Watched(tmp_path, _model(alpha=True), make_algorithm=DartsBilevel, valid=_split(0))
    with pytest.raises(DataError, match=r"DartsBilevel learns from .* set search\.valid_fraction above 0"):
        watched.fit()


def test_training_without_held_out_examples_just_has_no_validation(tmp_path):
    watched = _Watched(tmp_path, valid=_split(0)).fit()
    assert len(watched.records) == 3
    assert not any("valid" in tag for record in watched.records for tag in record.scalars)


def test_the_weight_optimizer_holds_the_weights_that_learn_and_no_alpha(tmp_path):
    model = _model(alpha=True)
    model.network.layers[0].requires_grad_(False)
    before, held = _weights(model), []

    class Look(_Noted):
        def step(self, train, valid, update_weights):
            held[:] = [p for group in update_weights.optimizer.param_groups for p in group["params"]]
            return update_weights(train)

    _Watched(tmp_path, model, make_algorithm=Look).fit()
    assert list(map(id, held)) == [id(parameter) for parameter in model.network.layers[3].parameters()]
    after = _weights(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"network.layers.3.weight", "network.layers.3.bias"}


def test_the_result_follows_from_the_seed_whatever_was_drawn_before(tmp_path):
    fitted = []
    for index, seed in enumerate((3, 3, 4)):
        watched = _Watched(tmp_path / str(index), _model(dropout=0.4), seed=seed)
        torch.manual_seed(index)
        fitted.append(_weights(watched.fit().job.model))
    assert _equal(fitted[0], fitted[1])
    assert not _equal(fitted[0], fitted[2])


class _StoppedError(Exception):
    pass


def _bilevel(folder, **changes):
    return _Watched(folder, _model(dropout=0.4, alpha=True), make_algorithm=DartsBilevel, **changes)


def _stop_at_step(at):
    def progress(stage, step, num_steps, epoch, metrics):
        if step == at:
            raise _StoppedError

    return {"progress": progress}


def _stop_between_record_and_checkpoint(at):
    def start_tracking(start):
        def track(record):
            if record.step == at:
                raise _StoppedError

        return track

    return {"start_tracking": start_tracking}


@pytest.mark.parametrize(
    ("stop", "start"),
    [
        (_stop_at_step(1), 1),
        (_stop_at_step(5), 1),
        (_stop_at_step(6), 2),
        (_stop_at_step(13), 3),
        (_stop_between_record_and_checkpoint(1), 1),
        (_stop_between_record_and_checkpoint(3), 3),
    ],
)
def test_a_training_that_was_stopped_goes_on_to_the_same_end(tmp_path, stop, start):
    whole = _bilevel(tmp_path / "whole").fit()
    with pytest.raises(_StoppedError):
        _bilevel(tmp_path / "stopped", **stop).fit()
    resumed = _bilevel(tmp_path / "stopped").fit()
    assert resumed.starts == [start]
    assert resumed.steps == whole.steps[5 * (start - 1) :]
    assert _equal(resumed.job.model.state_dict(), whole.job.model.state_dict())
    for one, other in zip(resumed.records, whole.records[start - 1 :], strict=True):
        assert one.step == other.step
        figures = {tag: value for tag, value in one.scalars.items() if tag != "search/images_per_second"}
        assert figures == {tag: other.scalars[tag] for tag in figures}


def test_two_stops_are_as_good_as_none(tmp_path):
    whole = _bilevel(tmp_path / "whole").fit()
    for stop in (_stop_at_step(7), _stop_at_step(12)):
        with pytest.raises(_StoppedError):
            _bilevel(tmp_path / "stopped", **stop).fit()
    assert _equal(_bilevel(tmp_path / "stopped").fit().job.model.state_dict(), whole.job.model.state_dict())


def test_a_finished_training_is_not_trained_again(tmp_path):
    whole = _bilevel(tmp_path).fit()
    again = _bilevel(tmp_path).fit()
    assert (again.steps, again.records, again.starts) == ([], [], [4])
    assert _equal(again.job.model.state_dict(), whole.job.model.state_dict())


def _followed(folder, **settings):
    """A training, and its weights before the first step and after each."""
    watched = _Watched(folder)
    seen = [_weights(watched.job.model)]

    class Follow(_Noted):
        def step(self, train, valid, update_weights):
            metrics = update_weights(train)
            seen.append(_weights(self.model[0]))
            return metrics

    watched.job = replace(watched.job, make_algorithm=Follow)
    return watched.fit(**settings), seen


def test_a_training_ends_with_the_average_of_its_weights_and_goes_on_from_themselves(tmp_path):
    _, plain = _followed(tmp_path / "plain")
    watched, seen = _followed(tmp_path / "averaged", ema_decay=0.4)
    assert all(_equal(one, other) for one, other in zip(seen, plain, strict=True))
    want = seen[0]
    for step, weights in enumerate(seen[1:], 1):
        decay = min(0.4, (1 + step) / (10 + step))
        want = {name: decay * want[name] + (1 - decay) * value for name, value in weights.items()}
        if step % 5 == 0:  # the end of an epoch, where the averages are validated
            model = _model()
            model.load_state_dict(want)
            valid = nn.functional.cross_entropy(
                model.eval()(_split(10, 1)._all.inputs), _split(10, 1)._all.targets
            )
            found = watched.records[step // 5 - 1].scalars["search/valid_loss"]
            assert found == pytest.approx(valid.item(), rel=1e-5)
    for name, value in _weights(watched.job.model).items():
        torch.testing.assert_close(value, want[name])
    assert not _equal(_weights(watched.job.model), seen[-1])


def test_a_step_that_is_left_out_is_left_out_of_the_average(tmp_path):
    def fit(name, train):
        watched = _Watched(tmp_path / name, train=train, valid=_split(0))
        settings = {"ema_decay": 0.9, "epochs": 1, "schedule": CONSTANT, "on_non_finite": "skip"}
        return _weights(watched.fit(batch_size=4, **settings).job.model)

    good = _split(8)
    with pytest.warns(FaultWarning, match="its step is left out"):
        found = fit("bad", _Poisoned(good, torch.tensor([0])))
    model = _model()
    average = WeightAverage(model, 0.9)
    order = BatchStream(
        good, AsGiven(), batch_size=4, device=CPU, training=True, seed=3, purpose=("search", "train")
    )
    (batch,) = (each for each in order.epoch(0) if not (each.inputs == good._all.inputs[0]).all(1).any())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9, weight_decay=0.01)
    nn.functional.cross_entropy(model.train()(batch.inputs), batch.targets).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    average.update()
    average.take()
    assert _equal(found, _weights(model))


class _Poisoned:
    """A split some inputs of which are no numbers."""

    def __init__(self, split, poisoned):
        self._split, self._poisoned = split, poisoned

    def __len__(self):
        return len(self._split)

    def batch(self, indices):
        batch = self._split.batch(indices)
        wrong = torch.isin(indices, self._poisoned)[:, None]
        return Batch(batch.inputs.masked_fill(wrong, math.nan), batch.targets)


def _contrary(count):
    """Held-out examples that a network does the worse on the more it learns."""
    inputs, targets = _split(count, seed=1)._all.inputs, _split(count, seed=1)._all.targets
    return TensorSplit(inputs, (targets + 1) % CLASSES)


def test_a_training_ends_when_patience_does_with_the_weights_of_the_best_epoch(tmp_path):
    notes = []
    changes = {"valid": _contrary(40), "note": notes.append}
    settings = {"schedule": CONSTANT, "epochs": 9, "patience": 2, "keep_checkpoints": 1}
    ended = _Watched(tmp_path / "ended", **changes).fit(ends_with="best", **settings)
    losses = [record.scalars["search/valid_loss"] for record in ended.records]
    best = min(range(len(losses)), key=losses.__getitem__) + 1
    assert len(losses) == best + 2 < 9
    one = _Watched(tmp_path / "one", valid=_contrary(40)).fit(**{**settings, "epochs": best})
    assert _equal(ended.job.model.state_dict(), one.job.model.state_dict())
    assert notes == [
        f"search: ended after {best + 2} of 9 epochs, because the validation loss was lowest after epoch "
        f"{best}",
        f"search: the network is that of epoch {best} of {best + 2}, with the lowest validation loss",
    ]
    again = _Watched(tmp_path / "ended", **changes).fit(ends_with="best", **settings)
    assert (again.steps, again.records) == ([], [])
    assert _equal(again.job.model.state_dict(), ended.job.model.state_dict())
    last = _Watched(tmp_path / "last", valid=_contrary(40)).fit(**settings)
    of_three = []
    three = _Watched(tmp_path / "three", valid=_contrary(40), note=of_three.append)
    three.fit(**{**settings, "epochs": best + 2})
    assert _equal(last.job.model.state_dict(), three.job.model.state_dict())
    assert of_three == []  # nothing was left to end


class _Looks(Guard):
    """Notes what it is told."""

    has_ended = False

    def __init__(self):
        self.told = []

    def measure(self, epoch, metrics, *, is_last):
        self.told.append((epoch, metrics["valid_loss"], is_last))
        return {}

    def judge(self, epoch, copy_upper):
        return None

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_a_guard_hears_the_validation_of_each_epoch_and_which_is_the_last(tmp_path):
    guard = _Looks()
    watched = _Watched(tmp_path, valid=_contrary(40), guard=guard)
    watched.fit(schedule=CONSTANT, epochs=9, patience=2)
    losses = [record.scalars["search/valid_loss"] for record in watched.records]
    assert [told[:2] for told in guard.told] == list(enumerate(losses, 1))
    assert [is_last for *_, is_last in guard.told] == [record.is_last for record in watched.records]
    assert [is_last for *_, is_last in guard.told].index(True) == len(losses) - 1 < 8


@pytest.mark.parametrize("stops", [(4,), (7, 12)])
def test_averages_and_patience_survive_being_stopped(tmp_path, stops):
    settings = {"ema_decay": 0.9, "patience": 2, "ends_with": "best", "weight_decay_on": "matrices"}
    valid = _contrary(12)
    whole = _bilevel(tmp_path / "whole", valid=valid).fit(**settings)
    for at in stops:
        with pytest.raises(_StoppedError):
            _bilevel(tmp_path / "stopped", valid=valid, **_stop_at_step(at)).fit(**settings)
    resumed = _bilevel(tmp_path / "stopped", valid=valid).fit(**settings)
    assert _equal(resumed.job.model.state_dict(), whole.job.model.state_dict())


@pytest.mark.parametrize("settings", [{"patience": 3}, {"ends_with": "best"}])
def test_what_decides_by_held_out_examples_is_refused_without_any(tmp_path, settings):
    assert Standard(**settings).uses_valid
    with pytest.raises(DataError, match=r"search\.valid_fraction above 0"):
        _Watched(tmp_path, valid=_split(0)).fit(**settings)


def _rprop(params: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
    """Resilient propagation, which has no weight decay."""
    return torch.optim.Rprop(params)


def test_an_optimizer_without_weight_decay_is_refused_where_it_matters(tmp_path, monkeypatch):
    monkeypatch.setitem(optimizers._registered, "rprop", _rprop)
    with pytest.raises(UnsupportedError, match="must be all where the optimizer has no weight decay"):
        _Watched(tmp_path).fit(optimizer=optimizers.component("rprop"), weight_decay_on="matrices")


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # PyTorch's compiler, of PyTorch
def test_a_compiled_training_is_said_to_be_one_and_goes_on_exactly(tmp_path):
    def fit(folder, **settings):
        torch.manual_seed(0)
        notes = []
        model = Model(nn.Sequential(nn.Linear(4, CLASSES, bias=False)))  # of which no C++ is made

        def hear(active):
            (told,) = [each.value for each in active if each.name == "compile"]
            assert (told == "on") is (model.network._compiled_call_impl is not None)

        watched = _Watched(tmp_path / folder, model, valid=_split(0), note=notes.append, active=hear)
        watched.fit(**{"epochs": 2, **settings})
        return _weights(model), notes

    plain, _ = fit("plain")
    whole, notes = fit("whole", compile=True)
    fit("parts", compile=True, max_steps=5)  # an epoch
    parts, _ = fit("parts", compile=True)
    assert _equal(parts, whole)
    torch.testing.assert_close(whole, plain, rtol=1e-5, atol=1e-6)
    assert notes[0].startswith("search: passes were compiled by PyTorch")


def test_what_cannot_be_compiled_is_refused_before_anything_is_computed():
    space = nasframe.registries["spaces"]["nas_bench_201"](Task(), channels=2, cells=1)
    model = nasframe.supernet(space, "uniform_path")
    with pytest.raises(UnsupportedError, match="compile must be false where passes run drawn paths"):
        Standard(compile=True).check(model, CrossEntropy(), WeightsOnly)


def test_graphs_of_kernels_are_refused_where_there_are_none(tmp_path):
    with pytest.raises(UnsupportedError, match="compile must be true, false or auto on cpu"):
        _Watched(tmp_path).fit(compile="graphs")


def test_a_training_on_resident_examples_is_the_same_and_says_so(tmp_path):
    notes = []
    host = _Watched(tmp_path / "host").fit()
    resident = _Watched(tmp_path / "resident", note=notes.append).fit(resident="always")
    assert _equal(_weights(resident.job.model), _weights(host.job.model))
    assert notes == ["search: all 22 train examples were held by cpu"]


def test_examples_stay_with_the_host_where_the_device_is_the_host(tmp_path):
    notes = []
    _Watched(tmp_path, note=notes.append).fit(epochs=1)
    assert notes == []


def test_examples_that_are_all_read_before_cannot_be_left_out():
    with pytest.raises(UnsupportedError, match="resident must be auto or never"):
        Standard(resident="always", on_unreadable="skip")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_examples_that_fit_are_held_by_a_gpu(tmp_path):
    notes = []
    watched = _Watched(tmp_path, note=notes.append, device=torch.device("cuda")).fit(epochs=1)
    assert notes == ["search: all 22 train examples were held by cuda"]
    assert all(parameter.is_cuda for parameter in watched.job.model.parameters())


class _Observed(Algorithm):
    """Trains the weights, and notes what its steps really have."""

    uses_valid = False

    def __init__(self, model, objective):
        self.model, self.optimizers, self.threads = (model,), [], set()

    def step(self, train, valid, update_weights):
        self.optimizers.append(update_weights.optimizer)
        self.threads |= {each.name.partition("_")[0] for each in threading.enumerate()}
        return update_weights(train)


def _images(side):
    generator = torch.Generator().manual_seed(0)
    return TensorSplit(torch.randn(12, 3, side, side, generator=generator), torch.arange(12) % CLASSES)


@pytest.mark.parametrize(
    ("side", "settings", "expected"),
    [
        (32, {}, {"channels_last": "on"}),
        (31, {}, {"channels_last": "off"}),
        (
            31,
            {"precision": "bfloat16", "channels_last": True, "prefetch": "always", "resident": "never"},
            {"precision": "bfloat16", "channels_last": "on", "prefetch": "on"},
        ),
        (8, {"resident": "always", "prefetch": "always"}, {"resident": "train"}),
        (8, {"optimizer": optimizers.component("sgd", lr=0.1, fused=True)}, {"optimizer": "SGD, fused"}),
    ],
)
def test_what_is_told_of_the_settings_is_what_happened(tmp_path, side, settings, expected):
    torch.manual_seed(0)
    model, made, told, split = Model(_Layout()), [], [], _images(side)

    def make(*parts):
        made.append(_Observed(*parts))
        return made[0]

    _Watched(tmp_path, model, train=split, valid=split, make_algorithm=make, active=told.extend).fit(
        epochs=1, **settings
    )
    values = {each.name: each.value for each in told}
    assert values == {
        "precision": "float32", "compile": "off", "channels_last": "off", "resident": "off",
        "prefetch": "off", "optimizer": "SGD in one call", **expected,
    }  # fmt: skip
    assert all(each.reason for each in told)
    weight, optimizer = model.network.conv.weight, made[0].optimizers[0]
    in_last = weight.is_contiguous(memory_format=torch.channels_last)
    assert (values["channels_last"] == "on") is in_last
    assert model.network.seen == {in_last}  # also in validation
    assert model.precision == values["precision"]
    assert ("batches" in made[0].threads) is (values["prefetch"] == "on")
    taken = {name for name in ("foreach", "fused") if optimizer.param_groups[0][name]}
    assert taken == {"fused" if "fused" in values["optimizer"] else "foreach"}


def test_an_upper_level_keeps_its_digits_unless_asked_to_lose_them(tmp_path, monkeypatch):
    monkeypatch.setattr(_precision, "fast_precision", lambda device: torch.bfloat16)
    for precision, taken in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        model, told = _model(alpha=True), []
        _Watched(tmp_path / precision, model, active=told.extend).fit(epochs=1, precision=precision)
        assert model.network.dtypes == {taken}
        assert (
            told[0].reason
            == {
                "auto": "gradients of the upper level lose digits in bfloat16",
                "bfloat16": "as the recipe says",
            }[precision]
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("settings", [{}, {"resident": "never"}, {"resident": "never", "prefetch": "never"}])
def test_batches_that_reach_a_gpu_in_any_way_are_the_same(tmp_path, settings):
    fitted, told, cuda = [], [], torch.device("cuda")
    for changed in ({}, settings):
        watched = _Watched(tmp_path / str(len(fitted)), device=cuda, active=told.extend)
        watched.fit(epochs=2, precision="float32", **changed)
        fitted.append(_weights(watched.job.model))
    for name, weight in fitted[0].items():
        torch.testing.assert_close(fitted[1][name], weight, rtol=1e-5, atol=1e-6)
    last = {each.name: each.value for each in told}
    assert last["resident"] == ("off" if settings else "train")
    assert last["prefetch"] == ("on" if settings == {"resident": "never"} else "off")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_passes_on_a_gpu_learn_what_others_do(tmp_path):
    fitted, split = [], _images(32)
    for compile in (False, True, "graphs"):
        torch.manual_seed(0)
        model = Model(_Layout())
        watched = _Watched(
            tmp_path / str(compile), model, train=split, valid=split, device=torch.device("cuda")
        )
        watched.fit(epochs=1, precision="float32", compile=compile)
        fitted.append(_weights(model))
    for name, weight in fitted[0].items():
        for others in fitted[1:]:
            torch.testing.assert_close(others[name], weight, rtol=1e-3, atol=1e-4)
