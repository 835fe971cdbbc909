"""Studies: what they refuse, what they run, and what they tell."""

import csv
import io
import json
import math
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from nasframe.cli import main
from nasframe.core import executors
from nasframe.errors import FormatError, RecipeError, StorageError
from nasframe.recipe import run
from nasframe.recipe.discovery import shipped_studies
from nasframe.study import budget, execution
from nasframe.study.execution import run_study
from nasframe.study.folder import Folder
from nasframe.study.page import mean_curve
from nasframe.study.plan import HEAVIEST, RANDOM_ARCHITECTURE, RANDOM_SEARCH
from nasframe.study.reading import load_study
from nasframe.study.trial import Clock, run_trial

BASE = """\
name: base
device: cpu
data: {type: synthetic, num_train: 64, num_test: 16, height: 8, width: 8}
space: {type: macro, channels: 2, stages: [1], features: 8}
search: {valid_fraction: 0.25, trainer: {epochs: 5, batch_size: 16}}
retrain: {trainer: {epochs: 1, batch_size: 16}}
trackers: [jsonl]
"""
TINY = """\
name: tiny
budget: {epochs: 2}
seeds: [0, 1]
settings:
  small: {recipe: base.yaml}
methods:
  darts: {}
  diverging:
    overrides: {search: {trainer: {optimizer: {lr: 1.0e30}}}}
"""
SPOS = """\
  spos:
    overrides:
      search:
        algorithm: single_path
        mixed_op: uniform_path
        explorer: random_search
        score: {type: supernet, calibration_batches: 1}
        evaluations: 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study and its recipe."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder of a study that has ended, in the folder of its file, and what was printed."""
    folder = tmp_path_factory.mktemp("ended")
    write(folder)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as caught:
        main(["study", str(folder / "tiny.yaml"), "--out", str(folder / "out")])
    assert caught.value.code == 1  # because a trial failed
    return folder / "out", out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def finished(ended: tuple[Path, str, str]) -> Path:
    return ended[0]


def write(folder: Path, study: str = TINY) -> None:
    (folder / "base.yaml").write_text(BASE)
    (folder / "tiny.yaml").write_text(study)


def told(out: Path) -> dict:
    return json.loads((out / "study.json").read_text())


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


def done(out: Path) -> list[dict]:
    return [row for row in rows_of(out) if not row["failure"]]


def problems(study: str, *overrides: str) -> list:
    write(Path(), study)
    with pytest.raises(RecipeError) as caught:
        load_study("tiny.yaml", overrides, check=False)
    return caught.value.problems


def test_each_method_and_baseline_has_a_run_directory_for_each_seed(finished):
    methods = ("darts", RANDOM_SEARCH, RANDOM_ARCHITECTURE, HEAVIEST)
    assert {(row["method"], row["seed"]) for row in rows_of(finished)} == {
        (method, seed) for method in (*methods, "diverging") for seed in (0, 1)
    }
    for method in methods:
        for seed in ("0", "1"):
            run = finished / "trials" / "small" / method / seed / "run"
            assert json.loads((run / "status.json").read_text())["ended"] == "done"
            page = (run / "report.html").read_text(encoding="utf-8")
            assert f"A trial of a study: {method} in the setting small, seed {seed}." in page
            (link,) = re.findall(r'href="([^"#]+)">The study', page)
            assert (run / link).resolve() == (finished / "study.html").resolve()


def test_every_search_costs_as_many_epochs(finished):
    spent = {row["method"]: row["epochs"] for row in done(finished)}
    assert spent == {"darts": 2, RANDOM_SEARCH: 2, RANDOM_ARCHITECTURE: 0, HEAVIEST: 0}
    evaluations = {row["method"]: row["evaluations"] for row in done(finished)}
    assert evaluations == {"darts": None, RANDOM_SEARCH: 2, RANDOM_ARCHITECTURE: 1, HEAVIEST: 1}


