import pytest
import torch

from nasframe.errors import UnsupportedError
from nasframe.objectives.mean_squared_error import MeanSquaredError


def test_loss_and_metric_are_means_over_all_values():
    prediction = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    targets = torch.tensor([[0.0, 2.0], [5.0, 4.0]])
    objective = MeanSquaredError()
    assert objective.loss(prediction, targets).item() == (1 + 0 + 4 + 1) / 4
    assert objective.metrics({"prediction": prediction}, targets)["mean_absolute_error"].item() == 1.0


def test_auxiliary_predictions_count_with_their_weight():
    targets = torch.zeros(3)
    loss = MeanSquaredError(auxiliary_weight=0.5).loss((torch.ones(3), 2 * torch.ones(3)), targets)
    assert loss.item() == 1 + 0.5 * 4


def test_whole_numbers_may_be_targets():
    assert MeanSquaredError().loss(torch.tensor([1.5]), torch.tensor([1])).item() == 0.25


def test_a_shape_that_would_be_stretched_is_refused():
    with pytest.raises(UnsupportedError, match=r"shape of the targets \(4,\), got \(4, 1\)"):
        MeanSquaredError().loss(torch.ones(4, 1), torch.ones(4))
