"""nasframe: declarative neural architecture search for PyTorch.

Names are imported when they are first used, so that ``import nasframe`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasframe.core import ArchParam as ArchParam
    from nasframe.core import Batch as Batch
    from nasframe.core import Genotype as Genotype
    from nasframe.core import Kind as Kind
    from nasframe.core import Level as Level
    from nasframe.core import Model as Model
    from nasframe.core import OneOf as OneOf
    from nasframe.core import OwnNetwork as OwnNetwork
    from nasframe.core import Prediction as Prediction
    from nasframe.core import Predictor as Predictor
    from nasframe.core import Task as Task
    from nasframe.core import WeightUpdate as WeightUpdate
    from nasframe.core import derived as derived
    from nasframe.core import inherit as inherit
    from nasframe.core import sample as sample
    from nasframe.core import supernet as supernet
    from nasframe.recipe import Evaluation as Evaluation
    from nasframe.recipe import Recipe as Recipe
    from nasframe.recipe import Run as Run
    from nasframe.recipe import evaluate_files as evaluate_files
    from nasframe.recipe import load as load
    from nasframe.recipe import load_recipe as load_recipe
    from nasframe.recipe import open_run as open_run
    from nasframe.recipe import run as run
    from nasframe.registry import Component as Component
    from nasframe.registry import registries as registries

__version__ = "0.1.0"

_HOMES = {
    "nasframe.core": (
        "ArchParam", "Batch", "Genotype", "Kind", "Level", "Model", "OneOf", "OwnNetwork",
        "Prediction", "Predictor", "Task", "WeightUpdate",
        "derived", "inherit", "sample", "supernet",
    ),
    "nasframe.recipe": (
        "Evaluation", "Recipe", "Run", "evaluate_files", "load", "load_recipe", "open_run", "run",
    ),
    "nasframe.registry": ("Component", "registries"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nasframe' has no attribute '{name}'")
    importlib.import_module("nasframe.core")  # declares the registries
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