def test_the_heaviest_architecture_is_that_of_the_largest_blocks(finished):
    (choices,) = {json.dumps(row["choices"]) for row in rows_of(finished) if row["method"] == HEAVIEST}
    assert json.loads(choices) == {"layer_0": ["mb_k5_e6"]}


def test_results_follow_from_the_trials(finished):
    found = told(finished)
    assert (found["complete"], found["trials"]) == (True, {"planned": 10, "done": 8, "failed": 2})
    summaries = {each["method"]: each for each in found["settings"]["small"]["methods"]}
    diverging = summaries.pop("diverging")
    assert (diverging["done"], diverging["failed"], "accuracy" in diverging) == (0, 2, False)
    values = {
        method: [row["accuracy"] for row in done(finished) if row["method"] == method] for method in summaries
    }
    for method, summary in summaries.items():
        assert summary["accuracy"]["mean"] == pytest.approx(sum(values[method]) / 2)
        below = sum(values[RANDOM_ARCHITECTURE]) / 2
        gain = 100 * (sum(values[method]) / 2 - below) / below
        if method != RANDOM_ARCHITECTURE:
            assert summary["over_random_architecture"]["mean"] == pytest.approx(gain)
    assert summaries[RANDOM_SEARCH]["over_random_search"] is None
    assert summaries["darts"]["search_seconds"]["mean"] > 0


def test_the_table_and_the_page_have_every_trial_and_method(finished):
    with (finished / "study.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 10
    assert {line["accuracy"] for line in lines} == {str(row.get("accuracy", "")) for row in rows_of(finished)}
    page = (finished / "study.html").read_text()
    assert all(f'<th scope="row">{method}</th>' in page for method in ("darts", "diverging", HEAVIEST))
    assert "All 10 trials have ended, 2 failed." in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_checklist_is_answered_from_what_was_run(finished):
    answers = {item["question"]: item["answer"] for item in told(finished)["checklist"]}
    assert len(answers) == 16
    assert answers["Do all methods have the same data, split, space and final training?"] == "yes"
    assert answers["Are there ablations?"] == "not known"
    assert answers["Is it told how settings were tuned, and what that took?"] == "not known"
    assert answers["Is a tabular or surrogate benchmark used?"] == "no"
    assert answers["Is there a comparison with random search?"] == "yes"


def test_what_is_done_is_not_run_again_and_a_torn_line_is(finished, tmp_path, monkeypatch):
    for name in ("out", "tiny.yaml", "base.yaml"):
        source = finished.parent / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    out, ran = tmp_path / "out", []
    before = (out / "trials.jsonl").read_bytes()
    assert json.loads(before.splitlines()[-1])["method"] == HEAVIEST
    last = json.loads(before.splitlines()[-1])
    (out / "trials.jsonl").write_bytes(before[:-20])

    def watch(trial):
        ran.append((trial.method, trial.seed))
        failed = trial.method == "diverging"
        return {**last, "method": trial.method, "seed": trial.seed, "failure": "again" if failed else None}

    monkeypatch.setattr(execution, "run_trial", watch)
    monkeypatch.chdir(finished.parent)  # the recipes are the same only where their paths are
    run_study(load_study(finished.parent / "tiny.yaml", check=False), out)
    assert ran == [("diverging", 0), ("diverging", 1), (HEAVIEST, 1)]
    assert (out / "trials.jsonl").read_bytes().startswith(before[: before.rindex(b"\n", 0, -1) + 1])
    assert told(out)["trials"] == {"planned": 10, "done": 8, "failed": 2}


def test_a_study_of_another_recipe_is_refused_in_the_same_folder(finished):
    other = load_study(finished.parent / "tiny.yaml", ["overrides.search.trainer.batch_size=8"], check=False)
    with pytest.raises(FormatError, match="was run with another recipe, or by a nasframe"):
        run_study(other, finished)


def test_a_trial_that_was_interrupted_goes_on_in_a_process_of_its_own(finished, tmp_path):
    overrides = ("~methods.diverging", "seeds=[0]")
    loaded = load_study(finished.parent / "tiny.yaml", overrides, check=False)
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "trials/small/darts")
    others = (json.dumps(row) + "\n" for row in rows_of(finished) if row["method"] != "darts")
    (out / "trials.jsonl").write_text("".join(others))

    def interrupt(stage, step, num_steps, epoch, metrics):
        if stage == "search" and step == 4:
            raise KeyboardInterrupt

    def stop(trial):
        return run(trial.recipe, trial.folder / "run", interrupt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "run_trial", stop)
        with pytest.raises(KeyboardInterrupt):
            run_study(loaded, out)
    assert told(out)["complete"] is False
    summaries = {each["method"]: each for each in told(out)["settings"]["small"]["methods"]}
    assert "accuracy" in summaries[RANDOM_SEARCH]
    assert "accuracy" not in summaries["darts"]
    assert "Not complete: 3 of 4 trials are done" in (out / "study.html").read_text()
    found = run_study(loaded, out, executor=executors.component("processes", jobs=2))
    assert (found["complete"], found["trials"]["done"]) == (True, loaded.num_trials) == (True, 4)
    status = json.loads((out / "trials/small/darts/0/run/status.json").read_text())
    assert (status["ended"], status["steps"]["search"]) == ("done", 6)


