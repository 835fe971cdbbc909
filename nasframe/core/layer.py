"""Layers by name: what may stand in place of a layer that maps features."""

from torch import nn

from nasframe.registry import Registry

layers: Registry[nn.Module] = Registry("layers", nn.Module, given=("in_features", "out_features"))
"""Each maps ... F to ... G: whatever comes before the features stays."""
