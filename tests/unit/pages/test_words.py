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


def test_costs_are_told_by_their_name_and_unit():
    metrics = {"test_accuracy": 0.5, "derived_cost": 1.25, "max_cost": 2.0}
    rows = list(figures_told(metrics, {"cost": "latency", "unit": "ms"}))
    assert rows[1:] == [("latency of the architecture", "1.25 ms"), ("largest latency allowed", "2 ms")]
    assert list(figures_told(metrics, {}))[1:] == [("derived cost", "1.25"), ("max cost", "2")]


def test_a_mean_over_seeds_is_told_with_its_deviation_in_one():
    metrics = {"test_accuracy": 0.5, "test_accuracy_mean": 0.45, "test_accuracy_std": 0.0123, "own_mean": 2.0}
    assert list(figures_told(metrics, {})) == [
        ("test accuracy", "50.00%"),
        ("test accuracy of all seeds", "45.00% ± 1.23%"),
        ("own mean", "2"),
    ]
