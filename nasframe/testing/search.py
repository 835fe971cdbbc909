"""Derivers, explorers, algorithms, and what is added to these."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch

from nasframe.core import (
    Algorithm,
    Deriver,
    Explorer,
    Genotype,
    InputChoice,
    MakeMixedOp,
    Model,
    Objective,
    Perturbation,
    Perturbed,
    Prices,
    Regularizer,
    Space,
    WeightUpdate,
    algorithms,
    cheapest,
    generator_for,
    objectives,
    supernet,
)
from nasframe.testing._example import example_batch, example_space
from nasframe.testing._verdict import (
    accepted,
    check_metrics,
    name_of,
    require,
    same,
    seeded,
    state_of,
    through_a_checkpoint,
)
from nasframe.types import Metrics


def check_deriver(factory: Callable[[], Deriver], *, mixed_op: MakeMixedOp | str = "softmax") -> None:
    """Check a deriver: it never draws, changes nothing, and its genotype fits the space.

    The same under a budget, if it keeps one, which then must hold; and by validations, if it asks for some.

    Args:
        factory: Builds the deriver.
        mixed_op: What mixes the supernet that it is tried on.

    Raises:
        ComponentError: What must be changed.
    """
    for seed in range(5):
        space, model = example_space(), seeded(seed, supernet, example_space(), mixed_op)
        where = type(factory()).__name__
        with torch.no_grad():
            for alpha in model.parameters_at("upper"):
                alpha.copy_(torch.randn(alpha.shape, generator=generator_for(seed, "check_deriver")))
        before, state = state_of(model), torch.get_rng_state()
        genotype = _derived_twice(where, lambda each: factory().derive(each), model)
        derived = [genotype]
        if type(factory()).derive_within is not Deriver.derive_within:
            derived.append(_check_budget(factory, model, genotype))
        if factory().validates:
            derived.append(
                _derived_twice(where, lambda each: factory().derive_validated(each, _accuracy), model)
            )
        require(
            same(before, state_of(model)) and torch.equal(state, torch.get_rng_state()),
            f"{where}: must leave model and random state as they are; read `model.choice_weights()`",
        )
        for each in derived:
            accepted(where, space, each)


def _derived_twice(where: str, derive: Callable[[Model], Genotype], model: Model) -> Genotype:
    state = torch.get_rng_state()
    genotype = derive(model)
    torch.rand(1)
    require(
        genotype == derive(model),
        f"{where}: must derive the same each time; decide ties by order, never by chance",
    )
    torch.set_rng_state(state)
    derive(model)
    return genotype


def _accuracy(model: Model) -> float:
    """Of a model on some examples."""
    batch, was_training = example_batch(7, 64), model.training
    with torch.no_grad():
        outputs = model.eval()(batch.inputs)
    model.train(was_training)
    return float((outputs.argmax(1) == batch.targets).float().mean())


def _check_budget(factory: Callable[[], Deriver], model: Model, preferred: Genotype) -> Genotype:
    """What is derived where each later candidate of a choice costs one more, at half the room there is."""
    deriver, where = factory(), type(factory()).__name__
    table = {
        name: {each: Prices(float(rank)) for rank, each in enumerate(choice.candidates)}
        for name, choice in model.choices.items()
        if name in model.mixed_ops
    }
    edges = {edge for each in model.choices.values() if isinstance(each, InputChoice) for edge in each.edges}
    prices = Prices(1.0, table, frozenset(edges))
    require(
        deriver.derive_within(model, prices, prices.of(preferred)) == preferred,
        f"{where}: where the budget excludes nothing, derive_within() must be what derive() says; "
        "return that first",
    )
    least = prices.of(cheapest(model.choices, prices))
    max_cost = (least + prices.of(preferred)) / 2
    genotype = _derived_twice(where, lambda each: deriver.derive_within(each, prices, max_cost), model)
    require(
        prices.of(genotype) <= max_cost,
        f"{where}: derive_within() must cost at most {max_cost:g}, got {prices.of(genotype):g}; "
        "compare `prices.of(genotype)` with the budget",
    )
    return genotype


def check_explorer(factory: Callable[[Space, int], Explorer], *, num_asked: int = 8) -> None:
    """Check an explorer: it proposes what the space accepts, and a seed decides what.

    One that is not told how good a proposal is, because it is not allowed, proposes another. A copy of it
    proposes the same.

    Args:
        factory: Builds the explorer of a space and a seed.
        num_asked: How many architectures to ask for.

    Raises:
        ComponentError: What must be changed.
    """
    space, runs = example_space(), []
    for _ in range(2):
        explorer, proposed = factory(space, 3), []
        where = type(explorer).__name__
        torch.rand(1)
        passed_over = {explorer.ask() for _ in range(num_asked)}
        for index in range(num_asked):
            genotype, budget = explorer.ask(), explorer.budget
            accepted(where, space, genotype)
            require(
                0 < budget <= 1 and (budget == 1 or explorer.uses_budgets),
                f"{where}: budget must be above 0 to 1, and 1 unless it declares `uses_budgets`, got "
                f"{budget}; correct either",
            )
            explorer.tell(genotype, float(index % 3) if index else -math.inf)
            proposed.append((genotype, budget))
        runs.append(proposed)
        require(
            len(passed_over) > 1,
            f"{where}: must propose others where none is told, got the same {num_asked} times; change what "
            "`ask` returns in `ask`",
        )
    require(
        runs[0] == runs[1],
        f"{where}: must propose the same for the same seed and scores; draw from a generator made of `seed`",
    )
    explorer = factory(space, 3)
    asked, of_copy = ([each.ask() for _ in range(num_asked)] for each in (copy.deepcopy(explorer), explorer))
    require(asked == of_copy, f"{where}: a copy of it must propose the same; keep all of its state in itself")
    require(
        _first_drawn(factory, space, num_asked, 1.0) == _first_drawn(factory, space, num_asked, -1.0),
        f"{where}: the first {factory(space, 3).num_random} must be drawn whatever was told, because "
        "`num_random` says so; correct it",
    )


def _first_drawn(
    factory: Callable[[Space, int], Explorer], space: Space, most: int, better: float
) -> list[Genotype]:
    """What an explorer says that it draws at random, while scores rise or fall."""
    explorer, drawn = factory(space, 3), []
    for index in range(min(explorer.num_random, most)):
        drawn.append(explorer.ask())
        explorer.tell(drawn[-1], better * index)
    return drawn


def check_algorithm(
    factory: Callable[[Model, Objective], Algorithm],
    *,
    mixed_op: MakeMixedOp | str = "softmax",
    num_steps: int = 3,
) -> None:
    """Check an algorithm: what moves, what it returns, and a state that round-trips.

    Weights move in `update_weights` alone; upper-level parameters move if it needs any, otherwise
    not, and follow the objective's penalty if it says so; frozen parameters never do; a resumed search
    goes on as if it had not stopped.

    Args:
        factory: Builds the algorithm from (model, objective).
        mixed_op: What mixes the supernet that it is tried on.
        num_steps: Steps before and after the resume.

    Raises:
        ComponentError: What must be changed.
    """
    search = _Search(factory, mixed_op)
    search.run(0, num_steps)
    search.check_moves()
    if search.algorithm.follows_penalty:
        _check_penalty(search, _Search(factory, mixed_op, penalized=True), num_steps)
    saved = through_a_checkpoint(search.state())
    search.run(num_steps, 2 * num_steps)
    resumed = _Search(factory, mixed_op)
    resumed.load(saved)
    resumed.run(num_steps, 2 * num_steps)
    require(
        same(state_of(search.model), state_of(resumed.model)),
        f"{search.where}: must go on after `load_state_dict` as if it had not stopped; keep what changes in "
        "attributes with `state_dict`, or extend `state_dict` and `load_state_dict`",
    )


def _check_penalty(search: "_Search", penalized: "_Search", num_steps: int) -> None:
    penalized.run(0, num_steps)
    pairs = zip(search.model.parameters_at("upper"), penalized.model.parameters_at("upper"), strict=True)
    require(
        any(not torch.equal(one, other) for one, other in pairs),
        f"{search.where}: declares `follows_penalty`, so upper-level parameters must move by the "
        "objective's penalty too; pass their gradients through `with_penalty`",
    )


def check_regularizer(
    factory: Callable[[Model], Regularizer], *, mixed_op: MakeMixedOp | str = "softmax"
) -> None:
    """Check a regularizer: a finite scalar of upper-level parameters alone, which it leaves as they are.

    Args:
        factory: Builds the regularizer of a supernet.
        mixed_op: What mixes that supernet.

    Raises:
        ComponentError: What must be changed.
    """
    model = seeded(0, supernet, example_space(), mixed_op)
    with torch.no_grad():
        for alpha in model.parameters_at("upper"):
            alpha.copy_(torch.randn(alpha.shape, generator=generator_for(0, "check_regularizer")))
    regularizer = factory(model)
    where, before, state = type(regularizer).__name__, state_of(model), torch.get_rng_state()
    for progress in (0.0, 0.5, 1.0):
        term, again = regularizer(progress), regularizer(progress)
        require(
            term.shape == () and bool(term.isfinite()) and torch.equal(term, again),
            f"{where}: must return the same finite scalar each time, got {term.tolist()}, {again.tolist()}; "
            "depend on alphas and progress alone",
        )
    require(
        same(before, state_of(model)) and torch.equal(state, torch.get_rng_state()),
        f"{where}: must leave model and random state as they are; only read them",
    )
    parameters = [*model.parameters_at("upper"), *model.parameters_at("lower")]
    gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
        regularizer(1.0), parameters, allow_unused=True
    )
    num_upper = len(list(model.parameters_at("upper")))
    upper, lower = gradients[:num_upper], gradients[num_upper:]
    require(
        any(each is not None and bool(each.any()) for each in upper),
        f"{where}: some alpha must have a gradient at the end of a search; do not detach what is read",
    )
    require(
        all(each is None or bool(each.isfinite().all()) for each in upper),
        f"{where}: gradients must be finite; clamp what a logarithm or a quotient is taken of",
    )
    require(
        all(each is None for each in lower),
        f"{where}: must not depend on weights, which do not follow it; read upper-level parameters alone",
    )


def check_perturbation(factory: Callable[[], Perturbation]) -> None:
    """Check a perturbation: other shares of the same sum, drawn from the global random state alone.

    Searches with it resume exactly, and steps of the alphas do not see it.

    Args:
        factory: Builds the perturbation.

    Raises:
        ComponentError: What must be changed.
    """
    shares = {
        f"choice_{index}": torch.softmax(torch.randn(size, generator=generator_for(index, "shares")), 0)
        for index, size in enumerate((2, 4, 5))
    }
    before, where = {name: each.clone() for name, each in shares.items()}, type(factory()).__name__

    def loss(mixtures: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.stack([(each * torch.arange(len(each)) ** 2).sum() for each in mixtures.values()]).sum()

    for progress in (0.0, 1.0):
        moved, again = (seeded(3, factory(), shares, loss, progress) for _ in range(2))
        require(
            moved.keys() == shares.keys()
            and all(each.shape == moved[name].shape for name, each in shares.items()),
            f"{where}: must return shares of the same choices and shapes; return one for each that it gets",
        )
        require(
            all(bool((each >= 0).all() and each.isfinite().all()) for each in moved.values())
            and all(torch.allclose(each.sum(), moved[name].sum()) for name, each in shares.items()),
            f"{where}: shares must not be negative, and have the sum that they had; use `projected`",
        )
        require(
            same(moved, again),
            f"{where}: must draw the same where the global random state is the same; use no other source",
        )
    require(same(before, shares), f"{where}: must leave the mixtures that it gets as they are; copy them")
    require(not same(shares, moved), f"{where}: must move some share at the end of a search; it does nothing")
    make: Callable[..., Algorithm] = algorithms["darts_bilevel"]
    check_algorithm(lambda model, objective: Perturbed(make(model, objective), model, objective, factory()))


@final
class _PaysForFirst(Objective):
    """The example's objective, with a penalty on the first candidate of each choice."""

    def __init__(self, model: Model) -> None:
        self._objective, self._model = objectives["cross_entropy"](), model

    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return self._objective.loss(outputs, targets)

    def metrics(self, outputs: Any, targets: Any) -> Metrics:
        return self._objective.metrics(outputs, targets)

    def penalty(self, loss: torch.Tensor) -> torch.Tensor:
        return torch.stack([op.weights()[0] for op in self._model.mixed_ops.values()]).sum()


