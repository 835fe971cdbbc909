"""What is exported as source: it runs alone, computes the same, is read by people and by their tools."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nasframe.core import (
    Dataset,
    Genotype,
    Model,
    NormalizeImages,
    Task,
    TensorSplit,
    derived,
    generator_for,
    layers,
    networks,
    ops,
    sample,
    spaces,
)
from nasframe.errors import UnsupportedError
from nasframe.exporters._checked import run_apart
from nasframe.exporters.source import Source, write_source
from nasframe.spaces.surgery import Rule

TASK = Task((3, 8, 8), 3)
DARTS = Genotype(
    {
        "normal_2": ("0", "1"), "normal_2_0": ("sep_conv_3x3",), "normal_2_1": ("skip_connect",),
        "normal_3": ("0", "2"), "normal_3_0": ("dil_conv_5x5",), "normal_3_2": ("max_pool_3x3",),
        "normal_concat": ("2", "3"),
        "reduce_2": ("0", "1"), "reduce_2_0": ("skip_connect",), "reduce_2_1": ("avg_pool_3x3",),
        "reduce_3": ("1", "2"), "reduce_3_1": ("sep_conv_5x5",), "reduce_3_2": ("dil_conv_3x3",),
        "reduce_concat": ("2", "3"),
    }
)  # fmt: skip
DATA = Dataset(
    TensorSplit(torch.zeros(1, 3, 8, 8), torch.zeros(1)),
    TensorSplit(torch.zeros(1, 3, 8, 8), torch.zeros(1)),
    TASK,
    NormalizeImages((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    ("a cat", 'it\'s "quoted"', 'three"""\nimport os\\'),
)
NAS_BENCH_201 = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
ELASTIC = {"widths": ((4,), (4, 8)), "depths": ((1,), (1, 2)), "strides": (1, 2)}
MOBILE = {"stem_channels": 4, "first_channels": 4, "features": 8, "stem": "cifar"}


class Own(nn.Module):
    """A module of one's own; it has parameters, a buffer, a constant, and asks for shapes."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(3, 1, 1))
        self.register_buffer("shift", torch.rand(3, 1, 1))
        self.constant = torch.rand(3, 1, 1)
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, input, double=False):
        if input.shape[1] != 3:
            raise ValueError("must have 3 channels")
        y = torch.nn.functional.dropout(self.conv(input * self.scale + self.shift), 0.1, self.training)
        z = y.flatten(2).transpose(1, 2)
        attended, _ = self.attention(z, z, z, need_weights=False)
        self.relu(y)  # changes y
        y = -y + self.constant if double else y - 2 * self.constant
        return {"logits": (y.mean((2, 3)) - attended.mean(1) ** 2)[:, :2], "each": [y.amax((2, 3))]}


class Mix(nn.Module):
    """Takes a list, and a number that says how."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))

    def forward(self, states, *, power=1):
        total = sum(conv(state) for conv, state in zip(self.convs, states, strict=True))
        return total**power


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, scale=1.0, mask=None):
        x = x if mask is None else x * mask
        return self.dropout(x) * torch.sigmoid(x * scale), x


class Odd(nn.Module):
    """Modules that are called twice, by keyword, with lists and numbers, and Python's operators."""

    def __init__(self):
        super().__init__()
        self.mix, self.gate, self.shared = Mix(), Gate(), nn.Conv2d(3, 3, 3, padding=1)
        self.same = self.shared
        self.register_buffer("steps", torch.arange(8))

    def forward(self, x):
        half = x.shape[3] // 2
        left, right = x[..., :half], x[..., half - 4 + 4 :]
        first, second = torch.chunk(self.shared(x), 2, dim=3)
        gated, before = self.gate(x, scale=0.5)
        mixed = self.mix([gated, self.same(before)], power=2)
        masked, _ = self.gate(x=mixed, mask=(mixed > 0.1) & (mixed <= 5))
        product = (left - right) @ (first * -second).transpose(-1, -2)
        rolled = (abs(masked) / (1 + self.steps % 3))[:, [2, 0, 1]][:, :, ::2, None].squeeze(3)
        return torch.cat([product.reshape(x.shape[0], -1), rolled.flatten(1), x.amax((1, 2, 3))[:, None]], 1)