def test_by_a_table_random_choice_and_multiply_adds_stand_beside_the_methods(folder, macro_table):
    write(
        folder,
        TINY.replace(
            "small: {recipe: base.yaml}",
            "small: {recipe: base.yaml, overrides: {space: {stages: [2, 3, 3]}}}",
        )
        + SPOS,
    )
    overrides = (
        f"overrides.search.benchmark={{type: nas_bench_macro, path: {macro_table}}}",
        "overrides.retrain.trainer.max_steps=1",
        "~methods.darts",
        "~methods.diverging",
        "seeds=[0]",
        "ranked=3",
    )
    loaded = load_study("tiny.yaml", overrides)
    found = run_study(loaded, folder / "out")
    assert loaded.num_trials == found["trials"]["done"] == 2
    setting = found["settings"]["small"]
    values = [entry["mean_acc"] / 100 for entry in json.loads(macro_table.read_text()).values()]
    facts = setting["facts"]
    assert (facts["count"], facts["are_all"]) == (3**8, True)
    assert facts["random"]["1"] == pytest.approx(sum(values) / len(values))
    assert facts["best"]["accuracy"] == max(values)
    heaviest = json.loads(macro_table.read_text())["22222222"]["mean_acc"] / 100
    assert (facts["heaviest"]["architecture"], facts["heaviest"]["accuracy"]) == ("22222222", heaviest)
    assert facts["heaviest"]["rank"] == 1 + sum(value > heaviest for value in values)
    assert [each["method"] for each in setting["methods"]] == [RANDOM_SEARCH, "spos"]
    trial = setting["methods"][1]["trials"][0]
    accuracy = json.loads(macro_table.read_text())[trial["architecture"]]["mean_acc"] / 100
    assert (trial["accuracy"], trial["rank"]) == (accuracy, 1 + sum(value > accuracy for value in values))
    told_by = json.loads((folder / "out/trials/small/spos/0/ranking.json").read_text())
    assert [len(each) for each in told_by.values()] == [3, 3]
    seconds, bests = zip(*trial["curve"], strict=True)
    assert len(bests) == 3
    assert bests[-1] == accuracy
    assert list(seconds) == sorted(seconds)
    page = (folder / "out" / "study.html").read_text()
    assert all(words in page for words in ("best of 20 random", "best of 100 random", "most multiply-adds"))


def test_a_trial_that_fails_is_told_and_the_others_go_on(ended):
    _, printed, told_besides = ended
    failures = told(ended[0])["failures"]
    assert [(each["method"], each["seed"]) for each in failures] == [("diverging", 0), ("diverging", 1)]
    assert "NonFiniteError" in failures[0]["failure"]
    assert "failed: small, diverging, seed 1" in told_besides
    assert "All 10 trials have ended, 2 failed." in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("darts"))
    mean = sum(row["accuracy"] for row in done(ended[0]) if row["method"] == "darts") / 2
    assert f"{mean:.2%} ± " in line


