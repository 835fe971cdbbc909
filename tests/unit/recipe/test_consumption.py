import pytest

from nasframe.recipe.consumption import EnergyMeter


def zone(folder, name, content, largest=1_000_000):
    made = folder / name
    made.mkdir()
    (made / "name").write_text(f"{content}\n")
    (made / "energy_uj").write_text("900000\n")
    (made / "max_energy_range_uj").write_text(f"{largest}\n")
    return made


def test_the_energy_of_all_processors_is_added_up_and_that_of_their_parts_is_not(tmp_path):
    first, second = zone(tmp_path, "intel-rapl:0", "package-0"), zone(tmp_path, "intel-rapl:1", "package-1")
    part, board = zone(tmp_path, "intel-rapl:0:0", "core"), zone(tmp_path, "intel-rapl:2", "psys")
    meter = EnergyMeter(tmp_path)
    for each, value in ((first, 950_000), (second, 901_000), (part, 999_000), (board, 999_000)):
        (each / "energy_uj").write_text(str(value))
    assert meter.joules == pytest.approx(0.051)


def test_a_counter_that_began_anew_is_gone_on_with(tmp_path):
    counter = zone(tmp_path, "intel-rapl:0", "package-0") / "energy_uj"
    meter = EnergyMeter(tmp_path)
    counter.write_text("50000")
    assert meter.joules == pytest.approx(0.15)
    counter.write_text("60000")
    assert meter.joules == pytest.approx(0.16)


def test_where_nothing_can_be_read_nothing_is_told(tmp_path):
    assert EnergyMeter(tmp_path).joules is None
    (zone(tmp_path, "intel-rapl:0", "package-0") / "energy_uj").unlink()
    assert EnergyMeter(tmp_path).joules is None