class EveryOp(nn.Module):
    """All that is registered for maps and for features, as it is and at stride 2."""

    def __init__(self):
        super().__init__()
        self.ops = nn.ModuleList(ops[name](3, 3, stride, True) for name in ops.names() for stride in (1, 2))
        self.layers = nn.ModuleList(layers[name](8, 8) for name in layers.names())

    def forward(self, x):
        return torch.cat([part(x).flatten(1) for part in (*self.ops, *self.layers)], 1)


def _hostile():
    """Names, and what was chosen, that would be code if they were written as they are."""
    code = '"""\nimport os\nos.abort()\n#'
    block = type(f"__import__('os').abort(){code}", (nn.Sequential,), {"__doc__": f"A doc.{code}\\"})()
    named = code.replace(".", "")  # PyTorch has no module whose name has a dot
    block._modules.update({f"a{named}": nn.Conv2d(3, 4, 1), "class": nn.ReLU(), "1": nn.Conv2d(4, 3, 1)})
    chosen = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    return Model(
        nn.Sequential(block, chosen), decided=[(code, code, chosen), ("\u2028import os", "__class__", block)]
    )


def _surgery():
    rules = (Rule("layer1.0.conv1", ("dil_conv_3x3",)), Rule("layer2.*.conv2", ("original", "nor_conv_3x3")))
    network = networks.component("resnet", channels=4, blocks=(1, 1))
    space = spaces["surgery"](TASK, network=network, rules=rules)
    return derived(space, sample(space, generator_for(0, "test")))


def _drawn(name, **settings):
    space = spaces[name](TASK, **settings)
    return derived(space, sample(space, generator_for(0, "test")))


def _nas_bench_201():
    space = spaces["nas_bench_201"](TASK, channels=4, cells=1)
    return derived(space, space.genotype(NAS_BENCH_201))


def _darts():
    settings = {"channels": 4, "cells": 4, "nodes": 2, "auxiliary": True, "drop_path": 0.2}
    return derived(spaces["darts"](TASK, **settings), DARTS)


MAKE = {
    "darts": _darts,
    "nas_bench_201": _nas_bench_201,
    "mobile": lambda: _drawn("mobile", widths=(4, 8), depths=(2, 2), strides=(1, 2), **MOBILE),
    "mobile_elastic": lambda: _drawn("mobile_elastic", **ELASTIC, **MOBILE),
    "mobile_stages": lambda: _drawn(
        "mobile_stages", widths=((4, 8), (8,)), depths=((1, 2), (2,)), strides=(1, 2), **MOBILE
    ),
    "macro": lambda: _drawn("macro", channels=4, stages=(2, 1), features=8),
    "surgery": _surgery,
    "own": lambda: Model(Own()),
    "odd": lambda: Model(Odd()),
    "every_op": lambda: Model(EveryOp()),
    "hostile": _hostile,
}


