"""What a run ends with on the terminal."""

from nasframe.cli.run import _figures


def test_costs_are_told_by_their_name_and_unit() -> None:
    metrics = {"test_accuracy": 0.5, "derived_cost": 1.25, "max_cost": 2.0}
    rows = list(_figures(metrics, {"cost": "latency", "unit": "ms"}))
    assert rows[1:] == [["latency of the architecture", "1.25 ms"], ["largest latency allowed", "2 ms"]]
    assert list(_figures(metrics, {}))[1:] == [["derived cost", "1.25"], ["max cost", "2"]]
