"""The recipes that come with nasframe: each is valid, complete, and runs."""

import itertools
import json
from pathlib import Path

import pytest

from nasframe import load_recipe, run
from nasframe.recipe import dump_recipe, recipe_to_mapping
from nasframe.recipe.discovery import shipped_recipes

SHIPPED = shipped_recipes()
REPOSITORY = Path(__file__).parents[2]
# a little of everything: two steps of the search, two of the retrain
SHORT = [
    "space.channels=4",
    "search.trainer.max_steps=2",
    "retrain.space.channels=4",
    "retrain.trainer.max_steps=2",
]
SHORT += ["search.trainer.batch_size=8", "retrain.trainer.batch_size=8"]


def test_the_shipped_recipes_are_those_of_the_repository():
    assert set(SHIPPED) == {path.stem for path in (REPOSITORY / "recipes").glob("*.yaml")}
    assert {"digits_darts", "cifar_darts", "cifar_darts_small"} <= set(SHIPPED)


LARGE = "cifar_pdarts"  # three supernets of up to 17 cells


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow) if each == LARGE else each for each in SHIPPED]
)
def test_a_recipe_is_valid_and_named_as_its_file(name):
    assert load_recipe(name).name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_the_complete_recipe_loads_to_an_equal_one(name, tmp_path):
    recipe = load_recipe(name, check=False)
    complete = tmp_path / "recipe.yaml"
    complete.write_text(dump_recipe(recipe))
    again = load_recipe(complete, check=False)
    assert again == recipe
    assert recipe_to_mapping(again) == recipe_to_mapping(recipe)
    assert dump_recipe(again) == complete.read_text()


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("field", ["What:", "Source:", "Hardware:", "Time:", "Expected:", "Change:"])
def test_a_recipe_opens_with_what_it_is(name, field):
    header = itertools.takewhile(lambda line: line.startswith("#"), SHIPPED[name].read_text().splitlines())
    assert any(line.startswith(f"# {field}") for line in header)


def test_cifar_darts_has_the_settings_of_the_paper():
    # Liu et al. 2019, sections 3.1, A.1.1 and A.2
    recipe = recipe_to_mapping(load_recipe("cifar_darts", check=False))
    search, retrain = recipe["search"], recipe["retrain"]
    assert (recipe["space"]["channels"], recipe["space"]["cells"], recipe["space"]["nodes"]) == (16, 8, 4)
    assert len(recipe["space"]["operations"]) == 8
    assert (search["valid_fraction"], search["trainer"]["epochs"], search["trainer"]["batch_size"]) == (
        0.5,
        50,
        64,
    )
    for optimizer in (search["trainer"]["optimizer"], retrain["trainer"]["optimizer"]):
        assert (optimizer["type"], optimizer["lr"], optimizer["momentum"]) == ("sgd", 0.025, 0.9)
        assert (optimizer["weight_decay"], optimizer["nesterov"]) == (3e-4, False)
    alphas = search["algorithm"]["alpha_optimizer"]
    assert (alphas["type"], alphas["lr"], alphas["betas"]) == ("adam", 3e-4, [0.5, 0.999])
    assert alphas["weight_decay"] == 1e-3
    assert (retrain["space"]["channels"], retrain["space"]["cells"]) == (36, 20)
    assert (retrain["space"]["auxiliary"], retrain["space"]["drop_path"]) == (True, 0.2)
    assert retrain["objective"]["auxiliary_weight"] == 0.4
    assert (retrain["trainer"]["epochs"], retrain["trainer"]["batch_size"]) == (600, 96)
    assert retrain["trainer"]["schedule"]["min_lr"] == 0
    assert {"type": "cutout", "length": 16} in retrain["augment"]
    assert retrain["valid_fraction"] == 0


@pytest.mark.parametrize("order", [1, 2])
def test_one_override_chooses_the_order(order):
    recipe = load_recipe("cifar_darts", [f"search.algorithm.order={order}"], check=False)
    assert recipe.search.algorithm.settings["order"] == order


def _check_finished(done, accuracy_of):
    status = json.loads((done.folder / "status.json").read_text())
    assert (status["ended"], status["steps"]) == ("done", {"search": 2, "retrain": 2})
    assert 0 <= done.metrics["test_accuracy"] <= 1
    # counts of the right ones are whole
    assert done.metrics["test_accuracy"] * accuracy_of == pytest.approx(
        round(done.metrics["test_accuracy"] * accuracy_of), abs=1e-3
    )
    for stage in ("search", "retrain"):
        (line,) = (done.folder / stage / "metrics.jsonl").read_text().splitlines()
        assert json.loads(line)[f"{stage}/train_loss"] > 0


