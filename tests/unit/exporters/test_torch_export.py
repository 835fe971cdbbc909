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


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_file_computes_what_the_network_computes_for_any_batch_size(tmp_path, batch_size):
    model = Model(_network())
    path = TorchExport().export(model, torch.randn(batch_size, 1, 4, 4), tmp_path / "export")
    assert path == tmp_path / "export" / "model.pt2"
    loaded = torch.export.load(path).module()
    model.eval()
    for count in (1, 2, 7):
        inputs = torch.randn(count, 1, 4, 4)
        with torch.no_grad():
            torch.testing.assert_close(loaded(inputs), model(inputs))


def test_the_model_is_left_as_it_was(tmp_path):
    model = Model(_network())
    model.network[1].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    TorchExport().export(model, torch.randn(2, 1, 4, 4), tmp_path)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class _Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="cannot be traced"):
        TorchExport().export(Model(_Branching()), torch.randn(2, 3), tmp_path)
    assert not (tmp_path / "model.pt2").exists()


class _Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


def test_a_file_that_computes_something_else_is_refused_and_removed(tmp_path):
    with pytest.raises(UnsupportedError, match="must compute what the network computes"):
        TorchExport().export(Model(_Noisy()), torch.randn(2, 3), tmp_path)
    assert not (tmp_path / "model.pt2").exists()
