"""A finished run's network is asked, evaluated, and taken elsewhere."""

import json
import re
import runpy
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

import nasframe
from nasframe.cli import main
from nasframe.core import Prices, exporters
from nasframe.datasets._rows import parted
from nasframe.exporters._timed import latencies, session_of
from nasframe.recipe.exporting import finished_run
from nasframe.recipe.result import Run
from nasframe.recipe.run_directory import RunDirectory

RECIPE = """
name: tiny
threads: 1
data: {type: synthetic, num_train: 80, num_test: 30, num_classes: 3, height: 8, width: 8, noise: 2.0}
space: {type: darts, channels: 2, cells: 3, nodes: 1, operations: [none, skip_connect, sep_conv_3x3]}
trackers: []
search:
  cost: latency
  trainer: {epochs: 1, batch_size: 8, max_steps: 1}
retrain:
  trainer: {epochs: 3, batch_size: 8}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("finished")
    (root / "tiny.yaml").write_text(RECIPE)
    return nasframe.run(nasframe.load_recipe(root / "tiny.yaml", check=False), root / "run")


@pytest.fixture(scope="module")
def images(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test images as files."""
    folder = tmp_path_factory.mktemp("images")
    test = run._recipe().data().test
    for index, pixels_CHW in enumerate(test.batch(torch.arange(len(test))).inputs):
        Image.fromarray(pixels_CHW.permute(1, 2, 0).numpy()).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str, str]]:
    def tell(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(each) for each in arguments])
        return caught.value.code, *capsys.readouterr()

    return tell


