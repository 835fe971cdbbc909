import threading
import warnings
from itertools import islice

import pytest
import torch

from nasframe.core import AsGiven, Augmentation, Batch, BatchStream, NormalizeImages, TensorSplit
from nasframe.errors import DataError

CPU = torch.device("cpu")


class _AddNoise(Augmentation):
    def __call__(self, batch, generator):
        noise = torch.rand(batch.inputs.shape, generator=generator, device=batch.inputs.device)
        return Batch(batch.inputs + noise, batch.targets)


class _Remember(Augmentation):
    def __init__(self):
        self.seen = []

    def __call__(self, batch, generator):
        self.seen.append(batch.inputs.clone())
        return batch


class _RememberNormalized(_Remember):
    after_normalization = True


def _stream(count=10, size=3, **settings):
    split = TensorSplit(torch.arange(count).float(), torch.arange(count))
    return BatchStream(split, AsGiven(), batch_size=size, device=CPU, **settings)


def _epoch(stream, epoch, start=0):
    return [batch.targets.tolist() for batch in stream.epoch(epoch, start)]


def test_evaluation_sees_every_example_once_in_order():
    stream = _stream(augment=[_AddNoise()])
    assert _epoch(stream, 0) == _epoch(stream, 5) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert len(stream) == 4


def test_evaluation_never_sees_an_augmentation():
    batches = list(_stream(augment=[_AddNoise()]).epoch(0))
    assert torch.cat([batch.inputs for batch in batches]).tolist() == list(range(10))


def test_training_shuffles_and_drops_the_remainder_another_one_each_epoch():
    stream = _stream(training=True)
    assert len(stream) == 3
    left_out = set()
    for epoch in range(20):
        batches = _epoch(stream, epoch)
        seen = [example for batch in batches for example in batch]
        assert [len(batch) for batch in batches] == [3, 3, 3]
        assert len(set(seen)) == 9
        left_out |= set(range(10)) - set(seen)
    assert len(left_out) > 3


def test_a_batch_size_above_the_split_takes_the_whole_split():
    assert [sorted(batch) for batch in _epoch(_stream(4, 100, training=True), 0)] == [[0, 1, 2, 3]]


def test_order_and_augmentation_depend_on_seed_purpose_and_epoch_alone():
    def draw(seed, purpose, epoch):
        stream = _stream(training=True, augment=[_AddNoise()], seed=seed, purpose=purpose)
        return torch.cat([batch.inputs for batch in stream.epoch(epoch)])

    torch.manual_seed(1)
    first = draw(0, ("search", "train"), 2)
    torch.manual_seed(2)
    assert torch.equal(first, draw(0, ("search", "train"), 2))
    for other in ((1, ("search", "train"), 2), (0, ("search", "valid"), 2), (0, ("search", "train"), 3)):
        assert not torch.equal(first, draw(*other))


def test_a_stream_that_starts_late_goes_on_as_if_it_had_not_stopped():
    settings = {"training": True, "augment": [_AddNoise()], "seed": 5, "purpose": ("retrain",)}
    whole = list(islice(_stream(**settings).forever(), 11))
    for start in (0, 1, 3, 7):
        resumed = list(islice(_stream(**settings).forever(start), 11 - start))
        for expected, batch in zip(whole[start:], resumed, strict=True):
            assert torch.equal(expected.inputs, batch.inputs)
            assert torch.equal(expected.targets, batch.targets)


def test_an_augmentation_works_before_or_after_normalization_as_it_says():
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).view(4, 1, 1, 1)
    before, after = _Remember(), _RememberNormalized()
    stream = BatchStream(
        TensorSplit(images, torch.arange(4)),
        NormalizeImages((0.2,), (0.5,)),
        batch_size=4,
        device=CPU,
        training=True,
        augment=[after, before],
    )
    (batch,) = stream.epoch(0)
    expected = torch.tensor([0.0, 0.2, 0.4, 1.0])[batch.targets].view(4, 1, 1, 1)
    torch.testing.assert_close(before.seen[0], expected)
    torch.testing.assert_close(after.seen[0], (expected - 0.2) / 0.5)
    assert torch.equal(batch.inputs, after.seen[0])


class _Mixing(_Remember):
    mixes_targets = True


@pytest.mark.parametrize("targets", [torch.tensor([2, 0, 1, 2]), torch.tensor([0.5, 2.0, 1.0, 0.0])])
def test_labels_become_shares_of_the_classes_where_they_may_be_mixed(targets):
    images = torch.rand(4, 1, 2, 2)
    settings = {"batch_size": 4, "device": CPU, "training": True, "num_classes": 3}
    streams = [
        BatchStream(TensorSplit(images, targets), AsGiven(), augment=augment, **settings)
        for augment in ([], [_Remember(), _Mixing()])
    ]
    (plain,), (mixed,) = (list(stream.epoch(0)) for stream in streams)
    assert torch.equal(plain.inputs, mixed.inputs)
    expected = torch.eye(3)[plain.targets] if plain.targets.dtype == torch.int64 else plain.targets
    assert torch.equal(mixed.targets, expected)
    assert set(plain.targets.tolist()) == set(targets.tolist())


class _Broken:
    """Ten examples, of which some cannot be read; tells when each batch is read, and by which thread."""

    def __init__(self, *broken):
        self._broken, self.threads = broken, {}
        self.read = {first: threading.Event() for first in range(10)}

    def __len__(self):
        return 10

    def batch(self, indices):
        self.threads[int(indices[0])] = threading.current_thread()
        self.read[int(indices[0])].set()
        if any(index in self._broken for index in indices.tolist()):
            raise OSError("it is cut off")
        return Batch(indices.float(), indices)


def _ahead(split, **settings):
    return BatchStream(split, AsGiven(), batch_size=3, device=CPU, ahead=True, **settings)


def test_batches_that_are_read_ahead_are_the_same():
    settings = {"training": True, "augment": [_AddNoise()], "seed": 5, "purpose": ("retrain",)}
    plain, ahead = (list(islice(_stream(ahead=each, **settings).forever(2), 9)) for each in (False, True))
    for one, other in zip(plain, ahead, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)


def test_the_next_batch_is_read_while_one_is_used_and_no_more_of_them():
    split = _Broken()
    batches = _ahead(split).epoch(0)
    assert next(batches).targets.tolist() == [0, 1, 2]
    assert split.read[3].wait(10)
    assert split.threads[3] is not threading.current_thread()
    assert not split.read[6].is_set()
    batches.close()
    assert not split.threads[3].is_alive()


def test_an_example_that_cannot_be_read_is_told_when_its_batch_comes():
    batches = _ahead(_Broken(4)).epoch(0)
    assert next(batches).targets.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="data: example 4 must be readable, but it is cut off"):
        next(batches)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert _epoch(_ahead(_Broken(4), skip_unreadable=True), 0) == [[0, 1, 2], [3, 5], [6, 7, 8], [9]]
    assert [str(each.message) for each in told] == [
        "data: example 4 must be readable, but it is cut off; restore or remove it; it is left out"
    ]
