"""The examples that components are tried on."""

from typing import final

import torch
from torch import nn

from nasframe.core import (
    Batch,
    Filler,
    InputChoice,
    LayerChoice,
    Space,
    Split,
    TensorSplit,
    ValueChoice,
    generator_for,
)

NUM_INPUTS, NUM_CLASSES = 4, 3


def example_space() -> Space:
    """A space over vectors, with each kind of choice that a search has: small, for tests.

    Its networks take B x 4 and return B x 3.
    """
    return _ExampleSpace()


_EDGES = ("edge_0", "edge_1")


@final
class _ExampleSpace(Space):
    """A node of two edges as in DARTS, then a choice of inputs, then one of a width."""

    def build(self, filler: Filler) -> nn.Module:
        return _ExampleNetwork(filler)


@final
class _ExampleNetwork(nn.Module):
    """What `_ExampleSpace` builds."""

    def __init__(self, filler: Filler) -> None:
        super().__init__()
        self.stem = nn.Linear(NUM_INPUTS, NUM_INPUTS)
        self.node = filler.inputs(
            InputChoice("node", ("0", "1"), edges=_EDGES),
            lambda index: filler.layer(self._edge(_EDGES[index]), _candidate),
        )
        self.merge = filler.inputs(InputChoice("merge", ("0", "1", "2"), num_chosen=2), lambda _: nn.Tanh())
        self.hidden = filler.value(ValueChoice.of("hidden", (2, 5)), _hidden)
        self.head = nn.Linear(NUM_INPUTS, NUM_CLASSES)

    @staticmethod
    def _edge(name: str) -> LayerChoice:
        return LayerChoice(name, ("none", "linear", "tanh", "identity"), search_only=("none",))

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        states = [x_BC, torch.tanh(self.stem(x_BC))]
        y_BK: torch.Tensor = self.head(self.hidden(self.merge([*states, self.node(states)])))
        return y_BK


@final
class _Nothing(nn.Module):
    """Zeros, as it declares."""

    always_zero = True

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x_BC)


def _candidate(name: str) -> nn.Module:
    linear = nn.Linear(NUM_INPUTS, NUM_INPUTS)
    layers = {
        "none": _Nothing(),
        "linear": linear,
        "tanh": nn.Sequential(linear, nn.Tanh()),
        "identity": nn.Identity(),
    }
    return layers[name]


def _hidden(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(NUM_INPUTS, width), nn.Tanh(), nn.Linear(width, NUM_INPUTS))


def example_batch(seed: int, size: int = 8) -> Batch:
    """Vectors whose class is the largest of their first numbers."""
    generator = generator_for(seed, "example")
    x_BC = torch.randn(size, NUM_INPUTS, generator=generator)
    return Batch(x_BC, x_BC[:, :NUM_CLASSES].argmax(1))


def example_split(seed: int, size: int) -> Split:
    """As many examples as an `example_batch` of that size has."""
    batch = example_batch(seed, size)
    return TensorSplit(batch.inputs, batch.targets)
