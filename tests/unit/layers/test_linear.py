"""Layers keep what comes before the features."""

import pytest
import torch

from nasframe.core import layers
from nasframe.errors import UnsupportedError


@pytest.mark.parametrize("name", layers.names())
def test_whatever_comes_before_the_features_stays(name):
    assert layers[name](6, 6)(torch.randn(2, 3, 6)).shape == (2, 3, 6)


@pytest.mark.parametrize("name", sorted(set(layers.names()) - {"identity"}))
def test_the_number_of_features_may_change(name):
    assert layers[name](6, 4)(torch.randn(5, 6)).shape == (5, 4)


def test_an_identity_cannot_change_the_number_of_features():
    with pytest.raises(UnsupportedError, match="must keep the number of features, got 6 and 4"):
        layers["identity"](6, 4)


def test_a_low_rank_map_has_a_quarter_of_the_features_as_its_rank():
    layer = layers["low_rank_4"](32, 16)
    matrix = layer(torch.eye(32)) - layer(torch.zeros(32))
    assert torch.linalg.matrix_rank(matrix.detach()) == 4
