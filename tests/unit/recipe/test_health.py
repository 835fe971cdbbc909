"""The health of a search: its verdict, what follows from it, and what it costs a run (nothing but time)."""

import copy
import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import nasframe
from nasframe import Genotype, load_recipe, run
from nasframe.core import AsGiven, Checkpoints, SupernetFiller, Task, TensorSplit
from nasframe.errors import HealthWarning, RecipeError
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.recipe import resume
from nasframe.recipe.health import SearchHealth, Subject
from nasframe.recipe.recipe import Health
from nasframe.spaces.nas_bench_201 import NasBench201

TASK = Task((1, 8, 8), 3)
SPACE = NasBench201(TASK, channels=2, cells=1, operations=("none", "skip_connect", "nor_conv_1x1"))
EDGES = ("cell_1_0", "cell_2_0", "cell_2_1", "cell_3_0", "cell_3_1", "cell_3_2")
QUIET = {"gap_every": None}
KILLS = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "kills.py"), run_name="kills")


class _Search:
    """A supernet whose alphas the test sets, and what its health tells."""

    def __init__(self, **settings: Any) -> None:
        torch.manual_seed(0)
        self.model = nasframe.supernet(SPACE)
        images = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        subject = Subject(
            model=self.model,
            space=SPACE,
            task=TASK,
            objective=CrossEntropy(),
            derive=lambda: _strongest(self.model),
            valid=TensorSplit(images, torch.arange(40) % 3),
            preprocess=AsGiven(),
            device=torch.device("cpu"),
            seed=0,
        )
        self.told: list[dict[str, Any]] = []
        self.kept: list[Genotype] = []
        self.health = SearchHealth(Health(**settings), subject, self.told.append, self.kept.append)
        self.epoch = 0

    def prefer(self, kept: str) -> None:
        """An initial for each edge: n(one), s(kip), c(onvolution)."""
        names = {"n": "none", "s": "skip_connect", "c": "nor_conv_1x1"}
        for edge, letter in zip(EDGES, kept, strict=True):
            op = self.model.mixed_ops[edge]
            with torch.no_grad():
                for index, name in enumerate(self.model.choices[edge].candidates):
                    op.alpha[index] = 20.0 if name == names[letter] else 0.0

    def look(
        self, kept: str, metrics: dict[str, float] | None = None, *, is_last: bool = False
    ) -> tuple[dict[str, float], dict[str, Any] | None]:
        """The figures of an epoch that ends with these alphas, and what is put back."""
        self.prefer(kept)
        self.epoch += 1
        figures = dict(self.health.measure(self.epoch, metrics or {}, is_last=is_last))
        epoch = self.epoch
        return figures, self.health.judge(epoch, lambda: {"parameters": {}, "algorithm": {"epoch": epoch}})


def _strongest(model: nasframe.Model) -> Genotype:
    weights = model.choice_weights()
    return Genotype(
        {name: (choice.candidates[int(weights[name].argmax())],) for name, choice in model.choices.items()}
    )


GOOD, WORSE, WORST = "cccccs", "sscccc", "ssssnc"


def test_shares_masses_entropy_and_ranks_are_figures_of_each_epoch() -> None:
    search = _Search(**QUIET)
    figures, _ = search.look(WORST)
    assert figures["health/skip_share/cell"] == pytest.approx(4 / 6)
    assert figures["health/none_share/cell"] == pytest.approx(1 / 6)
    assert figures["health/skip_mass/cell"] == pytest.approx(4 / 6, abs=1e-6)  # one alpha is 20 above
    assert figures["health/none_mass/cell"] == pytest.approx(1 / 6, abs=1e-6)
    assert figures["health/entropy"] == pytest.approx(0, abs=1e-6)
    assert figures["health/cut"] == 0
    assert "health/rank_stability" not in figures  # there is no epoch before
    again, _ = search.look(WORST)
    assert again["health/rank_stability"] == pytest.approx(1)
    other, _ = search.look("cccccc")
    # of three weights two are tied: the strongest moved in five edges (τ_b = −1/2), in one it did not
    assert other["health/rank_stability"] == pytest.approx((1 + (5 * -0.5 + 1) / 6) / 2)


def test_a_search_that_is_well_says_so_at_its_end() -> None:
    search = _Search(**QUIET)
    search.look(WORSE)
    assert search.told == []
    search.look(GOOD, is_last=True)
    (summary,) = search.told
    assert summary["verdict"] == "healthy: 1 of 6 edges of cell are skips at epoch 2"
    assert summary["collapsed"] is False
    assert summary["left_out"] == {
        "gap": "search.health.gap_every is null",
        "eigenvalue": "search.health.eigenvalue_every is null",
    }
    assert search.kept == []


