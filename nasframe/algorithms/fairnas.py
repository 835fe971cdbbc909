"""FairNAS: a supernet each of whose candidates is trained equally often."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, final

import torch

from nasframe.core import (
    Algorithm,
    Batch,
    Genotype,
    MixedOp,
    Model,
    Objective,
    SampledOp,
    WeightUpdate,
    algorithms,
)
from nasframe.types import Metrics


@algorithms.register("fairnas")
@final
class FairNas(Algorithm):
    """Trains each candidate of a choice once before an update (Chu et al. 2021, arXiv 1907.01845).

    A step orders the m candidates of each choice at random, each choice for itself, and runs m paths on
    one batch: the k-th runs the k-th candidate of every order. The gradients of the m paths are added up
    and the weights updated once, so that each candidate has had as many updates as its siblings: strict
    fairness (Algorithm 1 there). A step costs as much as m steps of `single_path`.

    Beyond the paper: where choices have different numbers of candidates, m is the largest, and a shorter
    order is followed by another one, so that its candidates differ by one pass at most in a step, by chance;
    a choice that keeps n candidates runs n neighbors of the order, so that each takes part n times; a choice
    inside a candidate of another learns only when that one runs. Candidates that no genotype may keep
    (``none``) stand for inputs that are left out, and are not counted.
    """

    mixes: ClassVar[type[MixedOp]] = SampledOp
    uses_valid: ClassVar[bool] = False
    knows_ranks: ClassVar[bool] = True
    learns_alphas: ClassVar[bool] = False

    def __init__(self, model: Model, objective: Objective) -> None:
        model.check_takes("fairnas")
        self._model, self._architectures = model, model.architectures()
        self._num_paths = max(
            (len(model.choices[name].derivable) for name in dict(model.mixed_ops.items())), default=1
        )
        # the seed comes from the global random state, and so from the run's seed
        self._generator = torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        paths: list[Callable[[], object]] = [partial(self._model.take, path) for path in self._fair_paths()]
        return update_weights(train, paths)

    def _fair_paths(self) -> list[Genotype]:
        """Architectures in which each candidate of a choice occurs equally often, as far as that can be."""
        orders = {
            name: (self._runs(choice.derivable, choice.num_chosen))
            for name, choice in self._model.choices.items()
        }
        return [
            self._architectures.of({name: runs[index] for name, runs in orders.items()})
            for index in range(self._num_paths)
        ]

    def _runs(self, candidates: tuple[str, ...], num_chosen: int) -> list[tuple[str, ...]]:
        """What a choice keeps in each path."""
        count, runs = len(candidates), list[tuple[str, ...]]()
        while len(runs) < self._num_paths:
            order = torch.randperm(count, generator=self._generator).tolist()
            runs += [
                tuple(candidates[order[(start + offset) % count]] for offset in range(num_chosen))
                for start in range(count)
            ]
        return runs

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._generator.set_state(state["generator"].cpu())
