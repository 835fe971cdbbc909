"""What a recipe takes, before it is run."""

import itertools
from pathlib import Path

import pytest

from nasframe import Genotype, load_recipe
from nasframe.core import Space, Task, costs, derived
from nasframe.errors import UnsupportedError
from nasframe.recipe import plan, rehearsal, survey
from nasframe.recipe.planning import Network, Plan, StagePlan, Survey
from nasframe.recipe.pricing import CostRange
from nasframe.recipe.rehearsal import Phase, Rehearsal
from nasframe.spaces.macro import Macro

TINY = """
name: tiny
device: cpu
threads: 1
data: {type: synthetic, num_train: 32, num_test: 16, height: 8, width: 8}
space: {type: macro, channels: 2, stages: [1, 2], features: 4}
search: {trainer: {epochs: 2, batch_size: 8}}
retrain: {space: {channels: 3}, trainer: {epochs: 1, batch_size: 8}}
"""
OTHER_SPACE = """
name: tiny
device: cpu
threads: 1
data: {type: synthetic, num_train: 32, num_test: 16, height: 8, width: 8}
space: %s
"""
TASK = Task((3, 8, 8), 4)


def _recipe(folder: Path, *overrides: str, text: str = TINY):
    path = folder / "tiny.yaml"
    path.write_text(text)
    return load_recipe(path, overrides, check=False)


def _sizes(space: Space, genotype: Genotype) -> tuple[float, float]:
    network = derived(space, genotype)
    return tuple(costs.component(name)().of(network, TASK) for name in ("flops", "parameters"))


def test_smallest_and_largest_are_those_of_all_networks_of_the_retraining(tmp_path):
    found = survey(_recipe(tmp_path))
    space = Macro(TASK, channels=3, stages=(1, 2), features=4)
    keys = map("".join, itertools.product("012", repeat=3))
    every = sorted(_sizes(space, space.genotype(key)) for key in keys)
    assert (found.architectures, found.choices, found.alphas) == (27, 3, 9)
    for name, (multiply_adds, parameters) in {"smallest": every[0], "largest": every[-1]}.items():
        network = found.networks[name]
        assert (network.multiply_adds, network.parameters) == (multiply_adds, parameters)
        assert _sizes(space, network.genotype) == (multiply_adds, parameters)
    assert found.retrained == "largest"
    assert found.unknown == ""


def test_what_the_search_pays_for_is_told_beside_what_its_budget_leaves(tmp_path):
    space = Macro(TASK, channels=3, stages=(1, 2), features=4)
    keys = map("".join, itertools.product("012", repeat=3))
    every = sorted(_sizes(space, space.genotype(key))[0] for key in keys)
    paid = "search.cost=flops", "search.algorithm={type: proxyless}", "search.mixed_op=binary_gate"

    def surveyed(max_cost: float) -> Survey:
        return survey(_recipe(tmp_path, *paid, f"search.penalty={{type: budget, max: {max_cost}}}"))

    found = surveyed(every[0] + 1)
    assert all(network.cost == network.multiply_adds for network in found.networks.values())
    assert found.cost == CostRange("flops", "", every[0], every[-1], every[0] + 1)
    assert "in between" in found.cost.verdict
    assert "excludes nothing" in surveyed(every[-1]).cost.verdict
    with pytest.raises(UnsupportedError, match=f"at least {every[0]:,.0f}, what the cheapest"):
        surveyed(every[0] - 1)


def test_a_latency_is_measured_as_the_run_would_unless_nothing_shall_be(tmp_path):
    paid = "search.cost={type: latency, warmup: 0, repeats: 2}", "search.mixed_op=binary_gate"
    recipe = _recipe(tmp_path, *paid, "search.algorithm={type: proxyless}")
    found = survey(recipe)
    assert (found.cost.name, found.cost.unit) == ("latency", "ms")
    assert all(found.cost.least <= network.cost <= found.cost.most for network in found.networks.values())
    unmeasured = survey(recipe, measure=False)
    assert unmeasured.cost is None
    assert {network.cost for network in unmeasured.networks.values()} == {None}


