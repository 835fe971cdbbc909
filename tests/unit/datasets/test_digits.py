import pytest
import torch

from nasframe.core import datasets
from nasframe.datasets.digits import digits
from nasframe.errors import DataError


def _all(split):
    return split.batch(torch.arange(len(split)))


def _rows(images):
    return {bytes(image.flatten().tolist()) for image in images}


def test_digits_are_registered_by_name():
    assert datasets["digits"] is digits


def test_train_and_test_are_the_1797_real_images_without_loss():
    from sklearn.datasets import load_digits  # where it is needed, since it takes long

    data = digits()
    train, test = _all(data.train), _all(data.test)
    real = load_digits()
    images = torch.cat([train.inputs, test.inputs])
    labels = torch.cat([train.targets, test.targets])
    assert images.dtype == torch.uint8
    assert images.shape == (1797, 1, 8, 8)
    levels = (images.double() * 16 / 255).round().long().squeeze(1)
    given = {(tuple(i.flatten().tolist()), int(label)) for i, label in zip(levels, labels, strict=True)}
    expected = {
        (tuple(int(v) for v in i.flatten()), int(label))
        for i, label in zip(real.images, real.target, strict=True)
    }
    assert given == expected
    assert data.task.input_shape == (1, 8, 8)
    assert data.task.num_outputs == len(data.class_names) == 10


def test_train_and_test_are_disjoint_and_every_digit_is_in_both():
    data = digits(test_fraction=0.2)
    train, test = _all(data.train), _all(data.test)
    assert len(test) == 359
    assert not _rows(train.inputs) & _rows(test.inputs)
    assert set(train.targets.tolist()) == set(test.targets.tolist()) == set(range(10))


def test_the_test_images_do_not_depend_on_the_global_random_state():
    torch.manual_seed(0)
    first = _all(digits().test).inputs
    torch.manual_seed(1)
    assert torch.equal(first, _all(digits().test).inputs)


def test_statistics_come_from_the_training_images_alone():
    data = digits(test_fraction=0.5)
    train = _all(data.train).inputs.double() / 255
    assert data.preprocess.mean == pytest.approx((train.mean().item(),))
    assert data.preprocess.std == pytest.approx((train.std(correction=0).item(),))


@pytest.mark.parametrize("fraction", [0.0, 0.0001, 0.9999])
def test_an_empty_side_is_refused(fraction):
    with pytest.raises(DataError, match="test_fraction must leave images on both sides"):
        digits(test_fraction=fraction)