def test_a_problem_of_a_recipe_is_told_where_the_study_says_it(folder):
    (problem,) = problems(TINY + SPOS.replace("mixed_op: uniform_path", "mixed_op: uniform_paths"))
    assert problem.position[:2] == ("tiny.yaml", 14)
    assert problem.path == "search.mixed_op.type (spos in small)"
    assert "uniform_path" in problem.advice


def test_a_problem_of_what_all_share_is_told_once(folder):
    (problem,) = problems(TINY, "overrides.data.num_train=none")
    assert problem.path.startswith("data.num_train")


@pytest.mark.parametrize(
    ("before", "after", "path", "rule"),
    [
        ("budget: {epochs: 2}\n", "", "budget", "either `epochs` or `seconds`"),
        ("{epochs: 2}", "{epochs: 2, seconds: 9}", "budget", "either `epochs` or `seconds`"),
        ("epochs: 2", "epochs: 0", "budget.epochs", "greater than 0"),
        ("seeds: [0, 1]", "seeds: [1, 1]", "seeds", "must differ"),
        ("seeds: [0, 1]", "seeds: []", "seeds", "at least one"),
        ("darts: {}", "random search: {}", "methods.random search", "another name"),
        ("darts: {}", "../darts: {}", "methods", "name of a folder"),
        ("darts: {}", "darts: {recipes: a}", "methods.darts.recipes", "no such setting"),
        ("darts: {}", "darts: {overrides: 3}", "methods.darts.overrides", "must be a mapping"),
        ("{recipe: base.yaml}", "{}", "settings.small.recipe", "must be given"),
        ("{recipe: base.yaml}", "{recipe: absent.yaml}", "include", "must be a file"),
        ("seeds:", "random_epochs: 3\nseeds:", "random_epochs", "at most the budget"),
    ],
)
def test_what_is_wrong_with_a_study_is_told(folder, before, after, path, rule):
    assert before in TINY
    (problem,) = problems(TINY.replace(before, after))
    assert problem.path.partition(" (")[0] == path
    assert rule in problem.rule


def test_an_absent_study_is_told_with_those_that_are_shipped(folder, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["study", "macros"])
    assert caught.value.code == 2
    assert "did you mean `macro`" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(FormatError, match="must be a new or empty folder"):
        Folder(folder / "mine")


def test_a_study_is_worked_on_by_one_process_alone(folder):
    with (
        Folder(folder / "out").held(),
        pytest.raises(StorageError, match="by one process alone"),
        Folder(folder / "out").held(),
    ):
        pass


def test_the_shipped_studies_need_only_what_their_headers_say(tmp_path, macro_table):
    given = (f"overrides.search.benchmark.path={macro_table}", f"overrides.data.path={tmp_path}")
    assert set(shipped_studies()) == {"macro", "nas_bench_201_small"}
    for name, overrides in (("macro", given), ("nas_bench_201_small", ())):
        study = load_study(name, (*overrides, "~methods.gdas"), check=False).study
        assert len(study.methods) + 2 >= 9
        assert len(study.seeds) >= 3
    with pytest.raises(RecipeError) as caught:
        load_study(name, overrides, check=False)
    assert {problem.given for problem in caught.value.problems} == {"`gdas`"}


def test_a_clock_goes_on_after_an_interruption_and_keeps_first_times(tmp_path):
    path = tmp_path / "clock.jsonl"
    clock = Clock(path, "cpu", [2])
    for step, epoch in ((1, 1), (2, 1), (3, 2)):
        clock("search", step, 4, epoch, {})
    path.write_bytes(path.read_bytes() + b'{"step": 2, "sec')
    again = Clock(path, "cpu", [2])
    for step, epoch in ((2, 1), (3, 2), (4, 2)):
        again("search", step, 4, epoch, {})
    again("search", 1, 2, 0, {})
    again("search", 2, 2, 0, {})
    steps = [json.loads(line) for line in path.read_text().splitlines()]
    assert [each["step"] for each in steps] == [1, 2, 3, 4]
    seconds = [each["seconds"] for each in steps]
    assert seconds == sorted(seconds)
    assert again.spent == seconds[-1]
    assert again.curve([0.1, None, 0.3, 0.4, 0.5]) == [
        (seconds[0], 0.1),
        (seconds[2], 0.3),
        (seconds[3], 0.4),
    ]


