"""What data sets that are read from one file have in common."""

import torch

from nasframe.core import generator_for
from nasframe.errors import DataError


def parted(name: str, num: int, test_fraction: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of so many rows are for training and which for testing; it depends on these two alone.

    Args:
        name: Of the data set.
        num: Rows.
        test_fraction: Share that is for testing.

    Raises:
        DataError: One side would be empty.
    """
    num_test = round(num * test_fraction)
    if not 0 < num_test < num:
        raise DataError(
            f"{name}: test_fraction must leave rows on both sides, got {test_fraction} of {num} rows"
        )
    order = torch.randperm(num, generator=generator_for(0, name, "test"))
    return order[num_test:].sort().values, order[:num_test].sort().values


def numbered(labels: list[str]) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Labels as numbers of classes in the order of their names, and these names."""
    names = tuple(sorted(set(labels)))
    index = {name: number for number, name in enumerate(names)}
    return torch.tensor([index[label] for label in labels]), names
