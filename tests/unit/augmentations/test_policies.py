"""What a policy makes of an image is compared with all that it may make of it, and how often."""

import itertools
import math
from collections import Counter

import pytest
import torch

from nasframe.augmentations._operation import OPERATIONS, Reach, operate
from nasframe.augmentations._policy import POLICIES
from nasframe.augmentations.auto_augment import AutoAugment
from nasframe.augmentations.rand_augment import RandAugment
from nasframe.augmentations.trivial_augment import TrivialAugment
from nasframe.core import Batch
from nasframe.testing import check_augmentation

FILL, STANDARD = 0.25, Reach()
IMAGE = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(3)) * 0.8 + 0.1
# another transcription of the published tables: operation, tenths of the probability (A: all), level
LETTERS = {
    "a": "autocontrast", "b": "brightness", "c": "color", "C": "contrast", "e": "equalize", "i": "invert",
    "p": "posterize", "R": "rotate", "S": "sharpness", "s": "solarize", "x": "shear_x", "y": "shear_y",
    "X": "translate_x", "Y": "translate_y",
}  # fmt: skip
PUBLISHED = {
    "imagenet": "p48R69 s65a65 e88e63 p67p66 e47s24 e44R88 s63e67 p85eA2 R23s68 e68p46 R88c40 R49e62 e07e88 "
    "i64eA8 c64CA8 R88cA2 c88s87 S47i68 x65eA9 c40e63 e47s24 s65a65 i64eA8 c64CA8 e88e63",
    "cifar10": "i17C26 R72X39 S81S93 y58Y79 a58e92 y27p37 c43b67 S39b79 e65e51 C67S65 c77X58 e37a48 Y43S26 "
    "b96c28 s52i03 e20a60 e28e64 c99e66 a84s28 b13c70 s45a93 Y99Y79 a92s83 e88i13 Y79a91",
    "svhn": "x94i23 y98i75 e65s66 i93e63 e61R93 x94a83 y98i45 y95s26 i96a81 e63R93 x94s33 y88i74 e95Y66 "
    "i94e67 C33R84 i85Y02 y76s48 i64R84 y37X93 x16i65 s72Y67 y84i88 x79Y83 y85a73 x72i15",
}
OF_NO_LEVEL = {"autocontrast", "equalize", "invert"}
SEARCHED = set(OPERATIONS) - {"invert"}


def _published(policy):
    for pair in PUBLISHED[policy].split():
        yield [
            (LETTERS[letter], 1.0 if tenths == "A" else int(tenths) / 10, int(level))
            for letter, tenths, level in (pair[:3], pair[3:])
        ]


def _after(steps, reach):
    """What each list of (operation, strength) makes of the image."""
    images = IMAGE.expand(len(steps), -1, -1, -1)
    for turn in zip(*steps, strict=True):
        strengths = torch.tensor([float(strength) for _, strength in turn])
        images = operate(images, [name for name, _ in turn], strengths, reach, FILL)
    return images


def _signs(name):
    return (1, -1) if name is not None and OPERATIONS[name].is_signed else (1,)


def _distances(one, other):
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


def _check_outcomes(augmentation, outcomes, count, reach=STANDARD):
    """Nothing but what outcomes (chance, steps) make of the image comes, each as often as it should."""
    images = _after([steps for _, steps in outcomes], reach).flatten(1).double()
    same = (_distances(images, images) < 1e-5).int().argmax(1).tolist()  # the first that is alike
    chances = Counter()
    for (chance, _), place in zip(outcomes, same, strict=True):
        chances[place] += chance
    assert sum(chances.values()) == pytest.approx(1)
    results = augmentation(
        Batch(IMAGE.expand(count, -1, -1, -1), torch.zeros(count)), torch.Generator().manual_seed(1)
    )
    distance, nearest = _distances(results.inputs.flatten(1).double(), images).min(1)
    assert float(distance.max()) < 1e-5
    found = Counter(same[place] for place in nearest.tolist())
    often = [place for place, chance in chances.items() if chance * count >= 5]
    rest = count * (1 - sum(chances[place] for place in often))
    assert all(chances[place] > 0 for place in found)
    squares = [(found[place] - count * chances[place]) ** 2 / (count * chances[place]) for place in often]
    if rest >= 5:
        squares.append((count - sum(found[place] for place in often) - rest) ** 2 / rest)
    freedom = len(squares) - 1
    assert sum(squares) < freedom + 5 * math.sqrt(2 * freedom)


def test_rand_augment_draws_each_operation_alike_often_at_its_magnitude():
    augmentation = RandAugment(operations=1, magnitude=12, fill=FILL)
    outcomes = [
        (1 / 14 / len(_signs(name)), [(name, sign * 12 / 30)])
        for name in [None, *SEARCHED]
        for sign in _signs(name)
    ]
    _check_outcomes(augmentation, outcomes, 3000)


def test_rand_augment_goes_through_several_operations_in_a_row():
    singles = [(name, sign * 9 / 30) for name in [None, *SEARCHED] for sign in _signs(name)]
    outcomes = [
        (1 / 14**2 / len(_signs(first[0])) / len(_signs(then[0])), [first, then])
        for first, then in itertools.product(singles, repeat=2)
    ]
    _check_outcomes(RandAugment(fill=FILL), outcomes, 3000)


def test_trivial_augment_draws_operation_and_strength_from_the_wide_space():
    # Müller and Hutter 2021, table 1: shears to 0.99, translations to 32 pixels, rotations to 135 degrees,
    # factors from 0.01 to 1.99, 2 to 8 bits
    wide = Reach(shear=0.99, shift=0.0, shift_pixels=32.0, degrees=135.0, enhancement=0.99, bits=6.0)
    outcomes = [
        (1 / 14 / 31 / len(_signs(name)), [(name, sign * level / 30)])
        for name in [None, *SEARCHED]
        for level in range(31)
        for sign in _signs(name)
    ]
    _check_outcomes(TrivialAugment(fill=FILL), outcomes, 4000, wide)


@pytest.mark.parametrize("policy", PUBLISHED)
def test_the_policies_of_auto_augment_are_the_published_ones(policy):
    for pair, published in zip(POLICIES[policy], _published(policy), strict=True):
        assert len(pair) == 2
        for part, (operation, probability, level) in zip(pair, published, strict=True):
            assert (part.operation, part.probability) == (operation, probability)
            assert part.level == (0 if operation in OF_NO_LEVEL else level)


@pytest.mark.parametrize("policy", PUBLISHED)
def test_auto_augment_sends_an_image_through_a_pair_by_its_probabilities(policy):
    outcomes = []
    for pair in _published(policy):
        options = [
            [
                (1 - probability, (None, 0.0)),
                *((probability / len(_signs(name)), (name, sign * level / 9)) for sign in _signs(name)),
            ]
            for name, probability, level in pair
        ]
        for (first, one), (second, other) in itertools.product(*options):
            if first * second > 0:
                outcomes.append((first * second / 25, [one, other]))
    _check_outcomes(AutoAugment(policy=policy, fill=FILL), outcomes, 3000)


@pytest.mark.parametrize("made", [RandAugment, TrivialAugment, AutoAugment])
def test_a_policy_keeps_the_promises_of_an_augmentation(made):
    check_augmentation(made)
