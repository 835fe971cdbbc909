"""Layers that map features to features."""

from torch import nn

from nasframe.core import layers
from nasframe.errors import UnsupportedError


@layers.register("identity")
def identity(in_features: int, out_features: int) -> nn.Module:
    """The input itself, where the number of features stays."""
    if in_features != out_features:
        raise UnsupportedError(
            f"layer `identity`: must keep the number of features, got {in_features} and {out_features}"
        )
    return nn.Identity()


@layers.register("linear")
def linear(in_features: int, out_features: int) -> nn.Module:
    """A linear map with a bias."""
    return nn.Linear(in_features, out_features)


@layers.register("low_rank_4")
def low_rank_4(in_features: int, out_features: int) -> nn.Module:
    """A linear map through a quarter of the features: a quarter to a half of the multiply-adds."""
    rank = max(1, min(in_features, out_features) // 4)
    return nn.Sequential(nn.Linear(in_features, rank, bias=False), nn.Linear(rank, out_features))


@layers.register("mlp_2")
def mlp_2(in_features: int, out_features: int) -> nn.Module:
    """Two linear maps with GELU between them, through twice the features (Hendrycks and Gimpel 2016)."""
    return nn.Sequential(
        nn.Linear(in_features, 2 * in_features), nn.GELU(), nn.Linear(2 * in_features, out_features)
    )


@layers.register("gated")
def gated(in_features: int, out_features: int) -> nn.Module:
    """A linear map times the sigmoid of another (Dauphin et al. 2017, arXiv 1612.08083, eq. 1)."""
    return nn.Sequential(nn.Linear(in_features, 2 * out_features), nn.GLU())