def test_the_random_network_follows_from_the_seed(tmp_path):
    drawn = [survey(_recipe(tmp_path, f"seed={seed}")).networks["random"] for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({network.genotype for network in drawn}) > 1


def test_weights_are_those_of_the_supernet_and_none_is_an_alpha(tmp_path, third_party):
    # a linear layer for each of two candidates, of 3 · 8 · 8 inputs and 4 outputs, with biases
    source = """
        from torch import nn
        from nasframe.core import LayerChoice, Space

        class TwoLinear(Space):
            '''Two linear layers.'''
            def __init__(self, task) -> None:
                self.task = task
            def build(self, filler):
                choice = LayerChoice("only", ("a", "b"))
                return nn.Sequential(nn.Flatten(), filler.layer(choice, lambda name: nn.Linear(192, 4)))
    """
    third_party("unit_planned", source, spaces="unit_two_linear = TwoLinear")
    text = OTHER_SPACE % "unit_two_linear"
    found = survey(_recipe(tmp_path, text=text))
    assert (found.alphas, found.weights, found.architectures) == (2, 2 * (192 * 4 + 4), 2)
    assert found.networks["smallest"].multiply_adds == found.networks["largest"].multiply_adds == 192 * 4


def test_where_a_space_has_no_prices_it_says_so_and_plans_with_the_random_network(tmp_path, third_party):
    source = """
        from torch import nn
        from nasframe.core import LayerChoice, Space

        class KeepsTwo(Space):
            '''Keeps two of three layers.'''
            def __init__(self, task) -> None:
                self.task = task
            def build(self, filler):
                choice = LayerChoice("only", ("a", "b", "c"), num_chosen=2)
                return nn.Sequential(nn.Flatten(), filler.layer(choice, lambda name: nn.Linear(192, 4)))
    """
    third_party("unit_planned", source, spaces="unit_keeps_two = KeepsTwo")
    text = OTHER_SPACE % "unit_keeps_two"
    found = survey(_recipe(tmp_path, text=text))
    assert list(found.networks) == ["random"]
    assert found.retrained == "random"
    assert found.architectures == 3
    assert "must keep one candidate" in found.unknown


def test_a_recipe_without_a_search_has_one_network(tmp_path):
    space = Macro(TASK, channels=3, stages=(1, 2), features=4)
    space.genotype("012").save(tmp_path / "known.json")
    found = survey(_recipe(tmp_path, f"genotype={tmp_path}/known.json"))
    assert (found.alphas, found.weights, found.choices, found.architectures) == (None,) * 4
    multiply_adds, parameters = _sizes(space, space.genotype("012"))
    assert list(found.networks) == ["known"]
    assert found.networks["known"].multiply_adds == multiply_adds
    assert found.networks["known"].parameters == parameters


@pytest.fixture
def at_once(monkeypatch):
    """Rehearsals run in this process, whose memory is not theirs alone."""

    def run_here(arguments, folder):
        _, stage, skipped, *plugins = arguments
        rehearsal._rehearse_in(folder, stage, int(skipped), plugins)
        return 0, ""

    monkeypatch.setattr(rehearsal, "_run", run_here)
    monkeypatch.setattr(rehearsal, "peak_memory", lambda device: None)


GREEDY = """
    import torch
    from nasframe.core import Augmentation

    class Greedy(Augmentation):
        '''Wants an exbibyte for more than four images.'''

        def __call__(self, batch, generator):
            if len(batch) > 4:
                torch.empty(2**60, dtype=torch.uint8)
            return batch
"""


def test_where_memory_is_short_it_measures_the_batch_that_fits(tmp_path, monkeypatch, third_party, at_once):
    monkeypatch.chdir(tmp_path)
    third_party("unit_planned", GREEDY, augmentations="unit_greedy = Greedy")
    space = Macro(TASK, channels=3, stages=(1, 2), features=4)
    space.genotype("012").save(tmp_path / "known.json")
    recipe = _recipe(tmp_path, f"genotype={tmp_path}/known.json", "retrain.augment=[unit_greedy]")
    said: list[str] = []
    made = plan(recipe, survey(recipe), say=said.append)
    (stage,) = made.stages
    assert not made.fits
    assert (made.seconds, made.disk_bytes) == (None, None)
    assert "more memory than there is" in stage.shortage
    assert stage.advice == (
        "retrain.trainer.batch_size=4 (measured: it fits)",
        "or retrain.trainer.chunks=2, which keeps the batch size (not measured)",
    )
    assert [text for text in said if "batches of" in text] == [
        "measuring steps of the retrain, batches of 8, on cpu",
        "measuring steps of the retrain, batches of 8, recomputed, on cpu",
        "measuring steps of the retrain, batches of 4, on cpu",
    ]


def test_where_memory_is_short_it_measures_whether_computing_again_saves_enough(
    tmp_path, monkeypatch, third_party, at_once
):
    source = """
        import torch
        from torch import nn
        from nasframe.core import Block, LayerChoice, Space

        class Hoarder(Block):
            '''Wants an exbibyte unless it is computed again.'''
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(192, 4)
            def compute(self, x):
                if not self.recomputed:
                    torch.empty(2**60, dtype=torch.uint8)
                return self.layer(x)

        class Hoarders(Space):
            '''Two hoarders.'''
            def __init__(self, task) -> None:
                self.task = task
            def build(self, filler):
                choice = LayerChoice("only", ("a", "b"))
                return nn.Sequential(nn.Flatten(), filler.layer(choice, lambda name: Hoarder()))
    """
    monkeypatch.chdir(tmp_path)
    third_party("unit_planned", source, spaces="unit_hoarders = Hoarders")
    Genotype({"only": ("a",)}).save(tmp_path / "known.json")
    text = OTHER_SPACE % "unit_hoarders" + "retrain: {trainer: {epochs: 1, batch_size: 8}}\n"
    recipe = _recipe(tmp_path, f"genotype={tmp_path}/known.json", text=text)
    found = Survey(None, None, None, None, {"known": Network(Genotype.load(tmp_path / "known.json"), 0, 0)})
    (stage,) = plan(recipe, found).stages
    assert "more memory than there is" in stage.shortage
    assert stage.advice == (
        "retrain.recomputed=true (measured: it fits), which changes nothing but the time",
    )


def _stage(name: str, **changes: object) -> StagePlan:
    known = {
        "stage": name, "device": "cpu", "batch_size": 8, "num_epochs": 3,
        "phases": (Phase(0, 10, 2.0, 5), Phase(1, 20, 3.0, 5)), "prepare_seconds": 7.0,
        "validation_seconds": 1.5, "num_validated": 16, "health_seconds": 2.0,
        "peak_bytes": 100, "free_bytes": 200,
        "checkpoint_bytes": 10, "precision": "float32",
    }  # fmt: skip
    return StagePlan(name, Rehearsal(**{**known, **changes}))  # type: ignore[arg-type]


def test_the_estimate_is_the_sum_of_steps_validations_and_one_preparation():
    stages = (_stage("search"), _stage("retrain", prepare_seconds=100.0))
    made = Plan("cpu", stages, Path(), 60, 1000)
    assert made.seconds == 7 + 2 * (10 * 2 + 20 * 3 + 3 * 1.5 + 2)
    assert made.fits


def test_a_full_disk_does_not_fit():
    assert not Plan("cpu", (_stage("search"),), Path(), 60, 59).fits
    assert Plan("cpu", (_stage("search"),), Path(), 60, 60).fits


def test_it_says_which_nodes_are_computed_together_and_which_candidates_are_not(tmp_path):
    text = OTHER_SPACE % (
        "{type: darts, channels: 4, cells: 3, nodes: 2, operations: [none, skip_connect, sep_conv_3x3]}"
    )
    text += "retrain: {space: {channels: 4}}\nsearch: {mixed_op: softmax}\n"
    found = survey(_recipe(tmp_path, text=text)).fusion
    # a normal cell and two that halve; there each of 2 nodes reads 2 states at half their size
    assert (found.nodes, found.fused, found.apart) == (6, 6, {"skip_connect": 8})
    assert survey(_recipe(tmp_path, "search.fused=false", text=text)).fusion.fused == 0
    gates = ["search.algorithm=proxyless", "search.mixed_op=binary_gate"]
    assert survey(_recipe(tmp_path, *gates, text=text)).fusion.fused == 0
    assert survey(_recipe(tmp_path)).fusion.nodes == 0