def test_a_clock_counts_the_epochs_of_all_stages_of_a_search(tmp_path):
    path = tmp_path / "clock.jsonl"
    heard = [("search 1/2", 1), ("search 1/2", 2), ("search 2/2", 1), ("search 2/2", 2), ("search 2/2", 3)]
    for stage, epoch in heard[:4]:
        Clock(path, "cpu", [2, 3])(stage, 1, 2, epoch, {})  # each time as after an interruption
    assert not path.exists()
    clock = Clock(path, "cpu", [2, 3])
    for stage, epoch in heard[1:]:
        clock(stage, 1, 2, epoch, {})
    clock("retrain", 1, 2, 1, {})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2, 3, 4, 5]


STAGED = """\
  staged:
    overrides:
      search: {stages: [{}, {keep: 2, trainer: {epochs: 2}}]}
"""


def test_a_search_in_stages_costs_as_much_as_any_other(folder):
    write(Path(), TINY.replace("{epochs: 2}\n", "{epochs: 3}\n", 1) + STAGED)
    loaded = load_study("tiny.yaml", ["seeds=[0]"], check=False)
    trials = {trial.method: trial for trial in execution._Setup(loaded, Folder(Path("out")), ()).trials()}
    stages = trials["staged"].recipe.search.stages
    assert [each.trainer.settings["epochs"] for each in stages] == [2, 1]  # of 5 and 2
    row = run_trial(trials["staged"])
    assert (row["failure"], row["epochs"]) == (None, 3)
    clock = (trials["staged"].folder / "clock.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in clock] == [1, 2, 3]
    assert row["seconds"]["search_processor"] == json.loads(clock[-1])["seconds"] > 0


def test_seconds_buy_what_steps_of_the_search_were_measured_to_take_once(folder, monkeypatch):
    write(Path(), TINY.replace("{epochs: 2}", "{seconds: 9}").partition("  diverging")[0])
    loaded, measured, real = load_study("tiny.yaml", ["seeds=[0]"], check=False), [], budget.rehearse

    def rehearse(*given, **settings):
        measured.append(real(*given, **settings))
        return measured[-1]

    monkeypatch.setattr(budget, "rehearse", rehearse)
    kept = Path(f"out/budgets/small/{RANDOM_SEARCH}.json")
    kept.parent.mkdir(parents=True)
    Path("out/study.yaml").touch()
    kept.write_text('{"epochs": 1, "evaluations": 3}')  # as if it had been measured before
    found = [
        {
            trial.method: trial.recipe.search
            for trial in execution._Setup(loaded, Folder(Path("out")), ()).trials()
        }
        for _ in range(2)
    ]
    (one,) = measured  # and the second time, nothing
    assert found[0] == found[1]
    assert found[0][RANDOM_SEARCH].evaluations == 3
    # 5 epochs of 3 steps of 16 of the 48 examples for weights, and a validation and looks after each
    (phase,) = one.phases
    assert (one.stage, one.num_epochs, phase.num_steps) == ("search", 5, 15)
    whole = 15 * phase.seconds_per_step + 5 * one.validation_seconds + one.health_seconds
    assert 0 < phase.seconds_per_step < whole
    epochs = found[0]["darts"].trainer.settings["epochs"]
    assert epochs == math.floor(9 / (whole / 5))


def test_mean_curves_begin_where_all_have_something_to_return():
    one, other = [(1.0, 0.2), (4.0, 0.8)], [(2.0, 0.4), (3.0, 0.6)]
    assert mean_curve([one, other]) == [
        (2.0, pytest.approx(0.3)),
        (3.0, pytest.approx(0.4)),
        (4.0, pytest.approx(0.7)),
    ]
