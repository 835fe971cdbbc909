"""Mixed images and targets are convex sums; which, is read off targets that name each example."""

import math

import pytest
import torch
from scipy.stats import beta

from nasframe.augmentations._share import Shares
from nasframe.augmentations.cutmix import Cutmix
from nasframe.augmentations.mixup import Mixup
from nasframe.augmentations.one_of import OneOf
from nasframe.core import Batch, augmentations
from nasframe.errors import UnsupportedError
from nasframe.testing import check_augmentation

COUNT, SHAPE = 24, (3, 9, 6)
IMAGES = torch.rand(COUNT, *SHAPE, generator=torch.Generator().manual_seed(0))
NAMES = torch.eye(COUNT, dtype=torch.float64)  # the target of each example is its own


def _mixed(augmentation, seed=0, targets=NAMES):
    return augmentation(Batch(IMAGES, targets), torch.Generator().manual_seed(seed))


def _partner(target, own):
    """Whom an example was mixed with, as its target says; itself where with nobody."""
    others = [index for index in target.nonzero().flatten().tolist() if index != own]
    assert len(others) <= 1
    return others[0] if others else own


def test_mixup_adds_images_as_it_adds_targets():
    mixed, shares = _mixed(Mixup(alpha=1.0)), []
    for own in range(COUNT):
        target = mixed.targets[own]
        share, partner = float(target[own]), _partner(target, own)
        assert float(target.sum()) == pytest.approx(1, abs=1e-12)
        want = share * IMAGES[own].double() + (1 - share) * IMAGES[partner].double()
        assert torch.allclose(mixed.inputs[own].double(), want, atol=1e-6)
        shares.append(share)
    assert len(set(shares)) > COUNT / 2  # each pair has its own


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_drawn_from_the_beta_distribution(alpha):
    drawn = Shares(alpha).draw(20_000, torch.Generator().manual_seed(0)).double().sort().values
    steps = (torch.arange(len(drawn)) + 0.5) / len(drawn)
    gaps = (torch.from_numpy(beta(alpha, alpha).cdf(drawn.numpy())) - steps).abs()
    gap = gaps[drawn < 1 - 1e-6].max()  # float32 takes what is nearer to 1 for it
    assert float(gap) < 1.95 / math.sqrt(len(drawn)) + 1 / 4096  # Kolmogorov and Smirnov, p = 0.001


def test_cutmix_pastes_a_box_and_counts_its_area():
    mixed, areas = _mixed(Cutmix()), []
    for own in range(COUNT):
        partner = _partner(mixed.targets[own], own)
        foreign = (mixed.inputs[own] != IMAGES[own]).all(0)
        assert torch.equal(mixed.inputs[own][:, ~foreign], IMAGES[own][:, ~foreign])
        assert torch.equal(mixed.inputs[own][:, foreign], IMAGES[partner][:, foreign])
        box = foreign.any(1)[:, None] & foreign.any(0)[None]
        assert torch.equal(box, foreign)
        for covered in (foreign.any(1), foreign.any(0)):
            places = covered.nonzero().flatten().tolist()
            assert not places or places == list(range(places[0], places[-1] + 1))
        if partner != own:
            area = int(foreign.sum()) / (SHAPE[1] * SHAPE[2])
            assert float(mixed.targets[own, partner]) == pytest.approx(area, abs=1e-6)
            areas.append(area)
    assert len(set(areas)) > 5


@pytest.mark.parametrize("made", [Mixup, Cutmix])
def test_mixing_leaves_as_many_examples_alone_as_it_is_told_to(made):
    assert torch.equal(_mixed(made(probability=0.0)).targets, NAMES)
    assert torch.equal(_mixed(made(probability=0.0)).inputs, IMAGES)
    many = Batch(torch.rand(2000, 1, 4, 4), torch.eye(2000))
    targets = made(alpha=5.0, probability=0.3)(many, torch.Generator().manual_seed(0)).targets
    mixed = int((targets.diagonal() < 1).sum())
    assert mixed < 600 + 4 * 21  # all but those of an empty box, four standard deviations
    assert mixed > (600 - 4 * 21) * (1 if made is Mixup else 0.5)


@pytest.mark.parametrize("made", [Mixup, Cutmix])
def test_numbers_are_mixed_as_well_as_shares_of_classes(made):
    numbers = torch.arange(COUNT, dtype=torch.float32)
    of_numbers, of_names = _mixed(made(), targets=numbers), _mixed(made())
    assert torch.allclose(of_numbers.targets, (of_names.targets @ numbers.double()).float(), atol=1e-4)


@pytest.mark.parametrize("made", [Mixup, Cutmix])
def test_targets_that_cannot_be_mixed_are_refused(made):
    with pytest.raises(UnsupportedError, match=r"which can be mixed, got torch\.int64"):
        _mixed(made(), targets=torch.arange(COUNT))


@pytest.mark.parametrize("made", [Mixup, Cutmix, OneOf])
def test_mixing_keeps_the_promises_of_an_augmentation(made):
    check_augmentation(made)


def test_one_of_sends_each_batch_through_one_alike_often():
    each = [augmentations.component("mixup"), augmentations.component("flip", probability=1.0)]
    one = OneOf(of=tuple(each))
    flipped = [torch.equal(_mixed(one, seed).inputs, IMAGES.flip(3)) for seed in range(200)]
    assert 70 < sum(flipped) < 130  # four standard deviations around 100


def test_one_of_refuses_none_and_what_works_after_normalization():
    with pytest.raises(UnsupportedError, match="must have some to choose from"):
        OneOf(of=())
    with pytest.raises(UnsupportedError, match="`cutout` works after"):
        OneOf(of=(augmentations.component("cutout"),))
