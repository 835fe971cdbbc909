"""The verdict on a search says what it has learned, and what it has not."""

from dataclasses import replace

import pytest

from nasframe.recipe.verdict import Evidence, in_words, of_scores

NOW = "1 of 6 edges of cell are skips at epoch 8"
TEN = {"accuracy": 0.1, "loss": 2.303}
GOOD = Evidence(
    epoch=8,
    validated={"valid_accuracy": 0.5, "valid_loss": 1.4},
    health={"health/entropy": 0.6, "health/path_accuracy": 0.4, "health/supernet_accuracy": 0.5},
    first={"valid_accuracy": 0.2, "valid_loss": 2.2},
    constant=TEN,
    num_valid=1000,
    num_gap=100,
)


def test_a_search_that_has_learned_is_healthy():
    assert in_words(NOW, "", GOOD) == f"healthy: {NOW}"
    assert in_words(NOW, "collapsing: …", GOOD) == f"recovered: {NOW}; before, collapsing: …"


def test_an_accuracy_that_luck_explains_is_at_chance_whatever_the_edges_are():
    evidence = replace(GOOD, validated={"valid_accuracy": 0.112, "valid_loss": 2.1}, health={})
    verdict = (
        "at chance: 0.112 of 1000 held-out examples are right at epoch 8, and 0.100 if all are answered alike"
    )
    assert in_words(NOW, "", evidence) == verdict
    assert in_words(NOW, "collapsing: …", evidence) == f"{verdict}; before, collapsing: …"


def test_running_statistics_alone_do_not_put_a_supernet_at_chance():
    evidence = replace(GOOD, validated={"valid_accuracy": 0.1, "valid_loss": 2.1})
    assert in_words(NOW, "", evidence) == f"healthy: {NOW}"


def test_without_an_accuracy_the_loss_of_a_constant_is_the_measure():
    evidence = replace(
        GOOD, validated={"valid_loss": 1.04}, first={"valid_loss": 1.3}, constant={"loss": 1.0}
    )
    assert in_words(NOW, "", evidence) == (
        "at chance: the validation loss is 1.04 at epoch 8, and 1 if all are answered alike"
    )
    better = replace(evidence, validated={"valid_loss": 0.9})
    assert in_words(NOW, "", better) == f"healthy: {NOW}"
    assert in_words(NOW, "", replace(evidence, validated={"valid_loss": float("nan")})).startswith(
        "at chance"
    )


@pytest.mark.parametrize(
    ("validated", "is_diverging"),
    [
        ({"valid_accuracy": 0.18, "valid_loss": 2.7}, True),
        ({"valid_accuracy": 0.18, "valid_loss": 2.1}, False),
        ({"valid_accuracy": 0.6, "valid_loss": 2.7}, False),  # surer of what it gets wrong, but better
    ],
)
def test_a_validation_that_gets_no_better_is_diverging(validated, is_diverging):
    found = in_words(NOW, "", replace(GOOD, validated=validated))
    assert found == (
        "diverging: the validation loss is 2.7 at epoch 8, and was 2.2 at epoch 1"
        if is_diverging
        else f"healthy: {NOW}"
    )
    only = replace(GOOD, validated=validated, first=validated, epoch=1)
    assert in_words(NOW, "", only) == f"healthy: {NOW}"


def test_even_alphas_leave_a_healthy_search_undecided():
    evidence = replace(GOOD, health={"health/entropy": 0.99})
    assert in_words(NOW, "", evidence) == (
        f"healthy, but undecided: {NOW}; alphas are nearly even (entropy 0.99), so the "
        "architecture says little more than a random one"
    )
    assert in_words(NOW, "", replace(evidence, reads_alphas=False)) == f"healthy: {NOW}"


def test_alphas_that_did_not_move_say_nothing():
    assert in_words(NOW, "", replace(GOOD, has_moved=False)) == (
        f"healthy, but undecided: {NOW}; no alpha has moved, so the architecture is a random one"
    )


def test_a_path_at_chance_is_unproven_beside_a_supernet_that_is_not():
    health = {"health/entropy": 0.97, "health/path_accuracy": 0.13, "health/supernet_accuracy": 0.5}
    assert in_words(NOW, "", replace(GOOD, health=health)) == (
        f"healthy, but undecided and unproven: {NOW}; alphas are nearly even (entropy 0.97), so "
        "the architecture says little more than a random one; its path alone is at chance in the supernet "
        "(0.130 of 100 examples right)"
    )


def test_scores_that_luck_explains_are_at_chance():
    assert of_scores(0.135, 1, "accuracy", TEN, 1000) == ""  # 3.7 deviations: p = 0.0002
    assert of_scores(0.135, 100, "accuracy", TEN, 1000) == (
        "at chance: by the best of 100 scores 0.135 of 1000 held-out examples are right, and 0.100 if all "
        "are answered alike"
    )
    assert of_scores(-2.4, 5, "loss", TEN, 1000) == (
        "at chance: by the best of 5 scores the validation loss is 2.4, and 2.3 if all are answered alike"
    )
    assert of_scores(-2.1, 5, "loss", TEN, 1000) == ""
    assert of_scores(0.0, 5, None, TEN, 1000) == of_scores(0.0, 5, "top5_accuracy", TEN, 1000) == ""
