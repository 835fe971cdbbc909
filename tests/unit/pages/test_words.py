import pytest

from nasframe.pages.words import figure, figures_told


@pytest.mark.parametrize(
    ("name", "value", "spelled"),
    [
        ("test_accuracy", 0.98765, "98.77%"),
        ("test_accuracy_mean", 0.5, "50.00%"),
        ("test_top5_accuracy_std", 0.0123, "1.23%"),
        ("test_loss_mean", 1.23456, "1.235"),
        ("parameters", 1234567, "1,234,567"),
    ],
)
def test_accuracies_of_one_or_several_trainings_are_percents(name, value, spelled):
    assert figure(name, value) == spelled


def test_costs_are_told_by_what_they_are_of_with_their_unit():
    metrics = {"derived_cost": 1.25, "max_cost": 2.0}
    assert dict(figures_told(metrics, {"cost": "latency", "unit": "ms"})) == {
        "latency of the architecture": "1.25 ms",
        "largest latency allowed": "2 ms",
    }
    assert dict(figures_told(metrics, {})) == {"derived cost": "1.25", "max cost": "2"}


def test_a_mean_and_its_standard_deviation_are_told_together():
    metrics = {"test_accuracy": 0.5, "test_accuracy_mean": 0.25, "test_accuracy_std": 0.125}
    told = dict(figures_told(metrics, {}))
    assert told == {"test accuracy": "50.00%", "test accuracy of all seeds": "25.00% ± 12.50%"}
