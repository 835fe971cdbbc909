"""Scores that are worked out side by side: the search finds what it finds one by one."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch

from nasframe import Genotype, load_recipe, run
from nasframe.core import Ended, Explorer, Interrupts, Task, Work, Workers, executors, explorers, spaces
from nasframe.errors import StorageError, UnsupportedError
from nasframe.recipe.ahead import Ahead
from nasframe.recipe.exploring import Exploration, Outcome, Scored, ScoreLog

SETTINGS = {
    "regularized_evolution": {"population": 4, "sample": 2},
    "evolution": {"population": 5, "top": 2, "mutants": 2, "children": 2},
    "successive_halving": {"count": 4, "eta": 2},
}
EVALUATIONS = 10
RECIPE = """
name: tiny
threads: 1
device: cpu
data: {type: synthetic, num_train: 32, num_test: 16, num_classes: 3, height: 8, width: 8}
space: {type: macro, channels: 2, stages: [2], features: 4}
search:
  explorer: {type: regularized_evolution, population: 2, sample: 2}
  score: retraining
  evaluations: 4
  trainer: {epochs: 1, batch_size: 8}
retrain: {trainer: {epochs: 1, batch_size: 8}}
trackers: [jsonl]
"""


def score(genotype: Genotype, budget: float) -> Outcome:
    """Some number that depends on the architecture alone; for some there is none."""
    value = int.from_bytes(genotype.to_json().encode()[-40:], "big") % 997
    return Outcome(None if value % 10 == 0 else budget * value)


class Beside:
    """Works that are begun together; the last one of them ends first."""

    def __init__(self, jobs: int) -> None:
        self.jobs, self.most, self.called = jobs, 0, 0

    def run(self, works: Iterable[Work | None]) -> Iterator[Ended]:
        coming, begun = iter(works), list[Work]()
        while True:
            while len(begun) < self.jobs and (work := next(coming, None)) is not None:
                begun.append(work)
            if not begun:
                return
            self.most, self.called = max(self.most, len(begun)), self.called + 1
            work = begun.pop()
            yield Ended(work, work.call())

    def workers(self) -> Workers:
        return Workers(self.jobs, self.run)


def explored(name: str, folder: Path, beside: Beside | None) -> list[Scored]:
    folder.mkdir(exist_ok=True)
    space = spaces["macro"](Task((3, 8, 8), 3), channels=2, stages=(2, 2), features=4)
    explorer = explorers[name](space, 0, **SETTINGS.get(name, {}))
    ahead = Ahead((beside or Beside(1)).workers(), ScoreLog(folder / "ahead.jsonl"), score, space).outcome

    class Table:
        of = staticmethod(lambda genotype, budget: score(genotype, budget).score or float("nan"))

    log = ScoreLog(folder / "scores.jsonl")
    exploration = Exploration(
        explorer, Table, log, EVALUATIONS, 0, Interrupts(), ahead=ahead if beside else None
    )
    return [scored for scored, _ in exploration.run()]


@pytest.mark.parametrize("name", explorers.names())
def test_an_explorer_finds_the_same_however_many_scores_are_worked_out_at_a_time(
    name: str, tmp_path: Path
) -> None:
    alone, beside = explored(name, tmp_path / "alone", None), Beside(4)
    assert explored(name, tmp_path / "beside", beside) == alone
    assert beside.most == 4
    logs = [(tmp_path / each / "scores.jsonl").read_bytes() for each in ("alone", "beside")]
    assert logs[0] == logs[1]


def test_what_does_not_depend_on_scores_is_never_guessed_wrong(tmp_path: Path) -> None:
    beside = Beside(4)
    scored = explored("random_search", tmp_path, beside)
    assert beside.called == len({each.genotype for each in scored})


def test_what_was_worked_out_ahead_is_not_worked_out_again(tmp_path: Path) -> None:
    explored("random_search", tmp_path, Beside(4))
    (tmp_path / "scores.jsonl").unlink()
    again = Beside(4)
    explored("random_search", tmp_path, again)
    assert again.called == 0


def test_a_score_whose_processes_were_killed_too_often_ends_the_search(tmp_path: Path) -> None:
    def killed(works: Iterable[Work | None]) -> Iterator[Ended]:
        for work in works:
            assert work is not None
            yield Ended(work, lost="its process was killed 4 times")

    space = spaces["macro"](Task((3, 8, 8), 3), channels=2, stages=(2,), features=4)
    ahead = Ahead(Workers(2, killed), ScoreLog(tmp_path / "ahead.jsonl"), score, space)
    explorer = explorers["random_search"](space, 0)
    with pytest.raises(StorageError, match="killed 4 times; go on with fewer --jobs"):
        ahead.outcome(explorer, explorer.ask(), Explorer.ask, 3)


def test_a_run_with_an_executor_leaves_what_one_without_leaves(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "tiny.yaml", check=False)
    plain = run(recipe, tmp_path / "plain")
    torch.rand(3)
    beside = run(recipe, tmp_path / "beside", executor=executors.component("processes"))
    assert (beside.genotype, beside.metrics) == (plain.genotype, plain.metrics)
    logs = [(each.folder / "search" / "scores.jsonl").read_text() for each in (plain, beside)]
    assert logs[0] == logs[1]
    assert not (beside.folder / "search" / "scoring").exists()


def test_an_executor_is_refused_where_there_is_nothing_to_score(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "tiny.yaml", ["~search.explorer", "~search.score"], check=False)
    with pytest.raises(UnsupportedError, match="one supernet is trained; leave out --jobs and --on"):
        run(recipe, tmp_path / "run", executor=executors.component("processes"))
    assert not (tmp_path / "run").exists()
