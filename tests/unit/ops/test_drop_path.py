"""Drop path."""

import pytest
import torch

from nasframe.core import Annealed, Model
from nasframe.ops.drop_path import DropPath


def dropping(progress: float) -> DropPath:
    layer = DropPath(0.4)
    layer.anneal(progress)
    return layer


@pytest.mark.parametrize("shape", [(2000, 2, 3, 3), (2000, 5), (2000,)])
def test_an_example_is_dropped_whole_or_scaled_up_whole(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    out = dropping(0.5)(torch.ones(shape)).reshape(2000, -1)
    dropped = (out == 0).all(dim=1)
    torch.testing.assert_close(out[~dropped], torch.full_like(out[~dropped], 1 / 0.8))
    assert abs(dropped.double().mean() - 0.2) < 4 * (0.2 * 0.8 / 2000) ** 0.5


def test_the_mean_over_drawings_is_the_input() -> None:
    torch.manual_seed(0)
    mean = dropping(1.0)(torch.full((20000, 1), 3.0)).mean()
    assert abs(mean - 3) < 4 * 3 * (0.4 / 0.6 / 20000) ** 0.5


@pytest.mark.parametrize("layer", [DropPath(0.4), dropping(0.0), dropping(1.0).eval()])
def test_nothing_is_dropped_at_the_start_of_a_stage_nor_outside_training(layer: DropPath) -> None:
    x = torch.ones(5, 3)
    assert layer(x) is x


def test_its_input_stays_as_it_was() -> None:
    x = torch.ones(100, 1, 1, 1)
    dropping(1.0)(x)
    assert torch.equal(x, torch.ones(100, 1, 1, 1))


def test_a_model_anneals_it() -> None:
    assert isinstance(DropPath(0.4), Annealed)
    model = Model(torch.nn.Sequential(torch.nn.Linear(1, 1), DropPath(0.4)))
    model.anneal(1.0)
    torch.manual_seed(0)
    assert (model(torch.ones(100, 1)) == 0).any()
