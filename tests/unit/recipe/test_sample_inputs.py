"""Training inputs as pictures."""

import dataclasses

import torch

from nasframe import Task, registries
from nasframe.recipe.sample_inputs import sample_inputs

CPU = torch.device("cpu")


def test_images_are_shown_augmented_and_with_their_own_colors():
    data = registries["datasets"]["synthetic"](num_train=40, height=8, width=8)
    raw = data.train.batch(torch.arange(40)).inputs.float() / 255
    plain = sample_inputs("search", data, data.train, [], 0, CPU)["search/inputs"]
    assert plain.shape == (16, 3, 8, 8)
    for image in plain:
        assert (raw - image).abs().amax((1, 2, 3)).min() < 1e-5
    cut = registries["augmentations"]["cutout"](length=4)  # to 0 after normalization: the mean color
    shown = sample_inputs("search", data, data.train, [cut], 0, CPU)["search/inputs"]
    mean = torch.tensor(data.preprocess.mean)[:, None, None]
    is_cut = ((shown - mean).abs() < 1e-5).all(1)
    assert is_cut.any((1, 2)).all()
    torch.testing.assert_close(shown.permute(0, 2, 3, 1)[~is_cut], plain.permute(0, 2, 3, 1)[~is_cut])


def test_inputs_that_are_no_images_are_not_shown():
    data = registries["datasets"]["synthetic"](num_train=8)
    other = dataclasses.replace(data, task=Task((5,), 2))
    assert sample_inputs("search", other, other.train, [], 0, CPU) == {}
