"""The vocabulary: interfaces, value types, and one registry for each sort of component."""

from nasframe.core.active import ActiveSetting
from nasframe.core.algorithm import Algorithm, Stateful, algorithms
from nasframe.core.architectures import Architectures
from nasframe.core.around import Around, AroundObjective
from nasframe.core.augmentation import Augmentation, augmentations
from nasframe.core.batch import Batch, map_tensors, tensors_of
from nasframe.core.batch_norm import ExactBatchNorm2d
from nasframe.core.batch_stream import BatchStream
from nasframe.core.benchmark import Benchmark, Standing, benchmarks
from nasframe.core.block import Block, recompute
from nasframe.core.calibration import calibrated
from nasframe.core.checkpoint import Checkpoints
from nasframe.core.choice import Choice, InputChoice, LayerChoice, ValueChoice
from nasframe.core.compiled import uncompiled
from nasframe.core.cost import COUNT_UNITS, Cost, costs, on_meta, unit_of
from nasframe.core.curvature import largest_eigenvalue, rise, upper_curvature
from nasframe.core.curves import Alphas, Curves
from nasframe.core.dataset import (
    AsGiven,
    Dataset,
    NormalizeImages,
    Preprocess,
    Preview,
    Split,
    Subset,
    TargetScale,
    TensorSplit,
    datasets,
    hold_out,
    preview_of,
    previewed_by,
)
from nasframe.core.decay import decay_groups
from nasframe.core.depthwise import depthwise_conv, dilated_depthwise_conv
from nasframe.core.deriver import Deriver, Validate, derivers, finite_weights, strengths_of
from nasframe.core.executor import Ended, Executor, Work, Workers, as_they_end, executors
from nasframe.core.explorer import Explorer, explorers
from nasframe.core.exporter import Exported, Exporter, FinishedRun, exporters
from nasframe.core.filler import AnyChoice, DerivedFiller, Filler, SamplingFiller, SupernetFiller
from nasframe.core.fused import FusedSum, States
from nasframe.core.genotype import Genotype, cell_graphs
from nasframe.core.graph import Graph, draw
from nasframe.core.guard import Guard
from nasframe.core.heat_map import HeatMap
from nasframe.core.in_two_steps import InTwoSteps
from nasframe.core.indicators import (
    Idle,
    IdleEdges,
    idle_edges,
    kendall_tau,
    mass_of,
    normalized_entropy,
    rank_stability,
    reaches_output,
)
from nasframe.core.inheritance import inherit
from nasframe.core.interrupts import Interrupts
from nasframe.core.kept import keep_probabilities
from nasframe.core.layer import layers
from nasframe.core.mixed_op import (
    Candidate,
    MakeMixedOp,
    MixedInput,
    MixedLayer,
    MixedOp,
    NoisySum,
    SampledOp,
    SumOfInputs,
    SumOfLayers,
    WeightedSum,
    is_skip,
    is_zero,
    mixed_ops,
)
from nasframe.core.model import Annealed, Model
from nasframe.core.most_likely import cheapest, dearest, most_likely
from nasframe.core.network import Network, networks
from nasframe.core.objective import Objective, objectives, with_penalty
from nasframe.core.op import OpName, ops
from nasframe.core.optimizer import Schedule, optimizers, schedules, set_learning_rate
from nasframe.core.own_network import OneOf, OwnNetwork
from nasframe.core.parameter import (
    ALPHA,
    WEIGHT,
    ArchParam,
    Kind,
    Level,
    keep_kinds_on_load,
    kind_of,
    kinds,
    named_parameters_at,
    named_parameters_of,
)
from nasframe.core.penalized import Constrained, Penalized
from nasframe.core.penalty import CostScale, Penalty, cost_scale, penalties, read_amount
from nasframe.core.perturbation import Mixtures, Perturbation, Perturbed, perturbations, projected
from nasframe.core.phases import AS_IT_IS, PHASES, arrangement_of, every
from nasframe.core.picture import Picture
from nasframe.core.pooling import GlobalAveragePool, global_average_pool
from nasframe.core.precision import bfloat16_speedup, fast_precision
from nasframe.core.prediction import Prediction, Predictor
from nasframe.core.prices import Prices, expected_cost, price
from nasframe.core.pruning import Pruned, strongest
from nasframe.core.random_state import (
    generator_for,
    get_random_state,
    kept_random_state,
    pick,
    seed_for,
    set_random_state,
)
from nasframe.core.ranks import averaged, num_ranks
from nasframe.core.reader import Reader, readers
from nasframe.core.regularizer import (
    HasConcentration,
    HasGates,
    HasLogits,
    Regularized,
    Regularizer,
    described,
    ops_that,
    regularizers,
)
from nasframe.core.report import Report, reports
from nasframe.core.score import Score, Testbed, TrainNetwork, figure_of, scores
from nasframe.core.sharing import share
from nasframe.core.space import (
    Fusable,
    Space,
    architectures_of,
    choices_of,
    derived,
    read_genotype,
    sample,
    spaces,
    supernet,
)
from nasframe.core.space_size import num_architectures
from nasframe.core.succession import take_alphas, take_weights
from nasframe.core.swapped import normalized_by_batch, swapped, unmoved
from nasframe.core.task import Task
from nasframe.core.tracker import Conclusion, Record, Tracker, trackers
from nasframe.core.trainer import Job, Progress, Trainer, trainers
from nasframe.core.virtual_step import VirtualStep, check_modelled
from nasframe.core.watched import is_watched
from nasframe.core.weight_average import WeightAverage
from nasframe.core.weight_update import WeightUpdate
from nasframe.settings import removed, renamed