def test_a_collapse_is_told_once_it_has_lasted_with_the_last_good_epoch() -> None:
    search = _Search(patience=2, **QUIET)
    for kept in (GOOD, WORST, WORSE, WORST):  # a bad epoch alone is none
        search.look(kept)
    verdict = "collapsing: 5 of 6 edges of cell are skips or none at epoch 5; best kept at epoch 3"
    with pytest.warns(HealthWarning, match="search: collapsing: 5 of 6 edges of cell are skips or none"):
        _, earlier = search.look(WORST)
    assert search.told[-1]["verdict"] == verdict
    assert (search.told[-1]["collapsed"], search.told[-1]["best_epoch"]) == (True, 3)
    assert (earlier, search.health.has_ended) == (None, False)
    kept = search.kept[-1]
    assert [kept[edge] for edge in EDGES] == [("skip_connect",)] * 2 + [("nor_conv_1x1",)] * 4
    search.look(WORST)  # is not told again: warnings are errors
    search.look(GOOD, is_last=True)
    assert (
        search.told[-1]["verdict"]
        == f"recovered: 1 of 6 edges of cell are skips at epoch 7; before, {verdict}"
    )


def test_epochs_that_train_weights_alone_are_neither_good_nor_bad() -> None:
    search = _Search(patience=1, max_idle=0.0, **QUIET)
    for epoch in (1, 2):
        figures = search.health.measure(epoch, {}, is_last=False)
        assert figures["health/skip_share/cell"] + figures["health/none_share/cell"] > 0
        assert search.health.judge(epoch, dict) is None
    search.epoch = 2
    with pytest.warns(HealthWarning, match="at epoch 3; no epoch before was better"):
        search.look(WORST)


def test_an_architecture_that_does_not_depend_on_its_input_is_no_good_one() -> None:
    search = _Search(patience=1, max_idle=1.0, **QUIET)
    search.look(GOOD)
    with pytest.warns(HealthWarning, match="the derived network does not depend on its input at epoch 2"):
        figures, _ = search.look("cccnnn")
    assert figures["health/cut"] == 1


def test_stop_ends_the_search_with_the_alphas_of_the_last_good_epoch() -> None:
    search = _Search(action="stop", patience=1, **QUIET)
    search.look(WORSE)
    with pytest.warns(HealthWarning, match="best kept at epoch 1; the search ends with its alphas"):
        _, earlier = search.look(WORST)
    assert earlier is not None
    assert earlier["algorithm"] == {"epoch": 1}
    assert search.health.has_ended
    assert search.told[-1]["returns"] == [[2, 1]]


def test_rollback_goes_on_from_the_alphas_of_the_last_good_epoch() -> None:
    search = _Search(action="rollback", patience=2, **QUIET)
    search.look(GOOD)
    search.look(WORST)
    with pytest.warns(HealthWarning, match="best kept at epoch 1; the search goes on from its alphas"):
        _, earlier = search.look(WORST)
    assert earlier is not None
    assert earlier["algorithm"] == {"epoch": 1}
    assert not search.health.has_ended
    assert search.look(WORST)[1] is None  # patience begins anew
    _, earlier = search.look(WORST)
    assert earlier is not None
    assert search.told[-1]["returns"] == [[3, 1], [5, 1]]


def test_where_no_epoch_was_good_nothing_but_the_verdict_follows() -> None:
    search = _Search(action="stop", patience=1, **QUIET)
    with pytest.warns(HealthWarning, match="at epoch 1; no epoch before was better"):
        _, earlier = search.look(WORST)
    assert (earlier, search.health.has_ended, search.kept) == (None, False, [])


def test_its_state_goes_on_where_it_was() -> None:
    settings: dict[str, Any] = {"action": "stop", "patience": 2, **QUIET}
    one, other = _Search(**settings), _Search(**settings)
    for kept in (GOOD, WORST):
        one.look(kept)
    other.epoch = one.epoch
    other.health.load_state_dict(copy.deepcopy(one.health.state_dict()))
    for search in (one, other):
        with pytest.warns(HealthWarning, match="best kept at epoch 1"):
            search.look(WORST)
    assert one.health.state_dict() == other.health.state_dict()


