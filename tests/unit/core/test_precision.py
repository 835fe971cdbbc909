import math
import re
from pathlib import Path

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
    assert fast_precision(CPU) is taken


@pytest.mark.skipif(
    not Path("/proc/cpuinfo").exists()
    or re.search(r"_bf16|\bbf16", Path("/proc/cpuinfo").read_text()) is not None,
    reason="the processor has units for bfloat16, or does not tell",
)
def test_a_processor_without_units_for_bfloat16_keeps_float32():
    assert fast_precision(CPU) is None
