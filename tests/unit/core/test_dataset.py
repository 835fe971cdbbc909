import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasframe.core import AsGiven, NormalizeImages, Subset, TensorSplit, hold_out
from nasframe.core.dataset import CheckedSplit, ResidentSplit, is_in_memory, origin, size_in_bytes
from nasframe.errors import DataError


def _split(count):
    return TensorSplit(torch.arange(count), torch.arange(count) * 10)


def _examples(split):
    return split.batch(torch.arange(len(split))).inputs.tolist()


def test_a_tensor_split_gives_the_examples_asked_for_in_their_order():
    batch = _split(5).batch(torch.tensor([3, 0, 3]))
    assert batch.inputs.tolist() == [3, 0, 3]
    assert batch.targets.tolist() == [30, 0, 30]


def test_a_tensor_split_may_hold_nests():
    split = TensorSplit({"text": torch.arange(4), "mask": torch.ones(4, 2)}, (torch.arange(4),))
    batch = split.batch(torch.tensor([2, 1]))
    assert len(split) == 4
    assert batch.inputs["text"].tolist() == [2, 1]
    assert batch.targets[0].tolist() == [2, 1]


def test_a_subset_of_a_subset_counts_within_it():
    inner = Subset(Subset(_split(10), torch.tensor([9, 7, 5, 3])), torch.tensor([2, 0]))
    assert _examples(inner) == [5, 9]
    assert inner.batch(torch.tensor([1])).targets.tolist() == [90]


@given(count=st.integers(2, 60), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 2**40))
def test_held_out_and_rest_are_disjoint_and_together_all(count, fraction, seed):
    if not 0 < round(count * fraction) < count:
        return
    rest, held_out = hold_out(_split(count), fraction, seed)
    assert len(held_out) == round(count * fraction)
    assert sorted(_examples(rest) + _examples(held_out)) == list(range(count))


def test_what_is_held_out_depends_on_the_seed_alone():
    torch.manual_seed(1)
    _, first = hold_out(_split(50), 0.5, seed=3)
    torch.manual_seed(2)
    _, again = hold_out(_split(50), 0.5, seed=3)
    _, other = hold_out(_split(50), 0.5, seed=4)
    assert _examples(first) == _examples(again)
    assert set(_examples(first)) != set(_examples(other))


def test_a_fraction_of_zero_holds_nothing_out():
    rest, held_out = hold_out(_split(7), 0.0, seed=0)
    assert sorted(_examples(rest)) == list(range(7))
    assert len(held_out) == 0


@pytest.mark.parametrize(("count", "fraction"), [(3, 0.1), (3, 0.9), (1, 0.5)])
def test_a_fraction_that_leaves_one_side_empty_is_refused(count, fraction):
    with pytest.raises(DataError, match="leaves one side empty"):
        hold_out(_split(count), fraction, seed=0)


def test_normalized_images_have_mean_0_and_deviation_1_in_each_channel():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 6, 5), generator=generator, dtype=torch.uint8)
    images[:, 1] //= 3
    preprocess = NormalizeImages.of(images)
    inputs = preprocess.normalize(preprocess.scale(images))
    for channel in range(3):
        values = inputs[:, channel].double().flatten()
        assert sum(values.tolist()) / len(values) == pytest.approx(0, abs=1e-5)
        assert values.square().mean().item() == pytest.approx(1, abs=1e-2)


def test_statistics_are_those_of_every_pixel_of_a_channel():
    images = torch.tensor([[[[0, 51]], [[255, 255]]], [[[102, 51]], [[0, 255]]]], dtype=torch.uint8)
    preprocess = NormalizeImages.of(images)
    assert preprocess.mean == pytest.approx((0.2, 0.75))
    # deviations of 0, .2, .4, .2 around .2, and of 1, 1, 0, 1 around .75
    assert preprocess.std == pytest.approx((math.sqrt(0.08 / 4), math.sqrt(0.75 / 4)))


def test_the_mean_of_the_training_images_becomes_0_whatever_batch_it_is_in():
    preprocess = NormalizeImages((0.25,), (0.5,))
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert preprocess.scale(images).flatten().tolist() == [0.0, 1.0]
    assert preprocess.normalize(preprocess.scale(images)).flatten().tolist() == [-0.5, 1.5]


def test_a_channel_without_variation_stays_finite():
    images = torch.full((4, 1, 2, 2), 7, dtype=torch.uint8)
    preprocess = NormalizeImages.of(images)
    assert preprocess.normalize(preprocess.scale(images)).isfinite().all()


def test_inputs_may_be_taken_as_they_are():
    inputs = {"tokens": torch.arange(3)}
    assert AsGiven().normalize(AsGiven().scale(inputs)) is inputs


def test_a_resident_split_has_the_batches_of_the_split_and_knows_its_examples():
    images = torch.arange(24, dtype=torch.uint8).reshape(6, 1, 2, 2)
    split = Subset(
        CheckedSplit(TensorSplit({"image": images}, torch.arange(6) % 3), "train", 3),
        torch.tensor([5, 3, 1, 2]),
    )
    resident = ResidentSplit(split, torch.device("cpu"))
    indices = torch.tensor([2, 0, 3])
    batch = resident.batch(indices)
    assert len(resident) == len(split) == 4
    assert torch.equal(batch.inputs["image"], images[[1, 5, 2]])
    assert batch.targets.tolist() == [1, 2, 2]
    assert origin(resident, indices).tolist() == [1, 5, 2]
    assert size_in_bytes(split) == 4 * (4 + 8)  # four pixels of a byte, and a label
    assert is_in_memory(split)


def test_a_split_of_files_is_not_in_memory():
    class Files:
        def __len__(self):
            return 1

        def batch(self, indices):
            raise AssertionError("nothing is to be read")

    assert not is_in_memory(Subset(Files(), torch.tensor([0])))
