"""The first steps of a real search, kept at some of them, so that gradients can be looked at there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import nasframe
from nasframe.core import BatchStream, Dataset, hold_out, seed_for
from nasframe.recipe import Recipe

OVERRIDES = [
    "space.channels=8",
    "space.cells=5",
    "search.trainer.batch_size=16",
    "data.train_limit=20000",
    "data.test_limit=1",
]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a training and a held-out batch, as the search of a recipe draws them.

    Args:
        recipe: Its batch size, augmentations and held-out share.
        data: What it searches on.
    """

    recipe: Recipe
    data: Dataset

    def drawn(self, *purpose: str, start: int = 0) -> Iterator[tuple[nasframe.Batch, nasframe.Batch]]:
        """Pairs from the `start`-th on; another purpose gives others."""
        search = self.recipe.search
        splits = hold_out(self.data.train, search.valid_fraction, self.recipe.seed)
        streams = [
            BatchStream(
                split,
                self.data.preprocess,
                batch_size=search.trainer.settings["batch_size"],
                device=torch.device("cpu"),
                training=True,
                augment=[each() for each in search.augment] if name == "train" else (),
                seed=self.recipe.seed,
                purpose=(*purpose, name),
            ).forever(start)
            for name, split in zip(("train", "valid"), splits, strict=True)
        ]
        return zip(*streams, strict=True)


class EarlySearch:
    """A search of DARTS, first order, in its first epoch: the recipe's model, optimizers and clipping.

    Args:
        recipe: A `darts_bilevel` search.
        data: What it searches on.
        dtype: Of weights, alphas and whatever is computed with them.
        fused: Whether nodes are computed together.
    """

    def __init__(
        self, recipe: Recipe, data: Dataset, dtype: torch.dtype = torch.float32, *, fused: bool = True
    ) -> None:
        search, trainer = recipe.search, recipe.search.trainer.settings
        torch.manual_seed(seed_for(recipe.seed, "search", "init"))
        self.recipe, self.dtype, self.steps = recipe, dtype, 0
        self.objective = recipe.objective()
        self.model = nasframe.supernet(recipe.space(data.task), search.mixed_op, fused=fused)
        self.layout = torch.channels_last if dtype == torch.float32 else torch.contiguous_format
        self.model.to(dtype).to(memory_format=self.layout)  # type: ignore[call-overload]
        self.optimizer = trainer["optimizer"](list(self.model.parameters_at("lower")))
        self.update = nasframe.WeightUpdate(
            self.model, self.objective, self.optimizer, max_grad_norm=trainer["max_grad_norm"]
        )
        self.algorithm = self.algorithm_with()

    def algorithm_with(self, **settings: Any) -> Any:
        """The recipe's algorithm on this model with other settings."""
        make = self.recipe.search.algorithm
        return nasframe.registries["algorithms"][make.name](
            self.model, self.objective, **{**make.settings, **settings}
        )

    def train(self, pairs: Pairs, until: int) -> None:
        """Take the steps that are still to come."""
        for train, valid in pairs.drawn("search", start=self.steps):
            if self.steps >= until:
                return
            self.algorithm.step(self.taken(train), self.taken(valid), self.update)
            self.steps += 1

    def taken(self, batch: nasframe.Batch) -> nasframe.Batch:
        """A batch in the dtype and the memory format that is fast with it."""
        return nasframe.Batch(batch.inputs.to(self.dtype, memory_format=self.layout), batch.targets)

    def save(self, path: Path) -> None:
        """Write what the next steps depend on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "algorithm")}
        torch.save({**parts, "steps": self.steps}, path)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote, in this dtype."""
        state = torch.load(path, weights_only=True)
        for name in ("model", "optimizer", "algorithm"):
            getattr(self, name).load_state_dict(state[name])
        self.steps = state["steps"]
