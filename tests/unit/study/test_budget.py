"""Budgets: what a search may cost, as epochs and evaluations of its recipe."""

from pathlib import Path

import pytest

from nasframe import load_recipe
from nasframe.errors import UnsupportedError
from nasframe.recipe import Recipe
from nasframe.study import budget
from nasframe.study.budget import within
from nasframe.study.plan import Budget

BASE = """\
name: base
data: {type: synthetic, num_train: 64, num_test: 16, height: 8, width: 8}
space: {type: macro, channels: 2, stages: [1, 1], features: 8}
search: {trainer: {epochs: 4}}
"""
TRAINED = ("search.score=retraining", "search.explorer=random_search")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path / "base.yaml"


def found(base: Path, allowed: Budget, *overrides: str) -> tuple[int, int]:
    search = within(loaded(base, *overrides), allowed).search
    return search.trainer.settings["epochs"], search.evaluations


def loaded(base: Path, *overrides: str) -> Recipe:
    return load_recipe(base, overrides, check=False)


def test_a_supernet_has_the_epochs_of_the_budget(base):
    assert found(base, Budget(epochs=10)) == (10, 100)


def test_an_explorer_has_as_many_trained_as_their_epochs_fit(base):
    assert found(base, Budget(epochs=11), *TRAINED) == (4, 2)


def test_trainings_on_a_share_of_the_epochs_count_as_that(base):
    halving = "search.explorer={type: successive_halving, count: 4, eta: 2}"
    # 4 of 1 epoch, 2 of 2, 1 of 4: 12 epochs; then 4 of 1 epoch again
    assert found(base, Budget(epochs=12), "search.score=retraining", halving) == (4, 7)
    assert found(base, Budget(epochs=14), "search.score=retraining", halving) == (4, 9)


def test_what_trains_nothing_keeps_its_evaluations(base):
    free = ("search.score=synflow", "search.explorer=random_search", "search.evaluations=7")
    assert found(base, Budget(epochs=10), *free) == (4, 7)


def test_a_budget_that_trains_nothing_is_refused(base):
    with pytest.raises(UnsupportedError, match=r"must allow a training of 4 epochs \(base\), got 3 epochs"):
        within(loaded(base, *TRAINED), Budget(epochs=3))


def test_seconds_become_what_measured_steps_say(base, monkeypatch):
    class Measured:
        """Of a rehearsal: 4 epochs take 8 seconds, the scores after them 5; a training takes 3."""

        num_epochs = 4

        def __init__(self, stage: str, trained: bool) -> None:
            self.seconds = 8.0 if stage == "search" else 3.0 if trained else 5.0

    def rehearse(recipe, stage, genotype, plugins, skipped):
        return Measured(stage, recipe.search.score.name == "retraining")

    monkeypatch.setattr(budget, "rehearse", rehearse)
    supernet = ("search.score=supernet", "search.explorer=random_search")
    assert found(base, Budget(seconds=20.5), *supernet) == (7, 100)
    assert found(base, Budget(seconds=20.5), *TRAINED) == (4, 6)
    with pytest.raises(UnsupportedError, match="an epoch of the supernet and the scores after it"):
        within(loaded(base, *supernet), Budget(seconds=6.0))


STAGES = "search.stages=[{trainer: {epochs: 6}}, {keep: 2}, {keep: 1, trainer: {epochs: 2}}]"


@pytest.mark.parametrize(
    ("total", "shares"), [(12, [6, 4, 2]), (24, [12, 8, 4]), (7, [4, 2, 1]), (3, [1, 1, 1]), (13, [6, 5, 2])]
)
def test_stages_have_shares_of_the_epochs_of_the_budget(base, total, shares):
    stages = within(loaded(base, STAGES), Budget(epochs=total)).search.stages
    assert [stage.trainer.settings["epochs"] for stage in stages] == shares
    assert sum(shares) == total


def test_fewer_epochs_than_stages_are_refused(base):
    with pytest.raises(UnsupportedError, match="must allow an epoch of each of 3 stages"):
        within(loaded(base, STAGES), Budget(epochs=2))


def test_seconds_of_stages_are_those_of_each(base, monkeypatch):
    class Measured:
        """An epoch takes 1 second in the first stage, 2 in the second, 5 in the third."""

        def __init__(self, skipped: int) -> None:
            self.num_epochs = (6, 4, 2)[skipped]
            self.seconds = (1.0, 2.0, 5.0)[skipped] * self.num_epochs

    monkeypatch.setattr(budget, "rehearse", lambda *_, skipped: Measured(skipped))
    stages = within(loaded(base, STAGES), Budget(seconds=25.0)).search.stages
    # 12 epochs take 6 + 8 + 10 = 24 seconds, 13 of them 26
    assert [stage.trainer.settings["epochs"] for stage in stages] == [6, 4, 2]
    with pytest.raises(UnsupportedError, match=r"an epoch of each of 3 stages \(base\), got 7 s"):
        within(loaded(base, STAGES), Budget(seconds=7.0))
