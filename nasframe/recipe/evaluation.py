"""What a retrained network gets right and wrong, class by class."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, final

import torch

from nasframe.core import Dataset, Model, Split, hold_out
from nasframe.core.class_figures import ClassFigures, class_figures
from nasframe.errors import DataError
from nasframe.recipe.confusion import Counted
from nasframe.recipe.notebook import shown_evaluation
from nasframe.recipe.recipe import Recipe


@final
@dataclass(frozen=True)
class Confusion:
    """Examples of one class that are taken for another."""

    of: str
    taken_for: str
    num_examples: int


@final
@dataclass(frozen=True)
class Evaluation:
    """Figures of a network on a split.

    Attributes:
        split: Its name; empty where files were given.
        num_examples: How many were looked at.
        metrics: The loss and the metrics of the objective, as the report has them of the test examples.
        classes: Each class, in the order of the outputs; empty where targets are no classes.
        confusions: All pairs that occur, the most frequent first.
    """

    split: str
    num_examples: int
    metrics: dict[str, float]
    classes: tuple[ClassFigures, ...] = ()
    confusions: tuple[Confusion, ...] = ()

    def _repr_html_(self) -> str:
        return shown_evaluation(asdict(self))


def evaluate(
    recipe: Recipe, model: Model, data: Dataset, split: Literal["train", "valid", "test"]
) -> Evaluation:
    """Evaluate a retrained network as its retraining does.

    Args:
        recipe: Says how the examples are held out, and the batches made.
        model: On the device to compute on.
        data: Of the recipe.
        split: See `Run.evaluate`.

    Raises:
        DataError: There are no such examples.
    """
    section = recipe.retrain
    rest, held_out = hold_out(data.train, section.valid_fraction, recipe.seed)
    examples: Split = {"train": rest, "valid": held_out, "test": data.test}[split]
    if not len(examples):
        raise DataError(
            f"evaluate: there must be {split} examples, but the retraining held out none; take another "
            "split, or a run with retrain.valid_fraction above 0"
        )
    counted = Counted(section.objective(), model)
    figures = section.trainer().evaluate(model, counted, examples, data.preprocess)
    metrics = {name: float(value) for name, value in figures.items()}
    classes, confusions = by_class(counted.take(), data.class_names)
    return Evaluation(split, len(examples), metrics, classes, confusions)


def by_class(
    counts_KK: torch.Tensor | None, class_names: Sequence[str]
) -> tuple[tuple[ClassFigures, ...], tuple[Confusion, ...]]:
    """The figures of each class, and all pairs that are confused; both empty where there are no classes.

    Args:
        counts_KK: Examples by class and what they were taken for.
        class_names: Of the outputs; where they have none they are called by their number.
    """
    if counts_KK is None:
        return (), ()
    names = class_names or tuple(map(str, range(len(counts_KK))))
    return class_figures(names, counts_KK.tolist()), _confusions(counts_KK, names)


def _confusions(counts_KK: torch.Tensor, names: Sequence[str]) -> tuple[Confusion, ...]:
    wrong_KK = counts_KK - counts_KK.diag().diag()
    pairs = [
        Confusion(names[of], names[taken], int(wrong_KK[of, taken]))
        for of, taken in wrong_KK.nonzero().tolist()
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair.num_examples))
