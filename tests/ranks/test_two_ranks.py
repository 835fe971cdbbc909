"""Two processes that share a batch compute what one computes with all of it.

The module runs itself in a process that splits in two ranks, once: they compute all that the tests look at.
"""

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, final

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import distributed, nn

from nasframe import load_recipe, run
from nasframe.core import (
    AsGiven,
    Batch,
    BatchStream,
    Model,
    Objective,
    Perturbed,
    Space,
    Task,
    TensorSplit,
    WeightAverage,
    WeightUpdate,
    algorithms,
    averaged,
    calibrated,
    derived,
    generator_for,
    num_ranks,
    objectives,
    optimizers,
    perturbations,
    sample,
    spaces,
    supernet,
    trainers,
)
from nasframe.core.ranks import check_same, rank
from nasframe.core.synchronized import synchronized
from nasframe.errors import NasframeError
from nasframe.ops.drop_path import DropPath
from nasframe.recipe import resume
from nasframe.recipe.allocator import keep_freed_memory
from nasframe.recipe.running import run_fitted_by
from nasframe.testing import example_space

BATCH_SIZE = 8


# What both compute ------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Case:
    """Steps of an algorithm.

    Attributes:
        algorithm: Its name.
        settings: Its settings.
        mixed_op: Of the supernet; none for a derived network.
        images: Whether the space has batch norms.
        perturbed: Whether the adversarial perturbation is around it.
        recomputed: Whether activations are computed again.
        steps: How many.
    """

    algorithm: str
    settings: dict[str, Any] = field(default_factory=dict)
    mixed_op: str | None = "softmax"
    images: bool = True
    perturbed: bool = False
    recomputed: bool = False
    steps: int = 1

    def space(self) -> Space:
        if not self.images:
            return example_space()
        operations = ("none", "skip_connect", "nor_conv_1x1")
        made: Space = spaces["nas_bench_201"](Task((2, 4, 4), 3), channels=2, cells=1, operations=operations)
        return made

    def batch(self, number: int) -> Batch:
        generator = torch.Generator().manual_seed(number)
        shape = (BATCH_SIZE, 2, 4, 4) if self.images else (BATCH_SIZE, 4)
        inputs = torch.randn(shape, generator=generator, dtype=torch.float64)
        return Batch(inputs, torch.randint(3, (BATCH_SIZE,), generator=generator))

    def model(self) -> Model:
        if self.mixed_op is None:
            return derived(self.space(), sample(self.space(), generator_for(2)))
        return supernet(self.space(), self.mixed_op, recomputed=self.recomputed)

    def outcome(self, share: Callable[[Batch], Batch]) -> dict[str, torch.Tensor]:
        """All that the steps leave, and their figures."""
        torch.manual_seed(3)
        model = self.model().double().train()
        with synchronized(model) if num_ranks() > 1 else nullcontext():
            left = self._steps(model, share)
            if model.draws:
                with calibrated(model, [self.batch(90), self.batch(91)]):
                    left["calibrated"] = model(self.batch(92).inputs)
        left |= model.state_dict()
        return {name: torch.as_tensor(value).detach().clone() for name, value in left.items()}

    def _steps(self, model: Model, share: Callable[[Batch], Batch]) -> dict[str, Any]:
        """What the steps say."""
        objective: Objective = objectives["cross_entropy"]()
        weights = list(model.parameters_at("lower"))
        optimizer = optimizers["sgd"](weights, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
        update = WeightUpdate(model, objective, optimizer, max_grad_norm=0.5)
        algorithm = algorithms[self.algorithm](model, objective, **self.settings)
        if self.perturbed:
            ascent = perturbations["adversarial"](epsilon_min=0.2, epsilon_max=0.2, steps=2)
            algorithm = Perturbed(algorithm, model, objective, ascent)
        model.anneal(0.5)
        algorithm.begin_epoch(0, 2)
        said: dict[str, Any] = {}
        average = WeightAverage(model, 0.9)
        for step in range(self.steps):
            train, valid = share(self.batch(2 * step)), share(self.batch(2 * step + 1))
            metrics = algorithm.step(train, valid, update)
            said |= {f"step {step}: {name}": each for name, each in metrics.items()}
            average.update()
        return said | {f"average of {name}": mean for name, mean in average.state_dict()["means"].items()}


CASES = {
    "first order": Case("darts_bilevel", steps=2),
    "second order by finite difference": Case("darts_bilevel", {"order": 2}, steps=2),
    "second order by the exact product": Case("darts_bilevel", {"order": 2, "hessian": "exact"}),
    "first order, computed again": Case("darts_bilevel", recomputed=True),
    "second order in pieces": Case("darts_bilevel", {"order": 2, "chunks": 2}, images=False),
    "first order with noise": Case("darts_bilevel", mixed_op="concrete"),
    "first order, perturbed": Case("darts_bilevel", perturbed=True),
    "two paths": Case("proxyless", {"update": "two_paths"}, mixed_op="binary_gate", steps=2),
    "all paths": Case("proxyless", {"update": "all_paths"}, mixed_op="binary_gate"),
    "reinforce": Case(
        "proxyless", {"update": "reinforce", "num_samples": 2, "reward": "loss"}, "binary_gate"
    ),
    "single path": Case("single_path", mixed_op="uniform_path"),
    "fair": Case("fairnas", mixed_op="uniform_path"),
    "a derived network": Case("weights_only", mixed_op=None),
}

RECIPE = """
name: ranks
seed: 1
device: cpu
threads: 1
data: {type: synthetic, num_train: 64, num_test: 15, num_classes: 3, height: 8, width: 8}
space: {type: nas_bench_201, channels: 2, cells: 1, operations: [skip_connect, nor_conv_1x1]}
search:
  algorithm: {type: darts_bilevel, alpha_optimizer: {lr: 0.1}}
  augment: [flip]
  trainer:
    {epochs: 2, batch_size: 8, eval_batch_size: 7, optimizer: {lr: 0.1}, check_steps: 1,
     batch_norm: synchronized}
retrain:
  inherit: true
  augment: [flip]
  valid_fraction: 0.5
  seeds: 2
  trainer:
    {epochs: 2, batch_size: 8, eval_batch_size: 7, optimizer: {lr: 0.1}, ema_decay: 0.9, ends_with: best}
trackers: [jsonl]
"""
REFUSED = {
    "explorer": ["search.explorer=random_search", "search.score=parameters", "retrain.inherit=false"],
    "batch size": ["search.trainer.batch_size=9"],
    "unreadable": ["search.trainer.on_unreadable=skip"],
}


# In the two ranks -------------------------------------------------------------------------------------


def share_of_rank(batch: Batch) -> Batch:
    return batch.chunk(num_ranks())[rank()]


def local_norms() -> dict[str, torch.Tensor]:
    """A step of a network whose batch norm sees a share; drop path draws for the whole batch."""
    torch.manual_seed(0)
    model = Model(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3), DropPath(0.5))).double().train()
    model.anneal(1.0)
    update = WeightUpdate(
        model, objectives["cross_entropy"](), optimizers["sgd"](list(model.parameters()), lr=0.1)
    )
    update(share_of_rank(Case("weights_only", images=False).batch(0)))
    return model.state_dict()


