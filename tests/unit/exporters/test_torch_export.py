import pytest
import torch
from torch import nn

from nasframe.core import Model
from nasframe.errors import UnsupportedError
from nasframe.exporters.torch_export import TorchExport


def _network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    network(torch.randn(16, 1, 4, 4))  # so that the batch norm has statistics of its own
    return network


def test_the_file_computes_what_the_network_computes_for_any_batch_size_and_the_model_stays(tmp_path):
    model = Model(_network())
    model.network[1].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    exporter = TorchExport()
    path = exporter.export(model, torch.randn(1, 1, 4, 4), tmp_path / "export")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert exporter.max_difference is not None
    assert 0 <= exporter.max_difference < 1e-6
    assert path == tmp_path / "export" / "model.pt2"
    loaded = torch.export.load(path).module()
    model.eval()
    for count in (1, 2, 7):
        inputs = torch.randn(count, 1, 4, 4)
        with torch.no_grad():
            torch.testing.assert_close(loaded(inputs), model(inputs))


class _Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot be traced"):
        TorchExport().export(Model(_Branching()), torch.randn(2, 3), tmp_path)
    assert not (tmp_path / "model.pt2").exists()
