import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasframe.core import schedules, set_learning_rate
from nasframe.errors import UnsupportedError
from nasframe.schedules.constant import Constant
from nasframe.schedules.cosine import Cosine
from nasframe.schedules.part import Part
from nasframe.schedules.step import Step

BASE_LR = 0.4


def _optimizer(*rates: float) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates])


def _of_torch(num_epochs, make):
    """The learning rates of a scheduler of PyTorch's that is stepped each epoch."""
    optimizer = _optimizer(BASE_LR)
    scheduler = make(optimizer)
    rates = []
    for _ in range(num_epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_parts_one_after_the_other_are_the_whole():
    whole = [Cosine(min_lr=0.03)(BASE_LR, epoch, 10) for epoch in range(10)]
    of = schedules.component("cosine", min_lr=0.03)
    first, second, third = Part(of=of, end=0.3), Part(of=of, begin=0.3, end=0.8), Part(of=of, begin=0.8)
    rates = [first(BASE_LR, epoch, 3) for epoch in range(3)]
    rates += [second(BASE_LR, epoch, 5) for epoch in range(5)]
    assert rates + [third(BASE_LR, epoch, 2) for epoch in range(2)] == pytest.approx(whole)


def test_a_part_begins_before_it_ends():
    with pytest.raises(UnsupportedError, match=r"end must be above begin, got 0\.5 and 0\.5"):
        Part(begin=0.5, end=0.5)


def test_constant_stays():
    assert [Constant()(BASE_LR, epoch, 3) for epoch in (0, 0.5, 2.9)] == [BASE_LR] * 3


@pytest.mark.parametrize("min_lr", [0.0, 0.03])
def test_cosine_each_epoch_is_that_of_torch(min_lr):
    schedule, num_epochs = Cosine(min_lr=min_lr), 12
    expected = _of_torch(
        num_epochs,
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_epochs, min_lr),
    )
    ours = [schedule(BASE_LR, epoch, num_epochs) for epoch in range(num_epochs)]
    assert ours == pytest.approx(expected, rel=1e-12)


def test_cosine_passes_start_middle_and_end():
    schedule = Cosine(min_lr=0.1)
    assert schedule(BASE_LR, 0, 10) == pytest.approx(BASE_LR)
    assert schedule(BASE_LR, 5, 10) == pytest.approx((BASE_LR + 0.1) / 2)
    assert schedule(BASE_LR, 10, 10) == pytest.approx(0.1)


@given(epoch=st.integers(0, 9), within=st.floats(0, 0.99))
def test_cosine_stays_within_an_epoch_unless_it_moves_each_step(epoch, within):
    assert Cosine()(BASE_LR, epoch + within, 10) == Cosine()(BASE_LR, epoch, 10)
    expected = BASE_LR * math.cos(math.pi * (epoch + within) / 20) ** 2
    assert Cosine(each_step=True)(BASE_LR, epoch + within, 10) == pytest.approx(expected)


def test_warm_up_rises_linearly_each_step_and_the_curve_follows_from_the_top():
    schedule = Cosine(min_lr=0.1, warmup_epochs=2)
    rising = [schedule(BASE_LR, step / 4, 6) for step in range(8)]
    assert rising == pytest.approx([BASE_LR * step / 8 for step in range(8)])
    assert schedule(BASE_LR, 2, 6) == pytest.approx(BASE_LR)
    assert schedule(BASE_LR, 4, 6) == pytest.approx((BASE_LR + 0.1) / 2)
    assert schedule(BASE_LR, 6, 6) == pytest.approx(0.1)


def test_a_warm_up_as_long_as_the_stage_only_rises():
    rates = [Cosine(warmup_epochs=3)(BASE_LR, epoch, 3) for epoch in range(3)]
    assert rates == pytest.approx([0, BASE_LR / 3, BASE_LR * 2 / 3])


@pytest.mark.parametrize("milestones", [(), (3,), (2, 5), (0, 4), (4, 4)])
def test_steps_are_those_of_torch(milestones):
    expected = _of_torch(
        8, lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, list(milestones), gamma=0.2)
    )
    ours = [Step(milestones=milestones, factor=0.2)(BASE_LR, epoch, 8) for epoch in range(8)]
    assert ours == pytest.approx(expected, rel=1e-12)


def test_each_parameter_group_keeps_its_own_base_rate():
    optimizer = _optimizer(0.4, 0.02)
    for epoch in (3, 8, 5):
        set_learning_rate(optimizer, Cosine(), epoch, 10)
    share = math.cos(math.pi * 5 / 20) ** 2
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4 * share, 0.02 * share])


def test_the_base_rate_survives_a_state_of_the_optimizer():
    first = _optimizer(0.4)
    set_learning_rate(first, Cosine(), 7, 10)
    second = _optimizer(0.4)
    second.load_state_dict(first.state_dict())
    set_learning_rate(second, Cosine(), 0, 10)
    assert second.param_groups[0]["lr"] == pytest.approx(0.4)