def drop_path() -> torch.Tensor:
    torch.manual_seed(0)
    layer = DropPath(0.5).train()
    layer.anneal(1.0)
    return layer(torch.ones(4, 2))


def error_of(act: Callable[[], object]) -> str:
    try:
        act()
    except NasframeError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def diverging(folder: Path) -> None:
    """A run in which the second rank's alphas are moved by the smallest step after the third one."""

    def fit(trainer: Any, job: Any) -> None:
        def move(stage: str, step: int, *others: Any) -> None:
            if step == 3 and rank() == 1:
                alpha = next(job.model.parameters_at("upper"))
                with torch.no_grad():
                    alpha[0] = torch.nextafter(alpha[0], torch.tensor(9.0))

        trainer.fit(replace(job, progress=move))

    run_fitted_by(load_recipe(folder / "recipe.yaml"), folder / "diverged", fit)


def interrupted(folder: Path) -> int:
    """A run of which one rank gets a signal, and that is resumed; returns the step that it ended after."""
    heard: list[int] = []

    def interrupt(stage: str, step: int, *others: Any) -> None:
        heard.append(step)
        if (stage, step) == ("search", 3) and rank() == 1:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        run(load_recipe(folder / "recipe.yaml"), folder / "interrupted", interrupt)
    except KeyboardInterrupt:
        distributed.barrier()
        resume(folder / "interrupted")
    return heard[-1]