@pytest.fixture(scope="module")
def example():
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def models(example):
    """Networks whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    made = {name: make() for name, make in MAKE.items()}
    for model in made.values():
        model.train()(example)
        model.eval()
    return made


@pytest.fixture(scope="module")
def written(models, example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return {name: write_source(model, example, folder / name, DATA) for name, model in models.items()}


@pytest.fixture(scope="module")
def outputs(written, example):
    """What the files make of all examples and of the first, in one process."""
    return dict(zip(written, run_apart("source", list(written.values()), example), strict=True))


def _module(path):
    spec = importlib.util.spec_from_file_location(path.parent.name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_space_is_among_the_examples():
    assert set(spaces.names()) <= set(MAKE)


@pytest.mark.parametrize("name", MAKE)
def test_the_file_computes_what_the_network_computes(name, models, outputs, example):
    expected = []
    with torch.no_grad():
        for part in (example, example[:1]):
            made = models[name](part)
            expected += [made["logits"], *made["each"]] if name == "own" else [made]
    expected = torch.cat([each.flatten() for each in expected]).double()
    torch.testing.assert_close(outputs[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MAKE)
def test_the_file_imports_pytorch_and_the_standard_library_alone(name, written):
    nodes = list(ast.walk(ast.parse(written[name].read_text())))
    imported = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert imported <= {"json", "pathlib", "torch", "torch.nn"}


def test_the_found_cell_can_be_read(written):
    text = written["darts"].read_text()
    _, cell = text.split("class NormalCell(nn.Module):")
    cell, _ = cell.split("\n\n\n", 1)
    assert "# normal_2_0: sep_conv_3x3\n        self.node_0_branch_0 = SeparableConv(" in cell
    assert "# normal_3_0: dil_conv_5x5\n        self.node_1_branch_0 = DilConv5x5(" in cell
    forward = [line.strip() for line in cell.partition("def forward")[2].splitlines()]
    assert "node_0 = self.node_0_branch_0(preprocess_0) + preprocess_1" in forward
    assert "node_1 = self.node_1_branch_0(preprocess_0) + self.node_1_branch_1(node_0)" in forward
    assert "return torch.cat([node_0, node_1], dim=1)" in forward
    assert "class ReductionCell(nn.Module):" in text
    assert "INPUT_SHAPE = (3, 8, 8)" in text


def test_what_serves_training_in_the_framework_alone_is_left_out(models, written):
    text = written["darts"].read_text()
    assert models["darts"].network.auxiliary is not None
    assert "drop" not in text.lower()
    assert "auxiliary" not in text.lower()
    assert "zero" not in written["nas_bench_201"].read_text().lower()  # edges that are cut


def test_the_files_are_formatted_and_pass_lint_and_types(written, tmp_path):
    for name, path in written.items():
        (tmp_path / f"{name}.py").write_text(path.read_text())
    rules = "E,F,W,I,B,UP,D,ANN,SIM,RUF,C4,RET,PIE,N,PERF,A"
    apart = ["--isolated", "--no-cache", str(tmp_path)]
    root = Path(__file__).parents[3]
    types = ["--config-file", "pyproject.toml", str(tmp_path / "darts.py"), str(tmp_path / "own.py")]
    for command in (
        ["ruff", "format", "--check", *apart],
        ["ruff", "check", "--select", rules, "--ignore", "D102,D107,D203,D213", *apart],
        ["mypy", *types],
    ):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=root)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_says_what_classes_there_are_and_how_images_are_normalized(written):
    module = _module(written["own"])
    assert DATA.class_names == module.CLASSES
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    expected = DATA.preprocess.normalize(DATA.preprocess.scale(images))
    assert torch.equal(module.normalize(images), expected)


def test_names_from_outside_never_become_code(written):
    tree = ast.parse(written["hostile"].read_text())
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 3  # the block, what was chosen, the network
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    named |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not named & {"os", "abort", "__import__", "__class__"}
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    own = {f"self.{name}" for name in named}
    functions = {"super", "int", "bytearray", "Path", "read_safetensors"}
    assert {name for name in called - own if "." not in name} <= {*classes, *functions}


def test_the_network_can_be_trained_and_exported_further(written, example):
    network = _module(written["darts"]).load()
    assert not network.training
    exported = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(example[:3]), network(example[:3]))
    before = {name: value.clone() for name, value in network.named_buffers() if name.endswith("running_mean")}
    network.train()(example).square().sum().backward()
    assert all(each.grad is not None and bool(each.grad.any()) for each in network.parameters())
    after = dict(network.named_buffers())
    assert not any(torch.equal(after[name], value) for name, value in before.items())


def test_weights_of_every_type_are_read(written, tmp_path):
    types = (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
        torch.int8, torch.uint8, torch.bool,
    )  # fmt: skip
    tensors = {str(each): torch.arange(6).reshape(2, 3).to(each) for each in types}
    tensors |= {"scalar": torch.tensor(7), "empty": torch.zeros(0, 2, dtype=torch.int8)}
    save_file(tensors, tmp_path / "some.safetensors", metadata={"format": "pt"})
    read = _module(written["own"]).read_safetensors(tmp_path / "some.safetensors")
    expected = load_file(tmp_path / "some.safetensors")
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in expected)
    assert all(read[name].dtype == expected[name].dtype for name in expected)


class _Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class _Calling(nn.Module):
    def forward(self, x):
        return torch.ops.aten.relu.default(x)


@pytest.mark.parametrize(("module", "reason"), [(_Branching, "control flow"), (_Calling, "not PyTorch's")])
def test_what_cannot_be_written_is_refused_by_its_place(module, reason, tmp_path):
    network = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Flatten(), module()))
    with pytest.raises(UnsupportedError, match=rf"source: `1.1` \({module.__name__}\) cannot .*{reason}"):
        Source().export(Model(network), torch.randn(2, 3), tmp_path)
    assert not list(tmp_path.iterdir())


class _Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


def test_files_that_compute_something_else_are_refused_and_removed(tmp_path):
    with pytest.raises(UnsupportedError, match="must compute what the network computes"):
        Source().export(Model(_Noisy()), torch.randn(2, 3), tmp_path)
    assert not list(tmp_path.iterdir())
