"""How numbers, times and sizes are spelled."""

import pytest

from nasframe.quantity import spell_amount, spell_bytes, spell_count, spell_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (6_561, "6,561"),
        (999_999_999, "999,999,999"),
        (1_000_000_000, "1.0 × 10^9"),
        (1_037_664_180**2, "1.1 × 10^18"),
        (9_960_000_000, "1.0 × 10^10"),
        (7**1000, "1.3 × 10^845"),
    ],
)
def test_a_count_is_exact_as_long_as_it_can_be_read(count, text):
    assert spell_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.01234, "12.3 ms"),
        (0.9999, "1 s"),
        (1.234, "1.23 s"),
        (59.96, "1 min 0 s"),
        (114, "1 min 54 s"),
        (3_600, "1 h 0 min"),
        (86_399, "23 h 59 min"),
        (90_000, "1 day 1 h"),
        (1_000_000, "11 days 13 h"),
    ],
)
def test_a_time_has_its_two_largest_units(seconds, text):
    assert spell_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (574 * 2**20, "574 MiB"),
        (int(21.04 * 2**30), "21.0 GiB"),
        (5000 * 2**40, "5000 TiB"),
    ],
)
def test_a_size_has_the_unit_that_suits_it(count, text):
    assert spell_bytes(count) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(698288.0, "", "698,288"), (2.03649, "ms", "2.036 ms"), (12.0, "ms", "12 ms")],
)
def test_a_cost_has_its_unit_and_a_count_all_its_digits(value, unit, text):
    assert spell_amount(value, unit) == text