@final
class _Search:
    """A few steps of an algorithm on a tiny supernet, watched."""

    def __init__(
        self,
        factory: Callable[[Model, Objective], Algorithm],
        mixed_op: MakeMixedOp | str,
        *,
        penalized: bool = False,
    ) -> None:
        self.model = seeded(0, supernet, example_space(), mixed_op)
        self.frozen = next(iter(self.model.parameters_at("lower"))).requires_grad_(False)
        objective = _PaysForFirst(self.model) if penalized else objectives["cross_entropy"]()
        self.optimizer = torch.optim.SGD(self.model.parameters_at("lower"), lr=0.1, momentum=0.9)
        self.update = WeightUpdate(self.model, objective, self.optimizer)
        self.algorithm = factory(self.model, objective)
        self.where = type(self.algorithm).__name__
        self.before = state_of(self.model)
        self.known = self._weights()
        self.optimizer.register_step_pre_hook(lambda *_: self._check_weights("before"))
        self.optimizer.register_step_post_hook(lambda *_: self._note_weights())

    def _weights(self) -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in self.model.parameters_at("lower")]

    def _note_weights(self) -> None:
        self.known = self._weights()

    def _check_weights(self, when: str) -> None:
        require(
            same(self.known, self._weights()),
            f"{self.where}: weights must move in `update_weights` alone, but did {when} it; "
            "work on copies, or put them back",
        )

    def run(self, start: int, stop: int) -> None:
        self.algorithm.begin_epoch(start // 2, 4)
        for step in range(start, stop):
            torch.manual_seed(step)
            metrics = self.algorithm.step(example_batch(step), example_batch(100 + step), self.update)
            self._check_weights("after")
            check_metrics(self.where, metrics)

    def check_moves(self) -> None:
        after = state_of(self.model)
        upper = {name for name, _ in self.model.named_parameters_at("upper")}
        moved = {name for name in upper if not torch.equal(self.before[name], after[name])}
        if self.algorithm.needs:
            require(
                moved,
                f"{self.where}: needs {sorted(self.algorithm.needs)}, but no upper-level parameter moved; "
                "step an optimizer of model.parameters_at('upper')",
            )
        else:
            require(
                not moved,
                f"{self.where}: moved {', '.join(sorted(moved))} without declaring it; "
                "name the kinds or the level in `needs`",
            )
        require(
            same(self.before[name_of(self.model, self.frozen)], self.frozen.detach()),
            f"{self.where}: must not move parameters with requires_grad=False; leave them out",
        )

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "algorithm": self.algorithm.state_dict(),
        }

    def load(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.algorithm.load_state_dict(saved["algorithm"])
        self._note_weights()