def logits_of(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """What the network makes of the test images, and their labels; normalized by hand."""
    data = run._recipe().data()
    seen = data.train.batch(torch.arange(len(data.train))).inputs.double() / 255
    mean, std = seen.mean((0, 2, 3)), seen.std((0, 2, 3), correction=0)
    batch = data.test.batch(torch.arange(len(data.test)))
    inputs = (batch.inputs.double() / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        return run.network()(inputs.float()).double().numpy(), batch.targets.numpy()


def test_files_get_the_classes_that_their_images_got_in_the_run(
    run: Run, images: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    code, out, err = told("predict", run.folder, images, "--top", 2, "--json")
    logits, labels = logits_of(run)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predictions = json.loads(out)["predictions"]
    assert (code, err, json.loads(out)["unreadable"]) == (0, "", [])
    assert [each["file"] for each in predictions] == [str(path) for path in sorted(images.iterdir())]
    for each, shares_K in zip(predictions, shares, strict=True):
        best = np.argsort(-shares_K)[:2]
        assert [named["class"] for named in each["classes"]] == [f"pattern {index}" for index in best]
        np.testing.assert_allclose(
            [named["probability"] for named in each["classes"]], shares_K[best], rtol=1e-3
        )
    right = [
        each["classes"][0]["class"] == f"pattern {label}"
        for each, label in zip(predictions, labels, strict=True)
    ]
    assert np.mean(right) == pytest.approx(run.metrics["test_accuracy"])


def test_the_table_has_a_row_for_each_file(
    run: Run, images: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    code, out, _ = told("predict", run.folder, images / "00.png", images / "01.png")
    rows = [line.split() for line in out.splitlines() if ".png" in line]
    (first,) = nasframe.load(run.folder).predict([images / "00.png"], top=1)
    assert code == 0
    assert [row[0] for row in rows] == [str(images / "00.png"), str(images / "01.png")]
    assert " ".join(rows[0][1:4]) == f"{first.classes[0][0]} {first.classes[0][1]:.1%}"


TABLE = """
name: prices
threads: 1
data: {type: table, path: prices.csv, target: price, kind: number}
space:
  type: surgery
  network: {type: mlp, features: 4}
  rules: [{match: "hidden*", choices: [original, identity]}]
objective: mean_squared_error
trackers: []
search: {explorer: random_search, score: parameters, evaluations: 1}
retrain: {trainer: {epochs: 1, batch_size: 8}}
"""


def test_numbers_are_predicted_in_the_unit_of_the_table(
    tmp_path: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    draw, table = np.random.default_rng(0), tmp_path / "prices.csv"
    rows = [(size, 1000 + 50 * size + draw.normal()) for size in draw.normal(size=40)]
    table.write_text("size,price\n" + "".join(f"{size},{price}\n" for size, price in rows))
    (tmp_path / "tiny.yaml").write_text(TABLE)
    run = nasframe.run(nasframe.load_recipe(tmp_path / "tiny.yaml", check=False), tmp_path / "run")
    train, test = (indices.tolist() for indices in parted("table", 40, 0.2))
    sizes, prices = np.array(rows).T
    inputs = (sizes - sizes[train].mean()) / sizes[train].std()
    with torch.no_grad():
        outputs = run.network()(torch.tensor(inputs[:, None], dtype=torch.float32))[:, 0].double().numpy()
    expected = outputs * prices[train].std() + prices[train].mean()

    code, out, _ = told("predict", run.folder, table, "--json")
    predictions = json.loads(out)["predictions"]
    assert code == 0
    assert [each["place"] for each in predictions] == [f"line {index + 2}" for index in range(40)]
    assert all(each["classes"] == [] for each in predictions)
    assert [[each["name"] for each in of["numbers"]] for of in predictions] == [["price"]] * 40
    found = np.array([each["numbers"][0]["value"] for each in predictions])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    error = np.abs(found - prices)[test].mean() / prices[train].std()
    assert error == pytest.approx(run.metrics["test_mean_absolute_error"], rel=1e-4)

    _, out, _ = told("predict", run.folder, table)
    header, _, first, *_ = out.splitlines()
    assert header.split() == ["file", "price"]
    assert first.split()[-1] == f"{found[0]:.6g}"
    hub, source = run.export("hub", tmp_path).path, run.export("source", tmp_path).path
    assert nasframe.load(hub).predict([table]) == nasframe.load(run.folder).predict([table])
    assert "prediction.numbers" in (hub / "README.md").read_text(encoding="utf-8")
    module = runpy.run_path(str(source))
    (scale,), (mean,) = module["TARGET_STD"], module["TARGET_MEAN"]
    assert module["TARGETS"] == ("price",)
    np.testing.assert_allclose(outputs * scale + mean, found, rtol=1e-5)


def test_what_cannot_be_read_is_told_and_the_others_are_predicted(
    run: Run, images: Path, tmp_path: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden.png").write_bytes((images / "00.png").read_bytes())
    files = [tmp_path / "bad.png", images / "00.png", tmp_path / "absent.png", tmp_path / "empty"]
    code, out, err = told("predict", run.folder, *files, "--json")
    assert code == 1
    assert [each["file"] for each in json.loads(out)["predictions"]] == [str(images / "00.png")]
    assert [line.split(": ")[1] for line in err.splitlines()] == [str(files[0]), str(files[2]), str(files[3])]
    assert len(json.loads(out)["unreadable"]) == 3


def test_the_evaluation_is_that_of_the_report_class_by_class(
    run: Run, told: Callable[..., tuple[object, str, str]]
) -> None:
    code, out, _ = told("evaluate", run.folder, "--json")
    found = json.loads(out)
    logits, labels = logits_of(run)
    taken = logits.argmax(1)
    assert (code, found["num_examples"]) == (0, 30)
    assert {f"test_{name}": value for name, value in found["metrics"].items()} == {
        name: value for name, value in run.metrics.items() if name.startswith("test_")
    }
    expected = precision_recall_fscore_support(labels, taken, zero_division=np.nan)
    for figures, precision, recall, f1, count in zip(found["classes"], *expected, strict=True):
        assert figures["num_examples"] == count
        for name, value in (("precision", precision), ("recall", recall), ("f1", f1)):
            assert figures[name] == (None if np.isnan(value) else pytest.approx(value))
    matrix = confusion_matrix(labels, taken, labels=range(3))
    np.fill_diagonal(matrix, 0)
    pairs = {(each["of"], each["taken_for"]): each["num_examples"] for each in found["confusions"]}
    assert pairs == {
        (f"pattern {i}", f"pattern {j}"): matrix[i, j] for i, j in zip(*matrix.nonzero(), strict=True)
    }
    assert pairs, "the network must err for this test to say something"
    assert list(pairs.values()) == sorted(pairs.values(), reverse=True)
    reported = json.loads((run.folder / "report.json").read_text())
    whole = confusion_matrix(labels, taken, labels=range(3))
    assert reported["confusion"]["counts"] == whole.tolist()
    shown = run.evaluate()._repr_html_()
    assert f"{run.metrics['test_accuracy']:.2%}" in shown
    cells = [int(count) for count in re.findall(r"<td style=[^>]*>(\d+)</td>", shown)]
    assert cells == whole.flatten().tolist()


def test_splits_are_those_of_the_retraining(run: Run, told: Callable[..., tuple[object, str, str]]) -> None:
    assert [run.evaluate(split).num_examples for split in ("train", "valid", "test")] == [72, 8, 30]
    code, out, _ = told("evaluate", run.folder, "--split", "valid")
    assert code == 0
    assert "valid accuracy" in out
    assert "precision" in out


def test_the_folder_for_the_hub_predicts_as_the_run_does(
    run: Run, images: Path, tmp_path: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    code, out, _ = told("export", run.folder, "--format", "hub", "--out", tmp_path, "--json")
    (exported,) = json.loads(out)
    folder = tmp_path / "hub"
    assert (code, exported["path"], exported["max_difference"]) == (0, str(folder), 0)
    assert {each.name for each in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    here, there = nasframe.load(folder), nasframe.load(run.folder)
    assert here.predict([images]) == there.predict([images])
    state = there.network.state_dict()
    assert here.network.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in here.network.state_dict().items())


def test_files_in_the_folders_of_their_classes_are_judged_without_the_run(
    run: Run, images: Path, tmp_path: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    run.export("hub", tmp_path)
    _, labels = logits_of(run)
    for label, path in zip(labels, sorted(images.iterdir()), strict=True):
        folder = tmp_path / "own" / f"pattern {label}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    code, out, _ = told("evaluate", tmp_path / "hub", tmp_path / "own", "--json")
    found, expected = json.loads(out), run.evaluate("test")
    assert (code, found["split"], found["num_examples"]) == (0, "", 30)
    assert found["metrics"] == pytest.approx(expected.metrics, rel=1e-5)
    assert found["classes"] == [asdict(each) for each in expected.classes]
    bad = tmp_path / "own" / "pattern 0" / "bad.png"
    bad.write_bytes(b"no image")
    code, out, err = told("evaluate", run.folder, tmp_path / "own")
    assert code == 1
    assert out.splitlines()[2].split() == ["examples", "30"]
    assert err.startswith(f"error: {bad}: the image cannot be decoded")


def test_what_cannot_be_judged_is_told(
    run: Run, images: Path, tmp_path: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    (tmp_path / "cat").mkdir()
    for arguments, message in (
        ((run.folder, tmp_path), "such as pattern 0, pattern 1, pattern 2, got cat"),
        ((run.folder, images), "called like classes of the network, such as pattern 0"),
        ((run.folder, images / "00.png"), "must be a folder with a folder of files for each class"),
        ((run.folder, images, "--split", "test"), "--split test is of the run's own examples"),
        ((run.folder / "retrain",), "is a model folder, which has no data"),
    ):
        code, _, err = told("evaluate", *arguments)
        assert code in (1, 2)
        assert message in " ".join(err.replace("│", "").split())


def test_a_run_without_a_description_predicts_by_its_data(run: Run, images: Path) -> None:
    described, path = nasframe.load(run.folder).predict([images]), run.folder / "retrain" / "config.json"
    kept = path.read_bytes()
    path.unlink()
    try:
        assert nasframe.load(run.folder).predict([images]) == described
    finally:
        path.write_bytes(kept)


def test_the_model_card_says_what_the_run_found(run: Run, tmp_path: Path) -> None:
    card = (run.export("hub", tmp_path).path / "README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    said: dict[str, Any] = yaml.safe_load(front)
    (result,) = said["model-index"][0]["results"]
    assert (said["library_name"], said["pipeline_tag"]) == ("nasframe", "image-classification")
    assert said["model-index"][0]["name"] == "tiny"
    assert {each["type"]: each["value"] for each in result["metrics"]} == {
        "accuracy": run.metrics["test_accuracy"]
    }
    assert "\n# tiny\n" in body
    assert f"{run.metrics['parameters']:,.0f} parameters" in body
    assert run.health[:20] in body
    assert "30 test examples" in body
    assert str(run.folder.parent) not in card


def test_the_model_card_tells_costs_with_their_unit_and_seeds_with_their_deviation(
    run: Run, tmp_path: Path
) -> None:
    recipe = run._recipe()
    finished = finished_run(RunDirectory(run.folder), recipe, run.genotype, run.network(), recipe.data())
    metrics = {"test_accuracy_mean": 0.5, "test_accuracy_std": 0.25, "derived_cost": 1.25}
    report = {**finished.report, "metrics": metrics, "tradeoff": {"cost": "latency", "unit": "ms"}}
    path = exporters["hub"]().export_run(replace(finished, report=report), tmp_path).path
    card = (path / "README.md").read_text(encoding="utf-8")
    assert "| test accuracy of all seeds | 50.00% ± 25.00% |" in card
    assert "| latency of the architecture | 1.25 ms |" in card


def test_names_of_strangers_are_text_in_the_model_card(run: Run, tmp_path: Path) -> None:
    recipe = run._recipe()
    finished = finished_run(RunDirectory(run.folder), recipe, run.genotype, run.network(), recipe.data())
    names = ("a\n---\n# title", "<img src=x>", "[link](x) | `code`")
    hostile = replace(finished, data=replace(finished.data, class_names=names))
    card = (exporters["hub"]().export_run(hostile, tmp_path).path / "README.md").read_text(encoding="utf-8")
    _, _, body = card.split("---\n", 2)
    (line,) = (each for each in body.splitlines() if each.startswith("- Classes:"))
    assert line == r"- Classes: a \-\-\- \# title, \<img src=x\>, \[link\]\(x\) \| \`code\`."


def test_eight_bits_are_measured_beside_the_network(
    run: Run, tmp_path: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    code, out, _ = told("export", run.folder, "--format", "onnx_int8", "--out", tmp_path)
    assert code == 0
    assert "predicted by the search" in out
    reported = json.loads((run.folder / "report.json").read_text())["exports"]["onnx_int8"]
    figures = reported["figures"]
    assert reported["path"] == str(tmp_path / "model_int8.onnx")
    assert figures["PyTorch"]["test_accuracy"] == pytest.approx(run.metrics["test_accuracy"])
    assert figures["float32"]["test_accuracy"] == pytest.approx(run.metrics["test_accuracy"])
    assert all(figures[name]["latency_ms"] > 0 for name in ("PyTorch", "float32", "int8"))
    predicted = json.loads((run.folder / "search" / "prices.json").read_text())
    assert figures["predicted by the search"]["latency_ms"] >= predicted["fixed"] > 0
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "What was exported" in page
    assert f"{figures['int8']['test_accuracy']:.2%}</td>" in page
    kinds = [each.op_type for each in onnx.load(tmp_path / "model_int8.onnx").graph.node]
    assert "QuantizeLinear" in kinds
    session = runtime.InferenceSession(tmp_path / "model_int8.onnx", providers=["CPUExecutionProvider"])
    data = run._recipe().data()
    batch = data.test.batch(torch.arange(30))
    inputs = data.preprocess.normalize(data.preprocess.scale(batch.inputs)).numpy()
    taken = session.run(None, {"inputs": inputs})[0].argmax(1)
    assert figures["int8"]["test_accuracy"] == pytest.approx((taken == batch.targets.numpy()).mean())
    for name in ("model.onnx", "model_int8.onnx"):  # whoever has the file alone can normalize
        session = runtime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"])
        told_by = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()
                   if key in ("classes", "mean", "std")}  # fmt: skip
        mean, std = (np.array(told_by[key], np.float32)[:, None, None] for key in ("mean", "std"))
        np.testing.assert_allclose((batch.inputs.numpy() / 255 - mean) / std, inputs, rtol=1e-4, atol=1e-5)
        assert tuple(told_by["classes"]) == data.class_names


def test_the_file_that_is_shipped_is_timed_beside_the_prediction_of_the_search(
    run: Run, tmp_path: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    pytest.importorskip("onnxruntime")
    code, out, _ = told("export", run.folder, "--format", "onnx", "--out", tmp_path, "--json")
    (exported,) = json.loads(out)
    figures, path = exported["figures"], Path(exported["path"])
    prices = Prices.from_json((run.folder / "search" / "prices.json").read_text())
    assert code == 0
    assert figures["predicted by the search"] == {"latency_ms": prices.of(run.genotype)}
    assert figures["float32"]["bytes"] == path.stat().st_size
    assert all(figures[name]["latency_ms"] > 0 for name in ("PyTorch", "float32"))
    inputs = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(session_of(path)(inputs), run.network()(inputs), atol=1e-4, rtol=1e-4)
    waits = [partial(waited, seconds) for seconds in (0.001, 0.004)]
    short, long = latencies(waits, inputs[:1], 5)
    assert 1 <= short < long
    assert long >= 4


def waited(seconds: float, inputs: torch.Tensor) -> torch.Tensor:
    time.sleep(seconds)
    return inputs


def test_what_is_no_trained_network_is_told(
    tmp_path: Path, told: Callable[..., tuple[object, str, str]]
) -> None:
    code, _, err = told("predict", tmp_path, tmp_path)
    assert code == 1
    assert err.startswith(f"error: {tmp_path}: must be a run directory, but has no recipe.yaml; a model")
    code, _, err = told("evaluate", tmp_path)
    assert code == 1
    assert "must be a run directory" in err
