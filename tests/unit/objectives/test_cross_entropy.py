import math
from collections import OrderedDict

import pytest
import torch

from nasframe.errors import UnsupportedError
from nasframe.objectives.cross_entropy import CrossEntropy


def _by_hand(logits, targets, smoothing=0.0):
    """Mean over the batch, in plain Python."""
    losses = []
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        for_class = [log_sum - value for value in row]
        losses.append((1 - smoothing) * for_class[target] + smoothing * sum(for_class) / len(row))
    return sum(losses) / len(losses)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits, first, second = torch.randn(3, 8, 10, generator=generator, dtype=torch.float64)
    return logits, first, second, torch.randint(10, (8,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_cross_entropy(batch, smoothing):
    logits, _, _, targets = batch
    loss = CrossEntropy(label_smoothing=smoothing).loss(logits, targets)
    assert loss.item() == pytest.approx(_by_hand(logits, targets, smoothing), rel=1e-12)


def test_a_plain_tensor_is_the_logits_of_the_whole_batch():
    """A-11: it was unpacked along the batch, so that the first row stood for all."""
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0], [9.0, 0.0]])
    targets = torch.tensor([0, 1, 1, 1])
    objective = CrossEntropy()
    assert objective.metrics(logits, targets)["accuracy"] == 0.75
    assert objective.loss(logits, targets).item() == pytest.approx(_by_hand(logits, targets), rel=1e-6)


def test_auxiliary_logits_count_with_their_weight_however_they_are_returned(batch):
    logits, first, second, targets = batch
    one = _by_hand(logits, targets) + 0.25 * _by_hand(first, targets)
    two = one + 0.25 * _by_hand(second, targets)
    for outputs, expected in (
        ((logits, first), one),
        ([logits, first, second], two),
        ({"logits": logits, "auxiliary": first}, one),
        (OrderedDict(logits=logits, auxiliary=[first, second], features=None), two),
        ({"logits": logits}, _by_hand(logits, targets)),
        ((logits,), _by_hand(logits, targets)),
    ):
        loss = CrossEntropy(auxiliary_weight=0.25).loss(outputs, targets)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_metrics_do_not_look_at_auxiliary_logits(batch):
    logits, first, _, targets = batch
    objective = CrossEntropy()
    for outputs in ((logits, first), {"logits": logits, "auxiliary": first}):
        assert objective.metrics(outputs, targets) == objective.metrics(logits, targets)


def test_pieces_of_a_batch_put_together_by_size_give_the_loss_of_the_whole(batch):
    logits, first, _, targets = batch
    objective = CrossEntropy(label_smoothing=0.1)
    pieces = [(0, 3), (3, 8)]
    together = sum((b - a) / 8 * objective.loss((logits[a:b], first[a:b]), targets[a:b]) for a, b in pieces)
    torch.testing.assert_close(together, objective.loss((logits, first), targets), rtol=1e-12, atol=0)


def test_accuracy_and_top5_accuracy_are_shares():
    logits = torch.arange(10.0).flip(0).repeat(4, 1)  # classes 0, 1, 2 … from the likeliest on
    metrics = CrossEntropy().metrics(logits, torch.tensor([0, 4, 5, 9]))
    assert {name: value.item() for name, value in metrics.items()} == {"accuracy": 0.25, "top5_accuracy": 0.5}


@pytest.mark.parametrize(("num_classes", "has_top5"), [(2, False), (5, False), (6, True)])
def test_there_is_a_top5_accuracy_only_with_more_than_5_classes(num_classes, has_top5):
    """R-14: it was hard-coded, and failed below 5 classes."""
    metrics = CrossEntropy().metrics(torch.randn(4, num_classes), torch.zeros(4, dtype=torch.long))
    assert ("top5_accuracy" in metrics) is has_top5


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64,) * 2],
)
def test_the_loss_is_computed_in_float32_or_better(given, computed):
    logits = torch.full((2, 3), 0.1, dtype=given)
    loss = CrossEntropy().loss(logits, torch.tensor([0, 1]))
    assert loss.dtype == computed
    assert loss.item() == pytest.approx(math.log(3), rel=1e-6)


def test_targets_may_be_class_probabilities(batch):
    logits, _, _, targets = batch
    other = (targets + 1) % 10
    mixed = (
        0.7 * torch.eye(10, dtype=torch.float64)[targets] + 0.3 * torch.eye(10, dtype=torch.float64)[other]
    )
    expected = 0.7 * _by_hand(logits, targets) + 0.3 * _by_hand(logits, other)
    objective = CrossEntropy()
    assert objective.loss(logits, mixed).item() == pytest.approx(expected, rel=1e-12)
    assert objective.metrics(logits, mixed) == objective.metrics(logits, targets)


def test_metrics_carry_no_gradient(batch):
    logits, _, _, targets = batch
    metrics = CrossEntropy().metrics(logits.requires_grad_(), targets)
    assert not any(value.requires_grad for value in metrics.values())
    assert all(value.shape == () for value in metrics.values())


@pytest.mark.parametrize(
    ("outputs", "got"),
    [
        ("text", "got str"),
        (None, "got NoneType"),
        ((), r"got a tuple of \[\]"),
        ([torch.ones(2, 3), "x"], r"a list of \['Tensor', 'str'\]"),
        ({"prediction": torch.ones(2, 3)}, r"a dict with \['prediction'\]"),
        (torch.ones(3), r"one row for each of 2 targets, got shape \(3,\)"),
        ((torch.ones(2, 3), torch.ones(1, 3)), r"got shape \(1, 3\)"),
    ],
)
def test_other_outputs_are_refused_with_what_they_are(outputs, got):
    objective, targets = CrossEntropy(), torch.tensor([0, 1])
    for method in (objective.loss, objective.metrics):
        with pytest.raises(UnsupportedError, match=got):
            method(outputs, targets)
