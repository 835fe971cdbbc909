"""Contract tests for authors of components: each check raises an error that says what to change.

Call them from your own tests with a factory that builds your component from what the framework
gives, such as ``check_algorithm(MyMethod)`` or ``check_op(lambda *given: MyOp(*given, kernel=5))``.
"""

from nasframe.testing._example import example_space
from nasframe.testing.architecture import check_mixed_op, check_op, check_space
from nasframe.testing.component import check_component
from nasframe.testing.data import check_augmentation, check_dataset, check_objective, check_reader
from nasframe.testing.outcome import check_benchmark, check_cost, check_exporter, check_tracker
from nasframe.testing.score import check_score, example_testbed
from nasframe.testing.search import (
    check_algorithm,
    check_deriver,
    check_explorer,
    check_perturbation,
    check_regularizer,
)
from nasframe.testing.training import check_optimizer, check_schedule, check_trainer

__all__ = [
    "check_algorithm",
    "check_augmentation",
    "check_benchmark",
    "check_component",
    "check_cost",
    "check_dataset",
    "check_deriver",
    "check_explorer",
    "check_exporter",
    "check_mixed_op",
    "check_objective",
    "check_op",
    "check_optimizer",
    "check_perturbation",
    "check_reader",
    "check_regularizer",
    "check_schedule",
    "check_score",
    "check_space",
    "check_tracker",
    "check_trainer",
    "example_space",
    "example_testbed",
]