def test_digits_darts_runs_from_end_to_end(tmp_path):
    done = run(load_recipe("digits_darts", SHORT), tmp_path / "run")
    _check_finished(done, accuracy_of=359)  # a fifth of 1,797 images
    assert set(done.genotype["normal_concat"]) == {"2", "3", "4"}


@pytest.mark.slow
def test_cifar_darts_small_runs_from_end_to_end_on_the_real_images(tmp_path, cifar10_folder):
    limits = [f"data.path={cifar10_folder}", "data.train_limit=400", "data.test_limit=60"]
    done = run(load_recipe("cifar_darts_small", [*SHORT, *limits]), tmp_path / "run")
    _check_finished(done, accuracy_of=60)


@pytest.mark.slow
def test_cifar_darts_runs_in_second_order_from_end_to_end_on_the_real_images(tmp_path, cifar10_folder):
    limits = [f"data.path={cifar10_folder}", "data.train_limit=40", "data.test_limit=30"]
    overrides = [*SHORT, *limits, "search.algorithm.order=2", "retrain.space.cells=8"]
    _check_finished(run(load_recipe("cifar_darts", overrides), tmp_path / "run"), accuracy_of=30)


def test_cifar_proxyless_has_the_settings_of_the_paper():
    # Cai et al. 2019, section 4.1 (schedules, held-out images, alphas) and 4.2 (blocks); the rest is that
    # of the authors' imagenet_arch_search.py
    recipe = recipe_to_mapping(load_recipe("cifar_proxyless", check=False))
    search, retrain, space = recipe["search"], recipe["retrain"], recipe["space"]
    assert (search["trainer"]["epochs"], retrain["trainer"]["epochs"]) == (200, 300)
    assert search["valid_fraction"] * 50_000 == 5_000
    algorithm = search["algorithm"]
    assert algorithm["update"] == "two_paths"
    alphas = algorithm["alpha_optimizer"]
    assert (alphas["type"], alphas["lr"], alphas["betas"], alphas["weight_decay"]) == (
        "adam",
        6e-3,
        [0.0, 0.999],
        0.0,
    )
    for optimizer in (search["trainer"]["optimizer"], retrain["trainer"]["optimizer"]):
        assert (optimizer["lr"], optimizer["momentum"], optimizer["nesterov"]) == (0.025, 0.9, True)
        assert optimizer["weight_decay"] == 4e-5
    blocks = {f"mb_k{kernel}_e{expansion}" for kernel in (3, 5, 7) for expansion in (3, 6)}
    assert set(space["operations"]) == {*blocks, "skip_connect"}
    assert (space["stem"], sum(space["depths"])) == ("cifar", 21)
    assert retrain["valid_fraction"] == 0


def test_macro_proxyless_retrains_a_network_of_the_table():
    recipe = recipe_to_mapping(load_recipe("macro_proxyless", check=False))
    widths = {name: recipe["retrain"]["space"][name] for name in ("channels", "stages", "features")}
    assert widths == {"channels": 32, "stages": [2, 3, 3], "features": 1280}
    assert recipe["search"]["benchmark"] is None


@pytest.mark.slow
def test_macro_proxyless_runs_from_end_to_end_beside_a_table(tmp_path, cifar10_folder, macro_table):
    overrides = [
        "search.trainer.max_steps=2", "search.trainer.batch_size=8",
        "search.algorithm.warmup_epochs=0", "retrain.space.channels=8", "retrain.trainer.max_steps=2",
        "retrain.trainer.batch_size=8", f"data.path={cifar10_folder}", "data.train_limit=400",
        "data.test_limit=60", f"search.benchmark={{type: nas_bench_macro, path: {macro_table}}}",
    ]  # fmt: skip
    done = run(load_recipe("macro_proxyless", overrides), tmp_path / "run")
    _check_finished(done, accuracy_of=60)
    assert 1 <= done.metrics["true_rank"] <= 6561


@pytest.mark.slow
def test_cifar_proxyless_runs_from_end_to_end_on_the_real_images(tmp_path, cifar10_folder):
    overrides = [
        "space.depths=[1,1,1,1,1,1]", "space.widths=[4,4,6,6,8,8]", "space.features=16",
        "search.trainer.max_steps=2", "search.trainer.batch_size=8", "retrain.trainer.max_steps=2",
        "retrain.trainer.batch_size=8", f"data.path={cifar10_folder}", "data.train_limit=400",
        "data.test_limit=60",
    ]  # fmt: skip
    _check_finished(run(load_recipe("cifar_proxyless", overrides), tmp_path / "run"), accuracy_of=60)