def compute(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {name: case.outcome(share_of_rank) for name, case in CASES.items()}
    found["local norms"], found["drop path"] = local_norms(), drop_path()
    recipe = folder / "recipe.yaml"
    finished = run(load_recipe(recipe), folder / "whole")
    found["run"] = finished.folder, finished.genotype, finished.metrics
    found["step of the interrupt"] = interrupted(folder)
    found["left in the temporary folder"] = list(Path(tempfile.gettempdir()).glob("nasframe-*"))
    found["diverged"] = error_of(lambda: diverging(folder))
    for name, overrides in REFUSED.items():
        found[name] = error_of(lambda: run(load_recipe(recipe, overrides), folder / name))  # noqa: B023
    found["no folder"] = error_of(lambda: run(load_recipe(recipe), folder / "whole"))
    numbers = {"a": torch.zeros(2), "b": [torch.ones(1), 5 + (rank() == 1)]}
    found["other numbers"] = error_of(lambda: check_same("here", numbers))
    return found


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    gc.freeze()  # so that no rank copies what both have
    ranks = []
    for number in range(2):
        if (process := os.fork()) == 0:
            tempfile.tempdir = str(folder / f"temporary-{number}")
            Path(tempfile.tempdir).mkdir()
            store = f"file://{folder}/store"
            distributed.init_process_group("gloo", init_method=store, rank=number, world_size=2)
            (folder / f"rank-{number}.pickle").write_bytes(pickle.dumps(compute(folder)))
            distributed.destroy_process_group()
            sys.exit()
        ranks.append(process)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in ranks))


if __name__ == "__main__":
    main(Path(sys.argv[1]))


