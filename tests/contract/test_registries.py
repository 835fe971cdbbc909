"""Every component that a registry holds fulfils the contract of its sort."""

import inspect
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import nasframe
from nasframe import testing
from nasframe.core import (
    Task,
    algorithms,
    augmentations,
    benchmarks,
    costs,
    datasets,
    derived,
    derivers,
    explorers,
    exporters,
    generator_for,
    layers,
    mixed_ops,
    networks,
    objectives,
    ops,
    optimizers,
    perturbations,
    readers,
    regularizers,
    sample,
    schedules,
    scores,
    spaces,
    supernet,
    trackers,
    trainers,
)
from nasframe.errors import RecipeError, SettingError
from nasframe.registry import BUILT_IN, Registry, registries
from nasframe.spaces.surgery import Rule

PROMISED = {
    "algorithms": {"darts_bilevel", "proxyless", "single_path", "fairnas"},
    "mixed_ops": {"softmax", "binary_gate", "uniform_path", "sigmoid", "concrete", "dirichlet"},
    "explorers": {
        "random_search",
        "regularized_evolution",
        "evolution",
        "local_search",
        "successive_halving",
    },
    "scores": {
        "table",
        "supernet",
        "retraining",
        "synflow",
        "jacob_cov",
        "snip",
        "grad_norm",
        "naswot",
        "parameters",
        "flops",
    },
    "derivers": {"darts", "threshold", "perturbation", "limited"},
    "spaces": {"darts", "mobile", "mobile_elastic", "mobile_stages", "macro", "nas_bench_201", "surgery"},
    "networks": {"resnet", "mlp", "text_mixer", "hugging_face", "timm"},
    "layers": {"linear", "identity"},
    "datasets": {"cifar10", "digits", "image_folder", "synthetic"},
    "optimizers": {"sgd", "adam", "adamw"},
    "schedules": {"constant", "cosine", "part"},
    "trainers": {"standard"},
    "trackers": {"tensorboard", "jsonl"},
    "ops": {"none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "dil_conv_5x5"},
    "objectives": {"cross_entropy"},
    "costs": {"parameters", "flops"},
    "exporters": {"onnx", "onnx_int8", "torch_export", "hub"},
    "readers": {"image", "row", "text"},
    "benchmarks": {"nas_bench_macro", "nas_bench_201"},
    "penalties": {"linear", "mul_log", "budget"},
    "regularizers": {"beta_decay", "zero_one", "dirichlet_anchor"},
    "perturbations": {"random", "adversarial"},
    "executors": {"processes", "ray", "slurm"},
}


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


def each(registry: Registry[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", registry.names())


def test_registries_of_the_design_exist() -> None:
    assert nasframe.registries.keys() >= {
        "algorithms", "explorers", "mixed_ops", "ops", "spaces", "derivers", "objectives", "datasets",
        "trainers", "trackers", "exporters", "costs",
    }  # fmt: skip


@pytest.mark.parametrize("registry", PROMISED)
def test_promised_names_exist(registry: str) -> None:
    assert PROMISED[registry] <= set(registries[registry].names())


@pytest.mark.parametrize(
    ("registry", "name"), [(each.name, name) for each in registries.values() for name in each]
)
def test_component_is_documented_typed_and_builds_where_it_needs_nothing(registry: str, name: str) -> None:
    testing.check_component(registry, name)


@pytest.mark.parametrize(
    ("registry", "name"), [(each.name, name) for each in registries.values() for name in each]
)
def test_component_that_is_a_class_is_final(registry: str, name: str) -> None:
    factory = registries[registry][name]
    if registries[registry].origin(name) == BUILT_IN and inspect.isclass(factory):
        assert getattr(factory, "__final__", False), f"{factory.__qualname__} must be decorated with @final"


class Stranger:
    """What no recipe can say."""


@pytest.mark.parametrize(
    ("registry", "name"), [(each.name, name) for each in registries.values() for name in each]
)
def test_settings_by_hand_are_checked_as_in_a_recipe(registry: str, name: str) -> None:
    factory, signature = registries[registry][name], registries[registry].signature(name)
    given = [None] * len(signature.given)  # settings are looked at before anything else
    for setting in signature.settings.values():
        with pytest.raises(SettingError, match=rf"^{registry}: `{name}`: {setting.name}\b.* must be "):
            factory(*given, **{setting.name: Stranger()})


OUT_OF_RANGE: list[tuple[str, str, str, Any]] = [
    ("algorithms", "darts_bilevel", "order", 3),
    ("algorithms", "darts_bilevel", "epsilon", 0.0),
    ("algorithms", "proxyless", "baseline_decay", 1.0),
    ("augmentations", "flip", "probability", 1.5),
    ("costs", "latency", "repeats", 1),
    ("datasets", "digits", "test_fraction", -0.1),
    ("derivers", "threshold", "threshold", 1.5),
    ("mixed_ops", "concrete", "tau_min", 0.0),
    ("mixed_ops", "softmax", "init_std", -1.0),
    ("objectives", "cross_entropy", "label_smoothing", 1.0),
    ("optimizers", "adam", "betas", [0.9, 1.0]),
    ("optimizers", "sgd", "lr", float("inf")),
    ("penalties", "budget", "rate", 0.0),
    ("perturbations", "adversarial", "steps", 0),
    ("regularizers", "beta_decay", "max_weight", -1.0),
    ("schedules", "step", "milestones", [-1]),
    ("spaces", "darts", "operations", ["sep_conv_33"]),
    ("spaces", "mobile", "operations", ["mb_k3_e3", "mb_k4_e3"]),
    ("spaces", "mobile", "strides", [3, 1, 1, 1, 1, 1]),
    ("trainers", "standard", "epochs", 0),
    ("trainers", "standard", "precision", "float16"),
    ("trainers", "standard", "optimizer", {"type": "sgd", "lr": -0.1}),
]
SLOTS = {
    "algorithms": "search.algorithm", "augmentations": "retrain.augment.0", "costs": "search.cost",
    "datasets": "data", "derivers": "search.deriver", "mixed_ops": "search.mixed_op",
    "objectives": "objective",
    "optimizers": "search.trainer.optimizer", "penalties": "search.penalty",
    "perturbations": "search.perturbation", "regularizers": "search.regularizers",
    "schedules": "search.trainer.schedule", "spaces": "space", "trainers": "search.trainer",
}  # fmt: skip


@pytest.mark.parametrize(("registry", "name", "setting", "value"), OUT_OF_RANGE)
def test_a_recipe_and_a_constructor_refuse_by_the_same_rule(
    registry: str, name: str, setting: str, value: Any
) -> None:
    component = {"type": name, setting: value}
    slot = f"{SLOTS[registry]}={json.dumps([component] if registry == 'regularizers' else component)}"
    with pytest.raises(RecipeError) as in_recipe:
        nasframe.load_recipe("digits_darts", [slot.replace("Infinity", ".inf")], check=False)
    rules = {problem.rule for problem in in_recipe.value.problems if setting in problem.path}
    if isinstance(value, dict):
        value = nasframe.Component(setting + "s", value.pop("type"), value)
    with pytest.raises(SettingError, match=f"{registry}: `{name}`: {setting}") as by_hand:
        registries[registry][name](*[None] * len(registries[registry].given), **{setting: value})
    assert rules
    assert any(rule in str(by_hand.value) for rule in rules)


@each(ops)
def test_op(name: str) -> None:
    testing.check_op(ops[name])


@each(mixed_ops)
@pytest.mark.parametrize("num_candidates", [2, 5])
def test_mixed_op(name: str, num_candidates: int) -> None:
    testing.check_mixed_op(mixed_ops[name], num_candidates=num_candidates)


SMALL: dict[str, dict[str, Any]] = {
    "darts": {"channels": 4, "cells": 3, "nodes": 2, "stem_multiplier": 1},
    "macro": {"channels": 2, "stages": (1, 2), "features": 8},
    "surgery": {
        "network": networks.component("resnet", channels=4, blocks=(1, 1)),
        "rules": (Rule("layer*.conv2", ("original", "sep_conv_3x3", "skip_connect")),),
    },
    "mobile": {
        "widths": (4, 6),
        "depths": (2, 1),
        "strides": (2, 1),
        "stem": "cifar",
        "stem_channels": 4,
        "first_channels": 3,
        "features": 8,
    },
    "mobile_elastic": {
        "kernel_sizes": (3, 5),
        "expansions": (2, 3),
        "widths": ((4, 6), (6,)),
        "depths": ((1, 2), (2,)),
        "strides": (2, 1),
        "stem": "cifar",
        "stem_channels": 4,
        "first_channels": 3,
        "features": 8,
    },
    "mobile_stages": {
        "operations": ("fused_k3_e1", "fused_k3_e2", "mb_k3_e3"),
        "widths": ((4, 6), (6,)),
        "depths": ((1, 2), (2,)),
        "strides": (2, 1),
        "stem": "cifar",
        "stem_channels": 4,
        "first_channels": 3,
        "features": 8,
    },
    "nas_bench_201": {"channels": 2, "cells": 1},
}


@pytest.mark.parametrize("name", sorted({*networks.names()} - {"hugging_face", "timm"}))  # by extras
def test_network(name: str) -> None:
    task = Task((12,), 3, vocabulary=7) if name == "text_mixer" else Task((3, 16, 16), 3)
    network = networks[name](task)
    outputs = network(task.blank(2))
    assert outputs.shape == (2, 3)
    gradients = torch.autograd.grad(outputs.square().sum(), list(network.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


@each(layers)
def test_layer(name: str) -> None:
    assert layers[name](6, 6)(torch.randn(2, 3, 6)).shape == (2, 3, 6)


@each(spaces)
def test_space(name: str) -> None:
    testing.check_space(partial(spaces[name], **SMALL.get(name, {})))


@each(derivers)
def test_deriver(name: str) -> None:
    testing.check_deriver(derivers[name])


@each(derivers)
@pytest.mark.parametrize("space_name", spaces.names())
def test_deriver_fits_each_space(name: str, space_name: str) -> None:
    space = spaces[space_name](Task((3, 16, 16), 5), **SMALL.get(space_name, {}))
    genotype = derivers[name]().derive(supernet(space))
    assert derived(space, genotype).kinds() == ("weight",)


@each(explorers)
def test_explorer(name: str) -> None:
    testing.check_explorer(explorers[name])


MIXED_OPS = {
    "proxyless": "binary_gate",
    "single_path": "uniform_path",
    "fairnas": "uniform_path",
    "zero_one": "sigmoid",
    "dirichlet_anchor": "dirichlet",
}


@each(algorithms)
def test_algorithm(name: str) -> None:
    testing.check_algorithm(algorithms[name], mixed_op=MIXED_OPS.get(name, "softmax"))


@pytest.mark.parametrize(
    "settings",
    [{"update": "all_paths"}, {"update": "reinforce", "num_samples": 2}, {"alpha_every": 2}],
    ids=str,
)
def test_settings_of_proxyless(settings: dict[str, Any]) -> None:
    testing.check_algorithm(partial(algorithms["proxyless"], **settings), mixed_op="binary_gate")


@pytest.mark.parametrize(
    "settings",
    [{"order": 2}, {"order": 2, "hessian": "exact", "chunks": 3}, {"order": 2, "second_order_from": 1}],
    ids=str,
)
def test_settings_of_darts_bilevel(settings: dict[str, Any]) -> None:
    testing.check_algorithm(partial(algorithms["darts_bilevel"], **settings))


@each(scores)
def test_score(name: str, macro_table: Path) -> None:
    settings = {
        "table": {"benchmark": nasframe.Component("benchmarks", "nas_bench_macro", {"path": macro_table})}
    }
    task = Task((3, 8, 8), 3)
    whole = spaces["macro"](task, channels=2, features=4)  # that of the table
    testbed = testing.example_testbed(whole) if name == "table" else None
    testing.check_score(partial(scores[name], **settings.get(name, {})), testbed)


@pytest.mark.parametrize("mixed_op", ["sigmoid", "concrete", "dirichlet"])
def test_searches_of_each_relaxation(mixed_op: str) -> None:
    for settings in ({}, {"order": 2}):
        testing.check_algorithm(partial(algorithms["darts_bilevel"], **settings), mixed_op=mixed_op)


@each(regularizers)
def test_regularizer(name: str) -> None:
    testing.check_regularizer(regularizers[name], mixed_op=MIXED_OPS.get(name, "softmax"))


@each(perturbations)
def test_perturbation(name: str) -> None:
    testing.check_perturbation(perturbations[name])


OFFLINE_DATASETS = {"digits": {}, "synthetic": {}}


@pytest.mark.parametrize("name", OFFLINE_DATASETS)
def test_dataset(name: str) -> None:
    testing.check_dataset(partial(datasets[name], **OFFLINE_DATASETS[name]))


def test_dataset_of_a_folder(tmp_path: Path) -> None:
    for level, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new("RGB", (9, 8), (100 * level + index,) * 3).save(tmp_path / name / f"{index}.png")
    testing.check_dataset(partial(datasets["image_folder"], path=tmp_path, size=4))


@each(augmentations)
def test_augmentation(name: str) -> None:
    testing.check_augmentation(augmentations[name])


@each(objectives)
def test_objective(name: str) -> None:
    outputs = torch.randn(12, 4)
    targets: dict[str, torch.Tensor] = {"mean_squared_error": torch.randn(12, 4)}
    testing.check_objective(objectives[name], outputs, targets.get(name, torch.arange(12) % 4))
    testing.check_objective(objectives[name], (outputs, 2 * outputs), targets.get(name, torch.arange(12) % 4))


@each(optimizers)
def test_optimizer(name: str) -> None:
    testing.check_optimizer(optimizers[name])


@each(schedules)
def test_schedule(name: str) -> None:
    testing.check_schedule(schedules[name])


@each(trainers)
def test_trainer(name: str, tmp_path: Path) -> None:
    testing.check_trainer(partial(trainers[name], epochs=3, batch_size=8), tmp_path)


@each(trackers)
def test_tracker(name: str, tmp_path: Path) -> None:
    testing.check_tracker(trackers[name], tmp_path)


@each(exporters)
def test_exporter(name: str, tmp_path: Path) -> None:
    testing.check_exporter(exporters[name], tmp_path)


@each(readers)
def test_reader(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (5, 4), (10, 20, 30)).save(tmp_path / "image.png")
    (tmp_path / "text.txt").write_text("a text")
    (tmp_path / "row.csv").write_text("height\n3\n")
    files = {"image": "image.png", "row": "row.csv", "text": "text.txt"}
    settings: dict[str, dict[str, object]] = {
        "image": {"height": 3, "width": 2},
        "row": {"columns": ("height",), "values": ((),), "means": (1.0,), "deviations": (2.0,)},
        "text": {"length": 8},
    }
    testing.check_reader(partial(readers[name], **settings[name]), tmp_path / files[name])


@each(costs)
def test_cost(name: str) -> None:
    make: Callable[[], Any] = costs[name]
    testing.check_cost(make)
    task = Task((3, 16, 16), 5)
    space = spaces["darts"](task, **SMALL["darts"])
    testing.check_cost(make, derived(space, sample(space, generator_for(0))), task)


@each(benchmarks)
def test_benchmark(name: str, macro_table: Path, nas_bench_201_table: Path) -> None:
    settings = {"nas_bench_macro": {"path": macro_table}, "nas_bench_201": {"path": nas_bench_201_table}}
    testing.check_benchmark(partial(benchmarks[name], **settings.get(name, {})))
