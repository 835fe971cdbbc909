"""Latencies measured on the device in hand, and their table."""

import json
import statistics
from importlib import metadata
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from nasframe.core import Model, Task, price, spaces
from nasframe.costs._latency_table import LatencyTable, Timing, describe
from nasframe.costs.latency import Latency
from nasframe.errors import FormatError, UnsupportedError

TASK = Task((3, 8, 8), 5)
SMALL, LARGE = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 512, 7)

MOBILE = {
    "operations": ("mb_k3_e6", "skip_connect"),
    "stem": "cifar",
    "widths": (8,),
    "depths": (2,),
    "strides": (2,),
    "features": 8,
}
BY_ONNX = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs the extra onnx")


def _quick(**settings):
    return Latency(warmup=1, repeats=3, **settings)


def test_a_heavier_network_takes_longer():
    task, cost = Task((3, 64, 64), 5), _quick()
    assert 0 < cost.of(Model(SMALL), task) < cost.of(Model(LARGE), task)


def test_a_network_is_measured_once_and_so_are_parts_that_are_alike():
    cost = _quick()
    first = cost.of(Model(nn.Conv2d(3, 4, 3)), TASK)
    assert cost.of(Model(nn.Conv2d(3, 4, 3)), TASK) == first
    assert len(cost.table.timings) == 1
    cost.of(Model(nn.Conv2d(3, 4, 5)), TASK)
    cost.of(Model(nn.Conv2d(3, 4, 3)), Task((3, 9, 8), 5))
    assert len(cost.table.timings) == 3


def test_measuring_leaves_model_and_random_state_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    state, before = torch.get_rng_state(), {name: t.clone() for name, t in network.state_dict().items()}
    _quick().of(Model(network), TASK)
    assert torch.equal(state, torch.get_rng_state())
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_candidates_of_a_space_are_measured_at_their_sites():
    space = spaces["macro"](TASK, channels=2, stages=(1, 2), features=8)
    cost = _quick()
    prices = price(space, TASK, cost)
    assert prices.fixed > 0
    assert all(each.fixed > 0 for candidates in prices.choices.values() for each in candidates.values())
    assert len(cost.table.timings) == 3 * 3 + 1  # each layer has another shape; and what is around them


def test_networks_that_are_compared_are_measured_anew_and_leave_the_table_alone():
    cost, models = _quick(), [Model(LARGE), Model(SMALL), Model(LARGE)]
    task = Task((3, 64, 64), 5)
    large, small, again = cost.of_each(models, task)
    assert small < min(large, again)
    assert large != again  # of the table they would be one
    assert not cost.table.timings


@BY_ONNX
def test_onnx_runtime_times_every_part_of_a_network_that_computes_something():
    cost = _quick(runtime="onnx")
    prices = price(spaces["mobile"](TASK, **MOBILE), TASK, cost)
    assert {name: set(each) for name, each in prices.choices.items()} == {
        "layer_0": {"mb_k3_e6"},
        "layer_1": {"mb_k3_e6", "skip_connect"},
    }
    assert prices.choices["layer_1"]["mb_k3_e6"].fixed > 0
    assert prices.fixed > 0
    assert len(cost.table.timings) == 4


@BY_ONNX
def test_what_stands_before_and_after_the_sites_is_in_the_graph_that_onnx_runtime_times(monkeypatch):
    import onnx
    import onnxruntime

    files, opened = [], onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda file, *rest, **more: files.append(file) or opened(file, *rest, **more),
    )
    price(spaces["mobile"](TASK, **MOBILE), TASK, _quick(runtime="onnx"))
    around, idle, *_ = (onnx.load_from_string(file).graph.node for file in files)
    convolutions = 1 + 2 + 1  # of the stem and the first block before the sites, of the head after them
    assert [node.op_type for node in around].count("Conv") == convolutions
    assert [node.op_type for node in idle] == ["Identity"]


@BY_ONNX
def test_a_heavier_network_takes_longer_by_onnx_runtime_and_shares_no_table_with_pytorch(tmp_path):
    task, path = Task((3, 64, 64), 5), tmp_path / "latency.json"
    cost = _quick(runtime="onnx", table=path)
    assert 0 < cost.of(Model(SMALL), task) < cost.of(Model(LARGE), task)
    assert json.loads(path.read_text())["device"]["onnxruntime"] == metadata.version("onnxruntime")
    with pytest.raises(
        UnsupportedError, match="must be a table of this device, but was measured with torch "
    ):
        _quick(table=path).of(Model(SMALL), task)