# What the tests look at -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where the two ranks have been, once for all processes that the tests run in."""
    root = tmp_path_factory.getbasetemp()
    folder = (root if worker_id == "master" else root.parent) / "ranks"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            (folder / "recipe.yaml").write_text(RECIPE)
            done = subprocess.run(
                [sys.executable, "-W", "ignore", __file__, str(folder)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                capture_output=True, text=True, timeout=240, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            (folder / "done").touch()
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """What each of the two ranks computed; written by this module itself."""
    return [pickle.loads((folder / f"rank-{number}.pickle").read_bytes()) for number in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_take_the_steps_that_one_takes_with_the_joined_batch(
    found: list[dict[str, Any]], name: str
) -> None:
    whole = CASES[name].outcome(lambda batch: batch)
    first, second = (each[name] for each in found)
    assert first.keys() == second.keys() == whole.keys()
    for part, expected in whole.items():
        assert torch.equal(first[part], second[part]), part
        limit = 1e-9 if expected.dtype == torch.float64 else 1e-6  # accuracies are means in single precision
        torch.testing.assert_close(first[part], expected, rtol=limit, atol=limit, check_dtype=False, msg=part)


def test_one_rank_with_its_share_alone_would_end_elsewhere() -> None:
    case = CASES["second order by the exact product"]
    whole, half = case.outcome(lambda batch: batch), case.outcome(lambda batch: batch.chunk(2)[0])
    apart = [
        name for name, value in whole.items() if not torch.allclose(value.double(), half[name].double(), 1e-6)
    ]
    assert any("alpha" in name for name in apart)
    assert any("running_var" in name for name in apart)


def test_local_batch_norms_track_the_means_of_what_the_ranks_saw(found: list[dict[str, Any]]) -> None:
    halves = Case("weights_only", images=False).batch(0).inputs.split(BATCH_SIZE // 2)
    mean = torch.stack([half.mean(0) for half in halves]).mean(0)
    variance = torch.stack([half.var(0) for half in halves]).mean(0)
    for left in (each["local norms"] for each in found):
        torch.testing.assert_close(left["network.0.running_mean"], 0.1 * mean)
        torch.testing.assert_close(left["network.0.running_var"], 0.9 + 0.1 * variance)
    assert all(
        torch.equal(one, found[1]["local norms"][name]) for name, one in found[0]["local norms"].items()
    )


def test_each_rank_drops_the_paths_of_its_share_of_the_batch(found: list[dict[str, Any]]) -> None:
    torch.manual_seed(0)
    layer = DropPath(0.5).train()
    layer.anneal(1.0)
    together = torch.cat([each["drop path"] for each in found])
    assert torch.equal(together, layer(torch.ones(8, 2)))
    assert not torch.equal(*together.chunk(2))


def test_all_ranks_have_the_result_of_a_run_and_the_first_alone_writes_it(
    folder: Path, found: list[dict[str, Any]]
) -> None:
    assert found[0]["run"] == found[1]["run"]
    assert found[0]["run"][0] == folder / "whole"
    for stage in ("search", "retrain"):
        lines = (folder / "whole" / stage / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2]
    for number in range(2):
        assert found[number]["left in the temporary folder"] == []


def test_the_figures_of_a_run_are_of_all_examples(folder: Path, found: list[dict[str, Any]]) -> None:
    """15 examples in batches of 7, the last of which leaves one rank without any."""
    finished, data = folder / "whole", load_recipe(folder / "recipe.yaml").data()
    network = derived(load_recipe(folder / "recipe.yaml").space(data.task), found[0]["run"][1])
    network.load_state_dict(load_file(finished / "retrain" / "model.safetensors"))
    inputs = data.preprocess.normalize(data.preprocess.scale(data.test.batch(torch.arange(15)).inputs))
    labels = data.test.batch(torch.arange(15)).targets
    with torch.no_grad():
        outputs = network.eval()(inputs)
    metrics = found[0]["run"][2]
    assert metrics["test_loss"] == pytest.approx(
        float(nn.functional.cross_entropy(outputs, labels)), rel=1e-5
    )
    assert metrics["test_accuracy"] == pytest.approx(float((outputs.argmax(1) == labels).double().mean()))


def test_what_ranks_share_is_told_with_the_effective_batch(folder: Path) -> None:
    report = json.loads((folder / "whole" / "report.json").read_text())
    search, retrain, *_ = report["notes"]
    assert search.startswith("search: 2 ranks shared each batch of 8 examples, 4 each, at the learning rate")
    assert search.endswith("batch norms saw the whole batch")
    assert retrain.endswith("batch norms saw the share of their rank")
    assert report["environment"]["ranks"] == 2


def test_a_signal_to_one_rank_stops_all_after_the_same_step_and_loses_nothing(
    folder: Path, found: list[dict[str, Any]]
) -> None:
    assert [each["step of the interrupt"] for each in found] == [3, 3]
    whole, again = folder / "whole", folder / "interrupted"
    for name in ("search/genotype.json", "retrain/model.safetensors"):
        assert (whole / name).read_bytes() == (again / name).read_bytes()
    for stage in ("search", "retrain"):
        one, other = (
            [json.loads(line) for line in (each / stage / "metrics.jsonl").read_text().splitlines()]
            for each in (whole, again)
        )
        for line in (*one, *other):
            del line[f"{stage}/images_per_second"]
        assert one == other


def test_ranks_that_diverge_stop_the_run_and_say_where(folder: Path, found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["diverged"].startswith("RankError: search: step 3: all ranks must hold the same numbers")
        assert "rank 1 has another mixed_ops." in each["diverged"]
    status = json.loads((folder / "diverged" / "status.json").read_text())
    assert (status["ended"], status["reason"]) == ("failed", found[0]["diverged"])


def test_other_numbers_are_named_wherever_they_are(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["other numbers"].startswith("RankError: here: all ranks must")
        assert "rank 1 has another b than rank 0" in each["other numbers"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("explorer", "search.explorer: must not be there where several ranks share a run, for it scores one"),
        ("batch size", "search.algorithm: standard: batch_size must be a multiple of the 2 ranks, so that"),
        ("unreadable", "on_unreadable must be stop where there are 2 ranks, got skip"),
    ],
)
def test_what_ranks_cannot_do_is_refused_with_the_reason(
    found: list[dict[str, Any]], name: str, said: str
) -> None:
    for each in found:
        assert said in each[name]


def test_all_ranks_hear_of_an_error_of_the_first(found: list[dict[str, Any]]) -> None:
    assert [each["no folder"].partition(":")[0] for each in found] == ["FormatError", "RankError"]
    assert all("must be a new or empty folder" in each["no folder"] for each in found)


def test_alone_nothing_is_averaged_and_an_algorithm_says_whether_it_knows_of_ranks() -> None:
    tensors = [torch.ones(2), None]
    assert averaged(tensors) == tensors
    assert num_ranks() == 1
    for name in ("darts_bilevel", "proxyless", "single_path", "fairnas", "weights_only"):
        assert algorithms[name].knows_ranks
    assert trainers["standard"].knows_ranks


def test_ranks_read_parts_of_a_batch_without_overlap_or_loss() -> None:
    def epoch(count: int, part: tuple[int, int], *, training: bool) -> list[list[int]]:
        split = TensorSplit(torch.arange(count).float(), torch.arange(count))
        stream = BatchStream(
            split, AsGiven(), batch_size=4, device=torch.device("cpu"), training=training, part=part
        )
        return [batch.targets.tolist() for batch in islice(stream.epoch(2), 100)]

    whole = epoch(11, (0, 1), training=True)
    parts = [epoch(11, (number, 2), training=True) for number in range(2)]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole
    shares = [epoch(9, (number, 2), training=False) for number in range(2)]
    assert sorted(example for share in shares for batch in share for example in batch) == list(range(9))
