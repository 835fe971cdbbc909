"""The recipe: the typed tree that a YAML file is read into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from nasframe.core import (
    Algorithm,
    Augmentation,
    Benchmark,
    Cost,
    Dataset,
    Deriver,
    Explorer,
    Exporter,
    MixedOp,
    Objective,
    Penalty,
    Perturbation,
    Regularizer,
    Report,
    Score,
    Space,
    Tracker,
    Trainer,
    algorithms,
    derivers,
    mixed_ops,
    objectives,
    penalties,
    removed,
    reports,
    spaces,
    trackers,
    trainers,
)
from nasframe.recipe.tree import KeyPath, Place
from nasframe.registry import Component
from nasframe.types import ExistingFile, NonNegativeInt, PositiveInt, Probability, ProperFraction

INHERITED_FROM = {
    "retrain.space": "space",
    "retrain.objective": "objective",
    "search.stages.*.space": "space",
    "search.stages.*.trainer": "search.trainer",
}
"""Slots that start from what another slot says; their own keys are merged over it. ``*`` is any index."""


def inherited_from(path: Sequence[str | int]) -> str | None:
    """The path that the slot at a path starts from, or that a part of such a slot does; None for others."""
    keys = ["*" if str(key).isdecimal() else str(key) for key in path]
    for target, source in INHERITED_FROM.items():
        length = target.count(".") + 1
        if keys[:length] == target.split("."):
            return ".".join([source, *map(str, path[length:])])
    return None


@dataclass(frozen=True, kw_only=True)
class SearchStage:
    """One of several stages of a search; each has a supernet, a trainer and an algorithm of its own.

    Args:
        space: Settings of the space that differ from those of `space`, such as cells; its choices stay.
        trainer: Settings of the trainer that differ from those of `search.trainer`, such as epochs.
        keep: How many candidates a choice has at most: the strongest ones of the stage before; null for
            all that this had.
        inherits: What the supernet takes from that of the stage before, as far as shapes let it: `weights`,
            `alphas`. What it does not take is new.
    """

    space: Component[Space] = spaces.component("darts")
    trainer: Component[Trainer] = trainers.component("standard")
    keep: PositiveInt | None = None
    inherits: tuple[Literal["weights", "alphas"], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Health:
    """What is watched while a supernet is searched, and what is done when the search collapses.

    Args:
        action: What happens when it does. `tell` says so. `stop` ends the search with the alphas of the last
            good epoch, from which the architecture is then derived; `rollback` goes on from these, with the
            weights as they are.
        max_idle: The largest share of the edges of a kind of cell that a good architecture leaves without an
            operation: skip connections and ``none`` together.
        patience: Epochs in a row that must be worse for a collapse.
        gap_every: Epochs between two measurements of what the supernet loses when all but the derived path
            is cut; null for none. The last epoch is always measured.
        gap_fraction: Share of the held-out examples that this is measured on.
        eigenvalue_every: Epochs between two measurements of the largest eigenvalue of ∇²_a L_valid; null for
            none. It costs `eigenvalue_products` passes through a backward pass, and the memory of one.
        eigenvalue_examples: Held-out examples that it is measured on, the same each time.
        eigenvalue_products: Products with the matrix, at most.
        eigenvalue_window: Measurements that are averaged, k.
        eigenvalue_ratio: A collapse is that the average k measurements ago is below this share of the average
            now (RobustDARTS); the last good epoch is the one of k measurements ago.
    """

    action: Literal["tell", "stop", "rollback"] = "tell"
    max_idle: Probability = 0.5
    patience: PositiveInt = 5
    gap_every: PositiveInt | None = 5
    gap_fraction: Annotated[float, Interval(gt=0, le=1)] = 0.1
    eigenvalue_every: PositiveInt | None = None
    eigenvalue_examples: PositiveInt = 64
    eigenvalue_products: PositiveInt = 10
    eigenvalue_window: PositiveInt = 5
    eigenvalue_ratio: Probability = 0.75


@removed(cost_weight="say it as `penalty: {type: linear, weight: …}`")
@dataclass(frozen=True, kw_only=True)
class Search:
    """The search stage.

    Args:
        algorithm: Owns the step.
        mixed_op: How the candidates of a choice are mixed.
        deriver: How the architecture is read off the supernet.
        trainer: Owns the loop.
        stages: Stages that the search goes through, one after the other; none for a search in one piece.
        explorer: Looks for the architecture by asking for scores; none is derived then, and a supernet is
            trained only where the score needs one.
        score: What tells an explorer how good an architecture is.
        evaluations: How many architectures an explorer has scored.
        cost: What the found network, as `retrain.space` builds it, should have little of.
        penalty: How alphas pay for the expected cost: by a weight, or to keep a budget.
        regularizers: Terms that alphas minimize besides the loss, each with its weight.
        perturbation: How mixtures are moved for the steps of the weights.
        benchmark: A table that knows the true accuracies, to judge the search by; it does not learn them.
        health: What is watched meanwhile.
        valid_fraction: Share of the training data that alphas are learned and validated on.
        augment: Augmentations of the training batches, in order.
        fused: Whether the mixtures of a node, and the layers of a mobile block, may be computed together, on
            the CPU: the same but for rounding, with about half the memory.
        recomputed: Whether the activations within each block (a cell, or a choice that is in none) are
            computed again in the backward pass instead of being kept: the same, slower, with less memory.
    """

    algorithm: Component[Algorithm] = algorithms.component("darts_bilevel")
    mixed_op: Component[MixedOp] = mixed_ops.component("softmax")
    deriver: Component[Deriver] = derivers.component("darts")
    trainer: Component[Trainer] = trainers.component("standard")
    stages: tuple[SearchStage, ...] = ()
    explorer: Component[Explorer] | None = None
    score: Component[Score] | None = None
    evaluations: PositiveInt = 100
    cost: Component[Cost] | None = None
    penalty: Component[Penalty] = penalties.component("linear", weight=0.1)
    regularizers: tuple[Component[Regularizer], ...] = ()
    perturbation: Component[Perturbation] | None = None
    benchmark: Component[Benchmark] | None = None
    health: Health = field(default_factory=Health)
    valid_fraction: ProperFraction = 0.5
    augment: tuple[Component[Augmentation], ...] = ()
    fused: bool = True
    recomputed: bool = False


@dataclass(frozen=True, kw_only=True)
class Retrain:
    """The retraining stage: the derived network from new weights, or from those of the supernet.

    Args:
        space: Settings of the space that differ from the search's, such as channels and cells.
        objective: Settings of the objective that differ from the search's.
        inherit: Whether the network begins with the weights that its architecture has in the trained
            supernet (see `nasframe.inherit`), which then must be built alike, instead of new ones.
        trainer: Owns the loop.
        valid_fraction: Share of the training data held out to watch the training; 0 for none.
        augment: Augmentations of the training batches, in order.
        recomputed: As in the search.
        seeds: How many trainings there are, by the seeds from that of the recipe on. With several, figures of
            the test come with mean and standard deviation, and the network of the lowest validation loss is
            kept.
        baseline: A family of the field that the space names, such as `mobilenet_v2` of `mobile`; null for
            none. Its cheapest network that costs no less than the found one by `search.cost` is trained as
            this is, by the same seeds, and the report compares both.
    """

    space: Component[Space] = spaces.component("darts")
    objective: Component[Objective] = objectives.component("cross_entropy")
    inherit: bool = False
    trainer: Component[Trainer] = trainers.component("standard")
    valid_fraction: ProperFraction = 0.1
    augment: tuple[Component[Augmentation], ...] = ()
    recomputed: bool = False
    seeds: PositiveInt = 1
    baseline: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole search: read data, search, derive, retrain, test, report, export.

    Args:
        name: Names the run's folder.
        seed: All randomness follows from it.
        device: `auto` takes the accelerator if there is one.
        threads: CPU threads of one operation; null takes what PyTorch would, or what the container may use if
            that is less. Small tensors are as fast with 1, and a machine that does other work as well is then
            many times faster.
        deterministic: Whether the same recipe gives the same bits each time, as it does on the CPU in any
            case. On CUDA false allows kernels that are faster and add in no fixed order: two runs, or a run
            and its resumed twin, then differ in last bits, and after many steps in their results.
        data: What is learned from.
        space: Where is searched.
        objective: What is minimized.
        genotype: A file with an architecture to retrain instead of searching one: JSON, or the notation
            of its space, such as an arch string of NAS-Bench-201.
        search: The search stage.
        retrain: The retraining stage.
        trackers: Where figures go.
        report: How the result is shown.
        export: Formats that the retrained network is written in.

    Attributes:
        places: Where each value was written, by the paths of `recipe_to_mapping`; none in a recipe that
            was made or changed in Python.
    """

    name: str
    data: Component[Dataset]
    space: Component[Space]
    seed: NonNegativeInt = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: PositiveInt | None = None
    deterministic: bool = True
    objective: Component[Objective] = objectives.component("cross_entropy")
    genotype: ExistingFile | None = None
    search: Search = field(default_factory=Search)
    retrain: Retrain = field(default_factory=Retrain)
    trackers: tuple[Component[Tracker], ...] = (
        trackers.component("jsonl"),
        trackers.component("tensorboard"),
    )
    report: Component[Report] = reports.component("html")
    export: tuple[Component[Exporter], ...] = ()
    places: Mapping[KeyPath, Place] = field(default_factory=dict, init=False, repr=False, compare=False)