__all__ = [
    "ALPHA",
    "AS_IT_IS",
    "COUNT_UNITS",
    "PHASES",
    "WEIGHT",
    "ActiveSetting",
    "Algorithm",
    "Alphas",
    "Annealed",
    "AnyChoice",
    "ArchParam",
    "Architectures",
    "Around",
    "AroundObjective",
    "AsGiven",
    "Augmentation",
    "Batch",
    "BatchStream",
    "Benchmark",
    "Block",
    "Candidate",
    "Checkpoints",
    "Choice",
    "Conclusion",
    "Constrained",
    "Cost",
    "CostScale",
    "Curves",
    "Dataset",
    "DerivedFiller",
    "Deriver",
    "Ended",
    "ExactBatchNorm2d",
    "Executor",
    "Explorer",
    "Exported",
    "Exporter",
    "Filler",
    "FinishedRun",
    "Fusable",
    "FusedSum",
    "Genotype",
    "GlobalAveragePool",
    "Graph",
    "Guard",
    "HasConcentration",
    "HasGates",
    "HasLogits",
    "HeatMap",
    "Idle",
    "IdleEdges",
    "InTwoSteps",
    "InputChoice",
    "Interrupts",
    "Job",
    "Kind",
    "LayerChoice",
    "Level",
    "MakeMixedOp",
    "MixedInput",
    "MixedLayer",
    "MixedOp",
    "Mixtures",
    "Model",
    "Network",
    "NoisySum",
    "NormalizeImages",
    "Objective",
    "OneOf",
    "OpName",
    "OwnNetwork",
    "Penalized",
    "Penalty",
    "Perturbation",
    "Perturbed",
    "Picture",
    "Prediction",
    "Predictor",
    "Preprocess",
    "Preview",
    "Prices",
    "Progress",
    "Pruned",
    "Reader",
    "Record",
    "Regularized",
    "Regularizer",
    "Report",
    "SampledOp",
    "SamplingFiller",
    "Schedule",
    "Score",
    "Space",
    "Split",
    "Standing",
    "Stateful",
    "States",
    "Subset",
    "SumOfInputs",
    "SumOfLayers",
    "SupernetFiller",
    "TargetScale",
    "Task",
    "TensorSplit",
    "Testbed",
    "Tracker",
    "TrainNetwork",
    "Trainer",
    "Validate",
    "ValueChoice",
    "VirtualStep",
    "WeightAverage",
    "WeightUpdate",
    "WeightedSum",
    "Work",
    "Workers",
    "algorithms",
    "architectures_of",
    "arrangement_of",
    "as_they_end",
    "augmentations",
    "averaged",
    "benchmarks",
    "bfloat16_speedup",
    "calibrated",
    "cell_graphs",
    "cheapest",
    "check_modelled",
    "choices_of",
    "cost_scale",
    "costs",
    "datasets",
    "dearest",
    "decay_groups",
    "depthwise_conv",
    "derived",
    "derivers",
    "described",
    "dilated_depthwise_conv",
    "draw",
    "every",
    "executors",
    "expected_cost",
    "explorers",
    "exporters",
    "fast_precision",
    "figure_of",
    "finite_weights",
    "generator_for",
    "get_random_state",
    "global_average_pool",
    "hold_out",
    "idle_edges",
    "inherit",
    "is_skip",
    "is_watched",
    "is_zero",
    "keep_kinds_on_load",
    "keep_probabilities",
    "kendall_tau",
    "kept_random_state",
    "kind_of",
    "kinds",
    "largest_eigenvalue",
    "layers",
    "map_tensors",
    "mass_of",
    "mixed_ops",
    "most_likely",
    "named_parameters_at",
    "named_parameters_of",
    "networks",
    "normalized_by_batch",
    "normalized_entropy",
    "num_architectures",
    "num_ranks",
    "objectives",
    "on_meta",
    "ops",
    "ops_that",
    "optimizers",
    "penalties",
    "perturbations",
    "pick",
    "preview_of",
    "previewed_by",
    "price",
    "projected",
    "rank_stability",
    "reaches_output",
    "read_amount",
    "read_genotype",
    "readers",
    "recompute",
    "regularizers",
    "removed",
    "renamed",
    "reports",
    "rise",
    "sample",
    "schedules",
    "scores",
    "seed_for",
    "set_learning_rate",
    "set_random_state",
    "share",
    "spaces",
    "strengths_of",
    "strongest",
    "supernet",
    "swapped",
    "take_alphas",
    "take_weights",
    "tensors_of",
    "trackers",
    "trainers",
    "uncompiled",
    "unit_of",
    "unmoved",
    "upper_curvature",
    "with_penalty",
]