def test_onnx_runtime_is_asked_for_where_it_is_and_on_the_cpu(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"needs onnxruntime.*pip install 'nasframe\[onnx\]'"):
        _quick(runtime="onnx")
    monkeypatch.undo()
    if find_spec("onnxruntime"):
        with pytest.raises(UnsupportedError, match="device must be cpu with runtime `onnx`, got cuda"):
            _quick(runtime="onnx", device="cuda")


@BY_ONNX
def test_what_onnx_cannot_say_is_refused_by_name():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x[0, 0])

    with pytest.raises(UnsupportedError, match=r"cost latency: Odd cannot be translated to ONNX.*`torch`"):
        _quick(runtime="onnx").of(Model(Odd()), TASK)


def test_another_run_takes_its_latencies_from_the_table(tmp_path):
    path = tmp_path / "tables" / "latency.json"
    measured = _quick(table=path).of(Model(SMALL), TASK)
    content = json.loads(path.read_text())
    assert content["device"] == describe(torch.device("cpu"))
    (timing,) = content["timings"].values()
    assert timing["median_ms"] == measured
    assert timing["repeats"] == 3
    assert timing["iqr_ms"] >= 0
    timing["median_ms"] = 123.5
    path.write_text(json.dumps(content))
    assert _quick(table=path).of(Model(SMALL), TASK) == 123.5
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("key", "value"), [("name", "Pixel 1"), ("threads", 1000), ("torch", "0.4"), ("type", "cuda")]
)
def test_a_table_of_another_device_is_refused(tmp_path, key, value):
    path = tmp_path / "latency.json"
    _quick(table=path).of(Model(SMALL), TASK)
    content = json.loads(path.read_text())
    content["device"][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(
        UnsupportedError, match=f"must be a table of this device, but was measured with {key} "
    ):
        _quick(table=path).of(Model(SMALL), TASK)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "must be an object with format"),
        ('{"format": "nasframe.latency", "version": 2}', "version must be 1, got 2"),
        ('{"format": "nasframe.latency", "version": 1}', "must have `device` and `timings`"),
        (
            '{"format": "nasframe.latency", "version": 1, "device": {}, "timings": {"a": {"median_ms": 1}}}',
            "must have `device` and `timings`",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, message):
    path = tmp_path / "latency.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        LatencyTable.open(path, torch.device("cpu"))


def test_a_timing_is_median_and_interquartile_range():
    durations = [5.0, 1.0, 2.0, 100.0, 3.0]  # sorted 1 2 3 5 100: the outlier moves neither
    assert Timing.of(durations) == Timing(statistics.median(durations), 5.0 - 2.0, 5)


@pytest.mark.parametrize(
    ("timing", "said"),
    [
        ({"median_ms": -1.0, "iqr_ms": 0.1, "repeats": 3}, "must have figures that are not negative"),
        ({"median_ms": "1", "iqr_ms": 0.1, "repeats": 3}, "must have figures that are not negative"),
        ({"median_ms": True, "iqr_ms": 0.1, "repeats": 3}, "must have figures that are not negative"),
        ({"median_ms": 10**99 * 100, "iqr_ms": 0.1, "repeats": 3}, "at most 100 digits, got 102"),
        ({"median_ms": float("nan"), "iqr_ms": 0.1, "repeats": 3}, "NaN is no number"),
        ({"median_ms": 1.0, "iqr_ms": float("inf"), "repeats": 3}, "Infinity is no number"),
        ({"median_ms": 1.0, "iqr_ms": 0.1}, "must have `device` and `timings`"),
        ([1.0], "must have `device` and `timings`"),
    ],
)
def test_a_table_with_figures_that_no_clock_gives_is_refused(tmp_path, timing, said):
    path, device = tmp_path / "latency.json", torch.device("cpu")
    content = {
        "format": "nasframe.latency",
        "version": 1,
        "device": describe(device),
        "timings": {"a": timing},
    }
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=said):
        LatencyTable.open(path, device)
