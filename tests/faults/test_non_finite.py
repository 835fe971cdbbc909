"""Numbers that are not finite are noticed in their step, and dealt with as the recipe says."""

import math

import pytest
import torch
from torch import nn

from nasframe.algorithms.weights_only import WeightsOnly
from nasframe.core import (
    Algorithm,
    ArchParam,
    AsGiven,
    BatchStream,
    Checkpoints,
    Job,
    Model,
    Subset,
    TensorSplit,
    optimizers,
    schedules,
)
from nasframe.errors import FaultWarning, NonFiniteError, TrainingError
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.trainers.standard import Standard

CPU = torch.device("cpu")
BAD = 5  # the example that does it
STEPS = 6  # of an epoch: 24 examples in batches of 4


class _Network(nn.Module):
    """Overflows, or has an infinite slope, where an input says so."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.alpha = ArchParam(torch.zeros(3))

    def forward(self, x):
        hidden = self.norm(self.first(x[:, :4]))
        slope = (x[:, 4:5] * self.first.weight.sum()).abs().sqrt()  # finite at 0, where its slope is not
        return self.second(hidden) * torch.exp(self.alpha) + slope.mean() + x[:, 5:].exp()


def _split(column=None):
    """Inputs whose columns 4 and 5 are harmless but at one example; the first 2 are held back."""
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(26, 4, generator=generator), torch.tensor([[1.0, 0.0]] * 26)], dim=1)
    if column == "gradient":
        x[BAD, 4] = 0.0
    if column == "loss":
        x[BAD, 5] = 1e4
    return Subset(TensorSplit(x, x[:, :3].argmax(1)), torch.arange(2, 26))


class _PoisonedAlpha(Algorithm):
    """Trains the weights, and at one step makes an alpha infinite."""

    uses_valid = False

    def __init__(self, model, objective):
        self._model, self._steps = (model,), 0

    def step(self, train, valid, update_weights):
        metrics = update_weights(train)
        if (train.inputs[:, 5] == 0.5).any():
            with torch.no_grad():
                next(self._model[0].parameters_at("upper"))[0] = math.inf
        return metrics


def _job(folder, split, make_algorithm=WeightsOnly):
    torch.manual_seed(0)
    records = []
    job = Job(
        stage="search",
        seed=3,
        device=CPU,
        model=Model(_Network()),
        objective=CrossEntropy(),
        make_algorithm=make_algorithm,
        train=split,
        valid=TensorSplit(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)),
        preprocess=AsGiven(),
        augment=(),
        describe=lambda record: record,
        start_tracking=lambda start: records.append,
        checkpoints=Checkpoints(folder),
        progress=lambda *told: None,
    )
    return job, records


def _fit(job, **settings):
    sgd = optimizers.component("sgd", lr=0.1, momentum=0.9)
    Standard(epochs=2, batch_size=4, optimizer=sgd, schedule=schedules.component("constant"), **settings).fit(
        job
    )


def _stream(split):
    return BatchStream(
        split, AsGiven(), batch_size=4, device=CPU, training=True, seed=3, purpose=("search", "train")
    )


def _bad_steps(split):
    """The steps, counted from 0, whose batch has the bad example."""
    batches = [_stream(split).examples(epoch, index) for epoch in range(2) for index in range(STEPS)]
    return [step for step, examples in enumerate(batches) if BAD in examples]


def _plain_training(split, steps):
    """The state after some of the batches alone, by a loop written out."""
    torch.manual_seed(0)
    network = _Network()
    optimizer = torch.optim.SGD(
        [value for name, value in network.named_parameters() if name != "alpha"], lr=0.1, momentum=0.9,
        weight_decay=3e-4,
    )  # fmt: skip
    batches = [batch for epoch in range(2) for batch in _stream(split).epoch(epoch)]
    for step in steps:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(batches[step].inputs), batches[step].targets).backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 5.0)
        optimizer.step()
    return network.state_dict()


@pytest.mark.parametrize(
    ("column", "what", "source"),
    [
        ("loss", "train_loss", r"comes from the output of "),
        ("gradient", "gradient", r"comes from the gradients of \S*first\.weight"),
    ],
)
def test_a_run_stops_in_the_step_and_names_figure_source_and_examples(tmp_path, column, what, source):
    split = _split(column)
    job, _ = _job(tmp_path, split)
    at = _bad_steps(split)[0]
    with pytest.raises(NonFiniteError, match=source) as error:
        _fit(job)
    message = str(error.value)
    assert f"search: step {at + 1}: " in message
    assert f"not: {what}" in message
    named = message.partition("training examples ")[2].partition(";")[0]
    assert [int(number) for number in named.split(", ")] == _stream(split).examples(0, at)
    assert "the checkpoint of the step before has the state without it" in message
    _check_saved_before(job, split, at)


def _check_saved_before(job, split, at):
    """The newest checkpoint has what plain training comes to before a step; the model has it again."""
    saved = job.checkpoints.latest()
    assert saved["step"] == at
    expected = _plain_training(split, range(at))
    for name, value in saved["model"].items():
        assert torch.equal(value, expected[name.removeprefix("network.")]), name
        assert torch.equal(value, job.model.state_dict()[name]), name


def test_an_alpha_that_is_not_finite_is_named_in_its_step_whose_weights_are_undone(tmp_path):
    split = _split()
    split._split._all.inputs[BAD, 5] = 0.5
    job, _ = _job(tmp_path, split, _PoisonedAlpha)
    at = _bad_steps(split)[0]
    with pytest.raises(NonFiniteError, match=rf"step {at + 1}: .*not: \S*alpha;"):
        _fit(job)
    _check_saved_before(job, split, at)


def test_without_room_for_a_checkpoint_the_newest_one_is_named_instead(tmp_path):
    split = _split("loss")
    (tmp_path / "checkpoints").write_text("in the way")
    job, _ = _job(tmp_path / "checkpoints", split)
    with (
        pytest.warns(FaultWarning, match=f"the checkpoint of step {_bad_steps(split)[0]} is not there"),
        pytest.raises(NonFiniteError, match="; the newest checkpoint has the state without it"),
    ):
        _fit(job)


@pytest.mark.parametrize("column", ["loss", "gradient"])
def test_skipped_steps_are_as_if_their_batches_had_not_been(tmp_path, column):
    split = _split(column)
    job, records = _job(tmp_path, split)
    with pytest.warns(FaultWarning, match="its step is left out"):
        _fit(job, on_non_finite="skip")
    bad = _bad_steps(split)
    assert len(bad) == 2
    expected = _plain_training(split, [step for step in range(2 * STEPS) if step not in bad])
    assert all(
        torch.equal(value, expected[name.split(".", 1)[-1] if name not in expected else name])
        for name, value in job.model.state_dict().items()
    )
    assert [record.scalars["search/skipped_steps"] for record in records] == [1.0, 1.0]


def test_a_rollback_goes_on_behind_the_step_with_the_state_of_the_newest_checkpoint(tmp_path):
    split = _split("loss")
    job, _ = _job(tmp_path, split)
    bad, kept = _bad_steps(split), []
    for step in range(2 * STEPS):
        if step in bad:  # checkpoints are made after each second step, and each epoch
            kept = kept[: len([each for each in kept if each < step - step % 2])]
        else:
            kept.append(step)
    with pytest.warns(FaultWarning, match="back to step"):
        _fit(job, on_non_finite="rollback", checkpoint_steps=2)
    expected = _plain_training(split, kept)
    for name, value in job.model.state_dict().items():
        assert torch.equal(value, expected[name if name in expected else name.split(".", 1)[-1]]), name


def test_an_epoch_of_which_nothing_is_left_ends_the_run(tmp_path):
    split = _split()
    split._split._all.inputs[:, 5] = 1e4
    job, _ = _job(tmp_path, split)
    with (
        pytest.warns(FaultWarning, match="left out"),
        pytest.raises(TrainingError, match="all 6 were left out"),
    ):
        _fit(job, on_non_finite="skip")