def test_nas_bench_201_darts_has_the_settings_of_the_benchmark():
    # Dong and Yang 2020, section 2.2 (training of the networks), and the authors' DARTS.config, 200E.config
    # and DARTS-V1.sh
    recipe = recipe_to_mapping(load_recipe("nas_bench_201_darts", check=False))
    search, retrain, space = recipe["search"], recipe["retrain"], recipe["space"]
    assert (space["channels"], space["cells"]) == (retrain["space"]["channels"], retrain["space"]["cells"])
    assert (space["channels"], space["cells"], len(space["operations"])) == (16, 5, 5)
    assert (search["trainer"]["epochs"], search["trainer"]["batch_size"]) == (50, 64)
    assert (retrain["trainer"]["epochs"], retrain["trainer"]["batch_size"]) == (200, 256)
    assert (search["valid_fraction"], retrain["valid_fraction"]) == (0.5, 0)
    for stage, lr, min_lr in ((search, 0.025, 0.001), (retrain, 0.1, 0.0)):
        optimizer, schedule = stage["trainer"]["optimizer"], stage["trainer"]["schedule"]
        assert (optimizer["type"], optimizer["lr"], optimizer["momentum"]) == ("sgd", lr, 0.9)
        assert (optimizer["weight_decay"], optimizer["nesterov"]) == (5e-4, True)
        assert (schedule["type"], schedule["min_lr"], schedule["each_step"]) == ("cosine", min_lr, True)
        assert [each["type"] for each in stage["augment"]] == ["flip", "crop"]
        assert stage["augment"][1]["padding"] == 4
    assert (search["trainer"]["max_grad_norm"], retrain["trainer"]["max_grad_norm"]) == (5.0, None)
    alphas = search["algorithm"]["alpha_optimizer"]
    assert (alphas["type"], alphas["lr"], alphas["betas"]) == ("adam", 3e-4, [0.5, 0.999])
    assert (alphas["weight_decay"], search["mixed_op"]["init_std"]) == (1e-3, 1e-3)


@pytest.mark.parametrize("explorer", ["regularized_evolution", "random_search"])
def test_searches_by_training_in_nas_bench_201_have_the_settings_of_the_benchmark(explorer):
    # Dong and Yang 2020, section 2.2, with 12 epochs instead of 200 (H there), and the authors' R-EA.sh
    recipe = recipe_to_mapping(load_recipe(f"nas_bench_201_{explorer}", check=False))
    search, retrain = recipe["search"], recipe["retrain"]
    assert (search["explorer"]["type"], search["score"]["type"]) == (explorer, "retraining")
    if explorer == "regularized_evolution":
        assert (search["explorer"]["population"], search["explorer"]["sample"]) == (10, 3)
    assert (search["valid_fraction"], retrain["valid_fraction"]) == (0.5, 0)
    assert search["trainer"] == {**retrain["trainer"], "epochs": 12}
    assert (search["trainer"]["optimizer"]["lr"], search["trainer"]["batch_size"]) == (0.1, 256)
    assert search["augment"] == retrain["augment"]


def test_nas_bench_201_rsps_has_the_settings_of_the_benchmark():
    # the authors' RANDOM.config and RANDOM-NAS.sh, with batch norms that keep no statistics
    recipe = recipe_to_mapping(load_recipe("nas_bench_201_rsps", check=False))
    search, darts = recipe["search"], recipe_to_mapping(load_recipe("nas_bench_201_darts", check=False))
    assert search["trainer"] == {**darts["search"]["trainer"], "epochs": 250}
    assert (search["algorithm"]["type"], search["mixed_op"]["type"]) == ("single_path", "uniform_path")
    assert (search["explorer"]["type"], search["evaluations"]) == ("random_search", 100)
    assert (search["score"]["type"], search["score"]["calibration_batches"]) == ("supernet", 0)
    assert recipe["space"] == {**darts["space"], "track_running_stats": False}


@pytest.mark.parametrize("name", ["nas_bench_201_small_darts", "nas_bench_201_darts"])
def test_recipes_of_nas_bench_201_run_from_end_to_end(name, tmp_path):
    done = run(load_recipe(name, ["data=digits", "space.cells=1", *SHORT]), tmp_path / "run")
    _check_finished(done, accuracy_of=359)
    assert done.architecture.count("~") == 6


@pytest.mark.slow
def test_nas_bench_201_darts_runs_from_end_to_end_on_the_real_images(tmp_path, cifar10_folder):
    limits = [f"data.path={cifar10_folder}", "data.train_limit=400", "data.test_limit=60"]
    done = run(load_recipe("nas_bench_201_darts", [*SHORT, *limits]), tmp_path / "run")
    _check_finished(done, accuracy_of=60)