def test_the_gap_is_none_where_the_mixture_is_the_path_and_measuring_leaves_no_trace() -> None:
    search = _Search(gap_every=2, gap_fraction=1.0)
    assert "health/gap" not in search.look(GOOD)[0]
    before = copy.deepcopy(search.model.state_dict())
    state = torch.get_rng_state()
    settled, _ = search.look(GOOD)  # each softmax is one-hot, but for 4e-9
    assert settled["health/gap"] == 0
    assert settled["health/supernet_accuracy"] == settled["health/path_accuracy"]
    assert all(torch.equal(before[name], value) for name, value in search.model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert search.model.training


def test_the_gap_is_what_the_supernet_reaches_beyond_the_path() -> None:
    search = _Search(gap_every=1, gap_fraction=1.0)
    search.prefer(GOOD)
    with torch.no_grad():
        for alpha in search.model.parameters_at("upper"):
            alpha.div_(40)  # the mixture is soft, the path the same
    figures = dict(search.health.measure(1, {}, is_last=False))
    # by hand: batch norms in training see the batch alone, and nothing else differs in training
    model = copy.deepcopy(search.model).train()
    (batch,) = search.health._batches("gap", 64).epoch(0)
    assert len(batch) == 40
    soft = (model(batch.inputs).argmax(1) == batch.targets).float().mean()
    for edge, letter in zip(EDGES, GOOD, strict=True):
        model.mixed_ops[edge].alpha.data = torch.tensor([float(letter == each) * 99 for each in "nsc"])
    hard = (model(batch.inputs).argmax(1) == batch.targets).float().mean()
    assert figures["health/supernet_accuracy"] == pytest.approx(float(soft))
    assert figures["health/path_accuracy"] == pytest.approx(float(hard))
    assert figures["health/gap"] == pytest.approx(float(soft - hard))


def test_the_path_has_each_state_whole_where_the_supernet_weighs_what_a_node_adds_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, add_up = _Search().model, SupernetFiller.sum

    def weighing(filler: SupernetFiller, branches: Any, choice: Any = None) -> nn.Module:
        return add_up(filler, branches, choice and replace(choice, weighed=True))

    monkeypatch.setattr(SupernetFiller, "sum", weighing)
    search = _Search(gap_every=1, gap_fraction=1.0)
    assert {"cell_1", "cell_2", "cell_3"} == set(search.model.mixed_ops._modules) - set(EDGES)
    search.health._subject = replace(
        search.health._subject,
        derive=lambda: Genotype(
            {edge: kept for edge, kept in _strongest(search.model).choices.items() if edge in EDGES}
        ),
    )
    search.prefer(GOOD)
    with torch.no_grad():
        for node in ("cell_2", "cell_3"):
            search.model.mixed_ops[node].alpha[0] = 3.0
    figures = dict(search.health.measure(1, {}, is_last=False))
    # by hand: the same weights in a supernet that adds up
    plain.network.load_state_dict(search.model.network.state_dict())
    for edge in EDGES:
        plain.mixed_ops[edge].alpha.data = 99 * search.model.mixed_ops[edge].alpha.data
    (batch,) = search.health._batches("gap", 64).epoch(0)
    outputs = plain.train()(batch.inputs)
    expected = (outputs.argmax(1) == batch.targets).float().mean()
    assert figures["health/path_accuracy"] == pytest.approx(float(expected))
    assert figures["health/supernet_accuracy"] != pytest.approx(float(expected))


TINY = """
name: tiny
device: cpu
threads: 1
data: {type: synthetic, num_train: 40, num_test: 16, num_classes: 3, height: 8, width: 8}
space:
  {type: darts, channels: 2, cells: 3, nodes: 1, operations: [skip_connect, sep_conv_3x3],
    search_drop_path: 0.3}
trackers: [jsonl]
search:
  algorithm: {type: darts_bilevel, alpha_optimizer: {lr: 0.3}}
  trainer: {epochs: 5, batch_size: 8, optimizer: {lr: 0.1}}
  health: {action: rollback, gap_every: 1, gap_fraction: 1.0, eigenvalue_every: 1, eigenvalue_examples: 8,
    eigenvalue_products: 3, eigenvalue_window: 1, eigenvalue_ratio: 1.0}
retrain: {trainer: {epochs: 1, batch_size: 8, max_steps: 1}}
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def rolled_back(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which everything is measured, and a rising eigenvalue leads the alphas back."""
    with pytest.warns(HealthWarning, match="the largest eigenvalue rose"):
        return run(load_recipe(recipe_file, check=False), tmp_path_factory.mktemp("runs") / "run").folder


def _outcome(folder: Path) -> dict[str, Any]:
    """Everything that a search's recipe decides."""
    report = json.loads((folder / "report.json").read_text())
    state = Checkpoints(folder / "search" / "checkpoints").latest()
    lines = KILLS["_lines"](folder / "search" / "metrics.jsonl")
    told = {part: report[part] for part in ("health", "metrics", "genotype", "alphas")}
    return {**told, "state": KILLS["_plain"](state), "lines": lines}


def test_a_run_records_its_health_and_the_report_has_the_verdict(rolled_back: Path) -> None:
    lines = [json.loads(line) for line in (rolled_back / "search" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    always = {"entropy", "cut", "gap", "supernet_accuracy", "path_accuracy", "eigenvalue"}
    cells = {f"{figure}/{cell}" for figure in ("skip_share", "skip_mass") for cell in ("normal", "reduce")}
    for line in lines:
        tags = {tag.removeprefix("health/") for tag in line if tag.startswith("health/")}
        assert tags - {"rank_stability"} == always | cells
    report = json.loads((rolled_back / "report.json").read_text())
    assert report["health"]["returns"]
    assert report["verdict"] == report["health"]["verdict"] != ""
    page = (rolled_back / "report.html").read_text()
    assert "Health of the search" in page
    assert "<title>skip share</title>" in page
    Genotype.load(rolled_back / "search" / "healthy_genotype.json")


@pytest.mark.filterwarnings("ignore::nasframe.errors.HealthWarning")
def test_a_run_that_was_stopped_ends_like_one_that_was_not(
    recipe_file: Path, rolled_back: Path, tmp_path: Path
) -> None:
    def progress(stage: str, step: int, num_steps: int, now: int, metrics: Any) -> None:
        if (stage, now) == ("search", 4):
            raise OSError("no space left")

    folder = tmp_path / "run"
    with pytest.raises(OSError, match="no space left"):
        run(load_recipe(recipe_file, check=False), folder, progress)
    resume(folder)
    result, expected = _outcome(folder), _outcome(rolled_back)
    for part in expected:
        assert result[part] == expected[part], part


def test_health_changes_nothing_of_a_search(recipe_file: Path, tmp_path: Path) -> None:
    found = []
    for name, health in (
        ("with", "{eigenvalue_every: 1, eigenvalue_products: 2, gap_every: 1}"),
        ("without", "{gap_every: null}"),
    ):
        overrides = [f"search.health={health}", "search.trainer.epochs=2"]
        done = run(load_recipe(recipe_file, ["~search.health", *overrides], check=False), tmp_path / name)
        report = json.loads((done.folder / "report.json").read_text())
        found.append((report["alphas"], done.metrics, report["curves"]["search/valid_loss"]))
    assert found[0] == found[1]


def test_stop_ends_a_run_early_and_derives_from_the_good_epoch(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file, ["search.health.action=stop"], check=False)
    with pytest.warns(HealthWarning, match="the search ends with its alphas"):
        done = run(recipe, tmp_path / "run")
    lines = (done.folder / "search" / "metrics.jsonl").read_text().splitlines()
    ((ended, best),) = json.loads((done.folder / "status.json").read_text())["health"]["returns"]
    assert len(lines) == ended < 5
    alphas = {tag: value for tag, value in json.loads(lines[best - 1]).items() if tag.startswith("alphas/")}
    for choice, kept in done.genotype.choices.items():
        weights = {
            tag.split("/")[2]: value for tag, value in alphas.items() if tag.startswith(f"alphas/{choice}/")
        }
        if weights:
            assert kept == (max(weights, key=weights.__getitem__),)
    assert done.health.endswith("the search ends with its alphas")


@pytest.mark.parametrize(
    ("search", "code", "path", "rule"),
    [
        (
            "{explorer: random_search, score: synflow, health: {action: stop}}",
            "NF131",
            "search.health.action",
            "must be tell, because the architecture is found by `random_search`, not read off alphas",
        ),
        (
            "{algorithm: proxyless, mixed_op: binary_gate, health: {eigenvalue_every: 2}}",
            "NF131",
            "search.health.eigenvalue_every",
            "must be null, because `binary_gate` is no weighted sum of its candidates",
        ),
        (
            "{valid_fraction: 0, algorithm: weights_only, health: {eigenvalue_every: 2}}",
            "NF085",
            "search.valid_fraction",
            "must be above 0, because the eigenvalue is measured on held-out examples",
        ),
    ],
)
def test_what_cannot_be_seen_or_done_is_refused(
    tmp_path: Path, search: str, code: str, path: str, rule: str
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"name: tiny\ndata: digits\nspace: darts\nsearch: {search}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, check=False)
    (problem,) = [each for each in caught.value.problems if each.kind.code == code]
    assert problem.path == path
    assert rule in problem.rule


def test_what_does_not_apply_is_left_out_and_said(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(TINY)
    overrides = [
        "~search.health", "~search.algorithm", "search.algorithm=proxyless", "search.mixed_op=binary_gate",
        "search.trainer.epochs=1",
    ]  # fmt: skip
    done = run(load_recipe(file, overrides, check=False), tmp_path / "run")
    health = json.loads((done.folder / "report.json").read_text())["health"]
    assert health["left_out"]["gap"] == "mixtures are not all weighted sums of their candidates"
    # after two steps; in the held-out examples the most frequent of three classes has 8 of 20
    assert done.health.startswith("at chance: ")
    assert " of 20 held-out examples are right at epoch 1, and 0.400 if all are answered alike" in done.health
