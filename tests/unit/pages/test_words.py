import pytest

from nasframe.pages.words import figure


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
