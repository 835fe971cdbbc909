"""What tells of a search whether it is well: figures of the weights of candidates, and of an architecture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch

from nasframe.core.batch import tensors_of
from nasframe.core.choice import Choice, LayerChoice
from nasframe.core.genotype import Genotype, cell_of
from nasframe.core.mixed_op import MixedLayer, is_skip, is_zero
from nasframe.core.model import Model
from nasframe.core.random_state import kept_random_state
from nasframe.core.space import Space, derived, supernet
from nasframe.core.task import Task

Weights = Mapping[str, torch.Tensor]
"""The weights of the candidates, of shape K, by choice id."""


def normalized_entropy(weights_K: torch.Tensor) -> float:
    """The entropy of the shares of some weights: 0 where one has all, 1 where all are equal."""
    shares = (weights_K.double() / weights_K.double().sum()).tolist()
    entropy = -sum(share * math.log(share) for share in shares if share > 0)
    return entropy / math.log(len(shares)) if len(shares) > 1 else 0.0


def kendall_tau(one_K: torch.Tensor, other_K: torch.Tensor) -> float | None:
    """How alike two vectors order their places: 1 alike, −1 inversely (Kendall 1945, τ_b, with ties).

    Returns:
        None where one of them has all places equal.
    """
    first, second = (torch.sign(each[:, None] - each[None, :]).double() for each in (one_K, other_K))
    norm = math.sqrt(float(first.square().sum()) * float(second.square().sum()))
    return float((first * second).sum()) / norm if norm else None


def rank_stability(before: Weights, now: Weights) -> float | None:
    """Mean over the choices of the τ of their weights at two moments; None if none has one."""
    found = [kendall_tau(before[name], weights_K) for name, weights_K in now.items() if name in before]
    known = [tau for tau in found if tau is not None]
    return sum(known) / len(known) if known else None


@final
@dataclass(frozen=True)
class Idle:
    """The candidates of the choices of a supernet that compute nothing.

    Attributes:
        skips: By choice id those that are skip connections at each site of the choice.
        zeros: Likewise those that are always zero.
    """

    skips: Mapping[str, frozenset[str]]
    zeros: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, model: Model) -> "Idle":
        """As the candidates declare it; choices without any are left out."""
        names = {id(op): name for name, op in model.mixed_ops.items()}
        skips: dict[str, list[frozenset[str]]] = {}
        zeros: dict[str, list[frozenset[str]]] = {}
        for site in model.modules():
            choice = model.choices[names[id(site.mixed_op)]] if isinstance(site, MixedLayer) else None
            if isinstance(site, MixedLayer) and isinstance(choice, LayerChoice):
                by_name = dict(zip(choice.candidates, site.candidates, strict=True))
                for found, declares in ((skips, is_skip), (zeros, is_zero)):
                    declared = frozenset(name for name, each in by_name.items() if declares(each))
                    found.setdefault(choice.id, []).append(declared)
        return cls(_everywhere(skips), _everywhere(zeros))

    @classmethod
    def in_space(cls, space: Space) -> "Idle":
        """Those of any supernet of a space."""
        with torch.device("meta"):
            return cls.of(supernet(space, "uniform_path"))


def _everywhere(declared: Mapping[str, Sequence[frozenset[str]]]) -> dict[str, frozenset[str]]:
    common = {name: frozenset.intersection(*sites) for name, sites in declared.items()}
    return {name: candidates for name, candidates in common.items() if candidates}


@final
@dataclass(frozen=True)
class IdleEdges:
    """How many edges of a kind of cell an architecture leaves without an operation.

    Attributes:
        cell: Empty for choices that are in no cell.
        edges: Candidates that are kept in all, of choices that have some that compute nothing.
        skips: Those that are skip connections.
        zeros: Those that are always zero.
    """

    cell: str
    edges: int
    skips: int
    zeros: int

    @property
    def share(self) -> float:
        """Of skips and zeros together."""
        return (self.skips + self.zeros) / self.edges

    def __str__(self) -> str:
        what = " or ".join(word for word, count in (("skips", self.skips), ("none", self.zeros)) if count)
        of_cell = f" of {self.cell}" if self.cell else ""
        return f"{self.skips + self.zeros} of {self.edges} edges{of_cell} are {what or 'skips'}"


def idle_edges(idle: Idle, genotype: Genotype) -> list[IdleEdges]:
    """Of each kind of cell that an architecture keeps edges of."""
    counts: dict[str, list[int]] = {}
    for choice, kept in genotype.choices.items():
        if choice in idle.skips or choice in idle.zeros:
            count = counts.setdefault(cell_of(choice), [0, 0, 0])
            count[0] += len(kept)
            count[1] += sum(name in idle.skips.get(choice, ()) for name in kept)
            count[2] += sum(name in idle.zeros.get(choice, ()) for name in kept)
    return [IdleEdges(cell, *count) for cell, count in counts.items() if count[0]]


def mass_of(
    idle: Mapping[str, frozenset[str]], choices: Mapping[str, Choice], weights: Weights
) -> dict[str, float]:
    """The share that some candidates have of the weights, mean over the choices of each kind of cell."""
    found: dict[str, list[float]] = {}
    for name, candidates in idle.items():
        if name in weights:
            shares = (weights[name].double() / weights[name].double().sum()).tolist()
            of_candidate = dict(zip(choices[name].candidates, shares, strict=True))
            found.setdefault(cell_of(name), []).append(sum(of_candidate[each] for each in candidates))
    return {cell: sum(shares) / len(shares) for cell, shares in found.items()}


def reaches_output(space: Space, genotype: Genotype, task: Task, idle: Idle) -> bool | None:
    """Whether what an architecture returns depends on what it is given.

    Where it keeps a candidate that is always zero, autograd is asked, on a network without numbers.

    Returns:
        None where that is not known: inputs are tokens, or the network cannot be computed without numbers.
    """
    if not any(each.zeros for each in idle_edges(idle, genotype)):
        return True
    if task.vocabulary is not None:
        return None
    with kept_random_state(torch.device("cpu")), torch.device("meta"):
        model = derived(space, genotype).eval().requires_grad_(False)
        inputs = task.blank(2).requires_grad_()
        try:
            with torch.enable_grad():
                outputs = model(inputs)
        except (RuntimeError, NotImplementedError):  # what PyTorch raises where a shape follows from a number
            return None
    tensors = [each for each in tensors_of(outputs) if each.is_floating_point()]
    return any(each.requires_grad for each in tensors)
