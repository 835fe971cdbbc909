import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from nasframe import supernet
from nasframe.core import Model, Task, derived, derivers, mixed_ops, spaces
from nasframe.errors import UnsupportedError
from nasframe.exporters.onnx import Onnx

# each worker collects all tests, and importing these takes long
pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs nasframe[onnx]",
)


def _outputs(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["outputs"], {"inputs": inputs.numpy()})[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A derived cell network whose batch norms have statistics of their own, and its file."""
    torch.manual_seed(0)
    space = spaces["darts"](Task((3, 8, 8), 3), channels=2, cells=3, nodes=2)
    genotype = derivers["darts"]().derive(supernet(space, mixed_ops.component("softmax")))
    network = derived(space, genotype)
    network(torch.randn(16, 3, 8, 8))
    network.eval()
    return network, Onnx().export(network, torch.randn(1, 3, 8, 8), tmp_path_factory.mktemp("export"))


def test_the_file_computes_what_the_network_computes_for_any_batch_size(exported):
    network, path = exported
    assert path.name == "model.onnx"
    for count in (1, 2, 7):
        inputs = torch.randn(count, 3, 8, 8)
        with torch.no_grad():
            np.testing.assert_allclose(_outputs(path, inputs), network(inputs).numpy(), atol=1e-5)


def test_the_file_is_one_and_valid(exported):
    import onnx

    _, path = exported
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(path), full_check=True)


class _Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="onnx: the network cannot be traced"):
        Onnx().export(Model(_Branching()), torch.randn(2, 3), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_with_the_extra(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnsupportedError, match=rf"needs {package}.*pip install 'nasframe\[onnx\]'"):
        Onnx().export(Model(nn.Linear(3, 2)), torch.randn(2, 3), tmp_path)
