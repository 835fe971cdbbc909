import math

import pytest
import torch

from nasframe.core import bfloat16_speedup, fast_precision, precision

CPU = torch.device("cpu")


def test_the_speed_of_a_device_is_measured_once_and_draws_nothing_from_the_random_state():
    before = torch.get_rng_state()
    measured = bfloat16_speedup(CPU)
    assert 0 < measured < math.inf
    assert bfloat16_speedup(CPU) is measured
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("speedup", "taken"), [(0.01, None), (1.49, None), (1.5, torch.bfloat16)])
def test_bfloat16_is_taken_where_it_is_worth_it(monkeypatch, speedup, taken):
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda device: speedup)
    assert fast_precision(torch.device("cuda")) is taken


def test_a_processor_keeps_its_precision_however_fast_it_is_with_less(monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda device: 100.0)
    assert fast_precision(CPU) is None
