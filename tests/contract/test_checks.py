"""The checks for authors of components catch what is wrong, and say what to change."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from nasframe import testing
from nasframe.core import (
    ALPHA,
    Algorithm,
    ArchParam,
    Augmentation,
    Batch,
    Benchmark,
    Choice,
    Cost,
    Dataset,
    Deriver,
    Explorer,
    Exporter,
    Filler,
    Genotype,
    InputChoice,
    Job,
    Kind,
    LayerChoice,
    Level,
    MixedOp,
    Mixtures,
    Model,
    Objective,
    Perturbation,
    Prices,
    Reader,
    Regularizer,
    Schedule,
    Space,
    Standing,
    TargetScale,
    Task,
    TensorSplit,
    Trainer,
    WeightUpdate,
    cheapest,
    derivers,
    generator_for,
    kind_of,
    mixed_ops,
    objectives,
    projected,
    sample,
    schedules,
    spaces,
    trainers,
)
from nasframe.errors import ComponentError, DataError, FormatError
from nasframe.registry import Registry
from nasframe.types import Metrics


def refused(match: str, check: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """The check fails with a message that says where, what is wrong and, after a semicolon, what to do."""
    with pytest.raises(ComponentError, match=match) as caught:
        check(*args, **kwargs)
    where, _, rest = str(caught.value).partition(":")
    _, _, advice = rest.rpartition("; ")
    assert where
    assert len(advice.split()) > 1, caught.value


class Step(Algorithm):
    """Steps all upper-level parameters by Adam, then the weights: what is right."""

    needs: ClassVar[frozenset[str]] = frozenset({"upper"})

    def __init__(self, model: Model, objective: Objective) -> None:
        self.model, self.objective = model, objective
        self.optimizer = torch.optim.Adam(model.parameters_at("upper"), lr=0.1)

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        loss = self.objective.loss(self.model(valid.inputs), valid.targets)
        torch.autograd.backward(loss, inputs=list(self.model.parameters_at("upper")))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return update_weights(train)


def test_a_right_algorithm_passes() -> None:
    testing.check_algorithm(Step)


def test_algorithm_that_moves_weights_itself() -> None:
    class Restless(Step):
        def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
            with torch.no_grad():
                list(self.model.parameters_at("lower"))[-1].add_(1e-6)
            return super().step(train, valid, update_weights)

    class RestlessAfterwards(Step):
        def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
            metrics = super().step(train, valid, update_weights)
            with torch.no_grad():
                list(self.model.parameters_at("lower"))[-1].add_(1e-6)
            return metrics

    refused("update_weights.*before", testing.check_algorithm, Restless)
    refused("update_weights.*after", testing.check_algorithm, RestlessAfterwards)


def test_algorithm_that_needs_alphas_and_never_moves_them() -> None:
    class Idle(Step):
        def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
            return update_weights(train)

    refused("no upper-level parameter moved", testing.check_algorithm, Idle)


def test_algorithm_that_moves_alphas_without_a_word() -> None:
    class Secret(Step):
        needs: ClassVar[frozenset[str]] = frozenset()

    refused("without declaring it", testing.check_algorithm, Secret)


def test_algorithm_that_moves_what_is_frozen() -> None:
    class Blind(Step):
        def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
            with torch.no_grad():
                next(iter(self.model.parameters_at("lower"))).add_(1.0)
            return super().step(train, valid, update_weights)

    refused("Blind", testing.check_algorithm, Blind)


def test_algorithm_that_forgets_its_state() -> None:
    class Forgetful(Step):
        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    refused("as if it had not stopped", testing.check_algorithm, Forgetful)


def test_algorithm_that_forgets_how_far_its_randomness_is() -> None:
    class Noisy(Step):
        def __init__(self, model: Model, objective: Objective) -> None:
            super().__init__(model, objective)
            self.generator = torch.Generator().manual_seed(0)

        def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
            metrics = super().step(train, valid, update_weights)
            with torch.no_grad():
                for alpha in self.model.parameters_at("upper"):
                    alpha.add_(torch.randn(alpha.shape, generator=self.generator))
            return metrics

    refused("Noisy: must go on.*as if it had not stopped", testing.check_algorithm, Noisy)


def test_algorithm_whose_state_no_checkpoint_can_hold() -> None:
    class Odd(Step):
        def state_dict(self) -> dict[str, Any]:
            return {"model": self.model}

    refused("plain data", testing.check_algorithm, Odd)


def test_algorithm_that_returns_a_metric_with_a_gradient() -> None:
    class Attached(Step):
        def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
            metrics = super().step(train, valid, update_weights)
            return {**metrics, "loss": self.objective.loss(self.model(train.inputs), train.targets)}

    refused("`loss` must be a finite number without a gradient", testing.check_algorithm, Attached)


class Sum(MixedOp):
    """The plain weighted sum: what is right."""

    makes: ClassVar[tuple[Kind, ...]] = (ALPHA,)

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.ones(len(choice.candidates)))

    def weights(self) -> torch.Tensor:
        return self.alpha

    def forward(self, candidates: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        return sum(w * each(*args, **kwargs) for w, each in zip(self.weights(), candidates, strict=True))


def test_a_right_mixed_op_passes() -> None:
    testing.check_mixed_op(Sum)
    testing.check_algorithm(Step, mixed_op=Sum)
    testing.check_deriver(derivers["darts"], mixed_op=Sum)


def test_mixed_op_with_a_plain_parameter_for_its_alpha() -> None:
    class Undeclared(Sum):
        def __init__(self, choice: Choice) -> None:
            super().__init__(choice)
            self.alpha = nn.Parameter(torch.ones(len(choice.candidates)))

    refused("`makes`.*'weight'.*'alpha'", testing.check_mixed_op, Undeclared)


def test_mixed_op_with_too_few_weights() -> None:
    class Short(Sum):
        def weights(self) -> torch.Tensor:
            return self.alpha[:1]

    refused("3 finite numbers", testing.check_mixed_op, Short)


def test_mixed_op_that_draws_in_weights() -> None:
    class Drawing(Sum):
        def weights(self) -> torch.Tensor:
            return self.alpha + torch.rand(len(self.alpha))

    refused("neither draw nor change", testing.check_mixed_op, Drawing)


def test_mixed_op_that_draws_without_saying_so() -> None:
    class Secretive(Sum):
        def forward(self, candidates: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            return super().forward(candidates, *args, **kwargs) * torch.rand(())

    class Open(Secretive):
        draws: ClassVar[bool] = True

    refused("`draws` must be True where a training pass draws", testing.check_mixed_op, Secretive)
    testing.check_mixed_op(Open)


def test_mixed_op_that_cuts_its_alpha_off() -> None:
    class Cut(Sum):
        def forward(self, candidates: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            weights = self.weights().detach()
            return sum(w * each(*args, **kwargs) for w, each in zip(weights, candidates, strict=True))

    refused("alpha must get a finite gradient", testing.check_mixed_op, Cut)


def test_mixed_op_that_cuts_its_candidates_off() -> None:
    class Deaf(Sum):
        def forward(self, candidates: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            outputs = [each(*args, **kwargs).detach() for each in candidates]
            return sum(w * each for w, each in zip(self.weights(), outputs, strict=True))

    refused("Deaf: the inputs and the weights of the candidates must get", testing.check_mixed_op, Deaf)


BETA = Kind("beta", Level.UPPER)


def test_mixed_op_whose_kinds_are_not_complete() -> None:
    class Secret(Sum):
        def __init__(self, choice: Choice) -> None:
            super().__init__(choice)
            self.beta = ArchParam(torch.ones(()), BETA)

        def weights(self) -> torch.Tensor:
            return self.beta * self.alpha

    class Boasting(Sum):
        makes: ClassVar[tuple[Kind, ...]] = (ALPHA, BETA)

    class ForInputs(Sum):
        makes: ClassVar[tuple[Kind, ...]] = (ALPHA, BETA)

        def __init__(self, choice: Choice) -> None:
            super().__init__(choice)
            kind = BETA if isinstance(choice, InputChoice) else ALPHA
            self.alpha = ArchParam(torch.ones(len(choice.candidates)), kind)

    refused(r"Secret: `makes`.*\['alpha', 'beta'\], got \['alpha'\]", testing.check_mixed_op, Secret)
    refused(r"Boasting: `makes`.*\['alpha'\], got \['alpha', 'beta'\]", testing.check_mixed_op, Boasting)
    testing.check_mixed_op(ForInputs)


def test_mixed_op_with_a_parameter_that_does_nothing() -> None:
    class Idle(Sum):
        def __init__(self, choice: Choice) -> None:
            super().__init__(choice)
            self.other = ArchParam(torch.ones(()), ALPHA)

    refused("Idle: other must get a finite gradient.*got none", testing.check_mixed_op, Idle)


def test_mixed_op_that_loses_its_temperature() -> None:
    class Warm(Sum):
        count = 0

        def __init__(self, choice: Choice) -> None:
            super().__init__(choice)
            Warm.count += 1
            self.temperature = float(Warm.count)

        def weights(self) -> torch.Tensor:
            return self.alpha / self.temperature

    refused("load_state_dict", testing.check_mixed_op, Warm)


def convolution(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1),
        nn.BatchNorm2d(out_channels, affine=affine),
    )


def test_a_right_op_passes() -> None:
    testing.check_op(convolution)
    testing.check_op(convolution, in_channels=2, out_channels=6)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda i, o, stride, affine: nn.Conv2d(i, o, 3, stride), "must map"),
        (lambda i, o, stride, affine: convolution(i, o, 1, affine), "stride 2.*must map"),
        (lambda i, o, stride, affine: convolution(i, o, stride, True), "affine=False"),
    ],
)
def test_op_of_a_wrong_shape_or_norm(make: Callable[..., nn.Module], match: str) -> None:
    refused(match, testing.check_op, make)


def test_op_that_cuts_its_input_or_a_weight_off() -> None:
    class Cut(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.detach())

    class Idle(nn.Conv2d):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.scale = nn.Parameter(torch.ones(()))

    class Constant(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    def made(op: type[nn.Conv2d]) -> Callable[..., nn.Module]:
        return lambda i, o, stride, affine: op(i, o, 3, stride, padding=1)

    refused("its input must get a finite gradient.*got none", testing.check_op, made(Cut))
    refused("scale must get a finite gradient.*got none", testing.check_op, made(Idle))
    refused("its output must have a gradient", testing.check_op, made(Constant))


def test_op_with_an_alpha_or_a_false_claim() -> None:
    def with_alpha(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
        op = convolution(in_channels, out_channels, stride, affine)
        op.alpha = ArchParam(torch.ones(1))
        return op

    def claims_zero(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
        op: Any = convolution(in_channels, out_channels, stride, affine)
        op.always_zero = True
        return op

    refused("alphas belong to the mixed op", testing.check_op, with_alpha)
    refused("always_zero", testing.check_op, claims_zero)


class Flat(Space):
    """One choice between two classifiers of the flat image: what is right."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.num_inputs = int(torch.tensor(task.input_shape).prod())

    def classifier(self, name: str) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(self.num_inputs, self.task.num_outputs))

    def build(self, filler: Filler) -> nn.Module:
        return filler.layer(LayerChoice("classifier", ("one", "other")), self.classifier)


def test_a_right_space_passes() -> None:
    testing.check_space(Flat)
    testing.check_space(Flat, Task((4,), 2))


class Scale(nn.Module):
    """A parameter of the upper level that a network has by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.alpha * x


def test_space_that_is_wrong() -> None:
    class Empty(Flat):
        def build(self, filler: Filler) -> nn.Module:
            return self.classifier("one")

    class KeepsAlpha(Flat):
        def classifier(self, name: str) -> nn.Module:
            module = super().classifier(name)
            module.alpha = ArchParam(torch.ones(1))
            return module

    class UsesAlpha(Flat):
        def build(self, filler: Filler) -> nn.Module:
            return nn.Sequential(super().build(filler), Scale())

    class Unsteady(Flat):
        count = 0

        def build(self, filler: Filler) -> nn.Module:
            network = super().build(filler)
            Unsteady.count += 1
            nn.init.constant_(next(network.parameters()), Unsteady.count)
            return network

    class WrongOutputs(Flat):
        def __init__(self, task: Task) -> None:
            super().__init__(Task(task.input_shape, task.num_outputs + 1))

    class Undecided(Flat):
        count = 0

        def build(self, filler: Filler) -> nn.Module:
            Undecided.count += 1
            names = ("one", "other", f"number_{Undecided.count}")
            return filler.layer(LayerChoice("classifier", names), self.classifier)

    refused("at least one choice", testing.check_space, Empty)
    refused("KeepsAlpha, supernet: .*alpha must get a finite gradient", testing.check_space, KeepsAlpha)
    refused(
        "UsesAlpha: a derived network must hold no upper-level parameter, got network.1.alpha; take them",
        testing.check_space,
        UsesAlpha,
    )
    refused("same random state", testing.check_space, Unsteady)
    refused("must have shape", testing.check_space, WrongOutputs)
    refused("same choices", testing.check_space, Undecided)


def test_deriver_that_draws_or_keeps_what_may_not_be_kept() -> None:
    class Random(Deriver):
        def derive(self, model: Model) -> Genotype:
            return Genotype({"merge": (str(float(torch.rand(1))),)})

    class KeepsNone(Deriver):
        def derive(self, model: Model) -> Genotype:
            return Genotype({**derivers["darts"]().derive(model).choices, "edge_0": ("none",)})

    class Spendthrift(Deriver):
        def derive(self, model: Model) -> Genotype:
            return derivers["darts"]().derive(model)

        def derive_within(self, model: Model, prices: Prices, max_cost: float) -> Genotype:
            return self.derive(model)

    class Miser(Spendthrift):
        def derive_within(self, model: Model, prices: Prices, max_cost: float) -> Genotype:
            return derivers["darts"]().derive_within(
                model, prices, prices.of(cheapest(model.choices, prices))
            )

    refused("never by chance", testing.check_deriver, Random)
    refused("must fit its space", testing.check_deriver, KeepsNone)
    refused("must cost at most", testing.check_deriver, Spendthrift)
    refused("where the budget excludes nothing", testing.check_deriver, Miser)


def test_regularizer_that_draws_or_reads_what_it_must_not() -> None:
    class Right(Regularizer):
        def __init__(self, model: Model) -> None:
            self.model = model

        def __call__(self, progress: float) -> torch.Tensor:
            squares = [alpha.square().sum() for alpha in self.model.parameters_at("upper")]
            return progress * torch.stack(squares).sum()

    class OfEach(Right):
        def __call__(self, progress: float) -> torch.Tensor:
            return next(self.model.parameters_at("upper")) * progress

    class Noisy(Right):
        def __call__(self, progress: float) -> torch.Tensor:
            return super().__call__(progress) * torch.rand(())

    class Shrinks(Right):
        @torch.no_grad()
        def __call__(self, progress: float) -> torch.Tensor:
            term = super().__call__(progress)
            next(self.model.parameters_at("lower")).mul_(0.9)
            return term

    class Detached(Right):
        def __call__(self, progress: float) -> torch.Tensor:
            return super().__call__(progress).detach().requires_grad_()

    class OfWeights(Right):
        def __call__(self, progress: float) -> torch.Tensor:
            return super().__call__(progress) + next(self.model.parameters_at("lower")).sum()

    testing.check_regularizer(Right)
    refused("same finite scalar", testing.check_regularizer, OfEach)
    refused("same finite scalar", testing.check_regularizer, Noisy)
    refused("leave model", testing.check_regularizer, Shrinks)
    refused("some alpha must have a gradient", testing.check_regularizer, Detached)
    refused("must not depend on weights", testing.check_regularizer, OfWeights)


def test_perturbation_that_leaves_the_simplex_or_hides_its_randomness() -> None:
    class Right(Perturbation):
        def __call__(
            self, mixtures: Mixtures, loss: Callable[[Mixtures], torch.Tensor], progress: float
        ) -> Mixtures:
            return {name: projected(each + torch.rand_like(each), each) for name, each in mixtures.items()}

    class Forgets(Right):
        def __call__(self, mixtures: Mixtures, *given: Any) -> Mixtures:
            return dict(list(super().__call__(mixtures, *given).items())[1:])

    class Outside(Right):
        def __call__(self, mixtures: Mixtures, *given: Any) -> Mixtures:
            return {name: each + torch.rand_like(each) for name, each in mixtures.items()}

    class Private(Right):
        generator = torch.Generator().manual_seed(0)

        def __call__(self, mixtures: Mixtures, *given: Any) -> Mixtures:
            noise = {
                name: torch.rand(each.shape, generator=self.generator) for name, each in mixtures.items()
            }
            return {name: projected(each + noise[name], each) for name, each in mixtures.items()}

    class InPlace(Right):
        def __call__(self, mixtures: Mixtures, *given: Any) -> Mixtures:
            for each in mixtures.values():
                each.copy_(torch.softmax(torch.rand_like(each), 0))
            return {name: each.clone() for name, each in mixtures.items()}

    class Still(Right):
        def __call__(self, mixtures: Mixtures, *given: Any) -> Mixtures:
            return mixtures

    testing.check_perturbation(Right)
    refused("same choices and shapes", testing.check_perturbation, Forgets)
    refused("have the sum that they had", testing.check_perturbation, Outside)
    refused("use no other source", testing.check_perturbation, Private)
    refused("leave the mixtures", testing.check_perturbation, InPlace)
    refused("must move some share", testing.check_perturbation, Still)


def test_explorer_that_ignores_its_seed() -> None:
    class Unseeded(Explorer):
        def __init__(self, space: Space, seed: int) -> None:
            self.space = space

        def ask(self) -> Genotype:
            return sample(self.space, generator_for(int(torch.randint(1 << 30, ()))))

        def tell(self, genotype: Genotype, score: float) -> None: ...

    refused("same for the same seed", testing.check_explorer, Unseeded)


def test_explorer_whose_copy_goes_on_with_its_state() -> None:
    class Sharing(Explorer):
        def __init__(self, space: Space, seed: int) -> None:
            from nasframe.core import generator_for

            self.space, self.shared = space, [generator_for(seed)]

        def __deepcopy__(self, memo: Any) -> Explorer:
            return copy.copy(self)

        def ask(self) -> Genotype:
            from nasframe.core import sample

            return sample(self.space, self.shared[0])

        def tell(self, genotype: Genotype, score: float) -> None: ...

    refused("a copy of it must propose the same", testing.check_explorer, Sharing)


def test_explorer_that_learns_from_what_it_calls_random() -> None:
    class Greedy(Explorer):
        def __init__(self, space: Space, seed: int) -> None:
            self.space, self.generator, self.best = space, generator_for(seed), float("-inf")

        @property
        def num_random(self) -> int:
            return 8

        def ask(self) -> Genotype:
            return sample(self.space, self.generator)

        def tell(self, genotype: Genotype, score: float) -> None:
            if score > self.best:
                self.best, _ = score, self.ask()  # what comes next depends on the score

    refused("drawn whatever was told", testing.check_explorer, Greedy)


def small_dataset(**changes: Any) -> Dataset:
    split = TensorSplit(torch.arange(12.0).reshape(6, 2), torch.arange(6) % 3)
    return Dataset(**{"train": split, "test": split, "task": Task((2,), 3), **changes})


def test_a_right_dataset_passes() -> None:
    testing.check_dataset(lambda: small_dataset(class_names=("a", "b", "c")))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"task": Task((3,), 3)}, r"shape \(3, 3\)"),
        ({"task": Task((2,), 2)}, "from 0 to 1"),
        ({"class_names": ("a",)}, "3 names"),
        (
            {"target_scale": TargetScale(names=("a",), means=(0.0,), deviations=(1.0,))},
            "a name, a mean and a deviation for each of 3",
        ),
        ({"test": TensorSplit(torch.zeros(0, 2), torch.zeros(0).long())}, "test: must have examples"),
    ],
)
def test_dataset_that_contradicts_its_task(changes: dict[str, Any], match: str) -> None:
    refused(match, testing.check_dataset, lambda: small_dataset(**changes))


def test_dataset_that_is_another_each_time() -> None:
    def noise() -> Dataset:
        return small_dataset(train=TensorSplit(torch.randn(6, 2), torch.arange(6) % 3))

    refused("same each time", testing.check_dataset, noise)


def test_augmentation_that_is_wrong() -> None:
    class Global(Augmentation):
        def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
            return Batch(batch.inputs + torch.rand(1), batch.targets)

    class InPlace(Augmentation):
        def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
            batch.inputs.add_(1)
            return batch

    class Shrinking(Augmentation):
        def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
            return Batch(batch.inputs[:, :, 1:], batch.targets)

    refused("generator", testing.check_augmentation, Global)
    refused("in place", testing.check_augmentation, InPlace)
    refused("shape", testing.check_augmentation, Shrinking)


def test_objective_that_sums_or_hides_its_gradient() -> None:
    class Summed(Objective):
        def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
            return nn.functional.cross_entropy(outputs, targets, reduction="sum")

        def metrics(self, outputs: Any, targets: Any) -> Metrics:
            return {}

    class Detached(Summed):
        def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
            return nn.functional.cross_entropy(outputs, targets).detach()

    class Counting(Summed):
        def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
            return nn.functional.cross_entropy(outputs, targets)

        def metrics(self, outputs: Any, targets: Any) -> Metrics:
            return {"right": (outputs.argmax(1) == targets).sum() + 1}

    refused("`loss` must be a mean", testing.check_objective, Summed)
    refused("must have a gradient", testing.check_objective, Detached)
    refused("`right` must be a mean", testing.check_objective, Counting)


def test_optimizer_that_climbs_or_forgets() -> None:
    class Forgetful(torch.optim.SGD):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "state": {}}

    refused("downhill", testing.check_optimizer, lambda p: torch.optim.SGD(p, lr=0.1, maximize=True))
    refused("not stopped", testing.check_optimizer, lambda p: Forgetful(p, lr=0.1, momentum=0.9))


def test_schedule_with_a_memory_or_below_zero() -> None:
    class Remembering(Schedule):
        def __init__(self) -> None:
            self.count = 0

        def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
            self.count += 1
            return base_lr / self.count

    class Linear(Schedule):
        def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
            return base_lr * (1 - 2 * epoch / num_epochs)

    refused("arguments alone", testing.check_schedule, Remembering)
    refused("not negative", testing.check_schedule, Linear)


def test_trainer_that_does_not_resume(tmp_path: Path) -> None:
    class Amnesiac(Trainer):
        """Begins again at the first epoch."""

        def __init__(self) -> None:
            self.inner = trainers["standard"](epochs=2, batch_size=8)

        def fit(self, job: Job) -> None:
            from dataclasses import replace

            from nasframe.core import Checkpoints

            self.inner.fit(replace(job, checkpoints=Checkpoints(tmp_path / str(id(job)))))

        def evaluate(self, *args: Any) -> Metrics:
            return self.inner.evaluate(*args)

    refused("tracked once|same parameters", testing.check_trainer, Amnesiac, tmp_path / "checked")


def test_exporter_and_cost_that_change_the_model(tmp_path: Path) -> None:
    class Halving(Exporter):
        def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
            with torch.no_grad():
                next(model.parameters()).mul_(0.5)
            path = folder / "model"
            path.touch()
            return path

    class Elsewhere(Exporter):
        def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
            return folder / "nothing"

    class Pretending(Halving):
        needs_run: ClassVar[bool] = True

    class Negative(Cost):
        def of(self, model: Model, task: Task) -> float:
            return -1.0

    refused("as it was", testing.check_exporter, Halving, tmp_path)
    refused("return the path", testing.check_exporter, Elsewhere, tmp_path)
    refused("must raise an UnsupportedError", testing.check_exporter, Pretending, tmp_path)
    refused("not negative", testing.check_cost, Negative)


def test_readers_that_shout_draw_or_invent(tmp_path: Path) -> None:
    class Inventing(Reader):
        def read(self, path: Path) -> torch.Tensor:
            return torch.zeros(3)

    class Drawing(Reader):
        def read(self, path: Path) -> torch.Tensor:
            return torch.rand(3)

    class Shouting(Inventing):
        suffixes: ClassVar[tuple[str, ...]] = (".PNG",)

    class Nameless(Inventing):
        def read(self, path: Path) -> torch.Tensor:
            if not path.exists():
                raise DataError("the file cannot be read")
            return torch.zeros(3)

    file = tmp_path / "file"
    file.touch()
    refused("is not there", testing.check_reader, Inventing, file)
    refused("same each time", testing.check_reader, Drawing, file)
    refused("in lower case", testing.check_reader, Shouting, file)
    refused("name its file", testing.check_reader, Nameless, file)


def test_benchmarks_that_lie() -> None:
    class Known(Benchmark):
        space = spaces.component("macro", stages=(1, 1), channels=2, features=4)

        def standing(self, genotype: Genotype) -> Standing:
            if set(genotype.choices) != {"layer_0", "layer_1"}:
                raise FormatError("genotype: of another space")
            light = [name for (name,) in genotype.choices.values()].count("identity")
            return Standing((2 - light) / 2, 1 + (0, 4, 8)[light], 9)

    class Nowhere(Known):
        space = spaces.component("nowhere")

    class Percent(Known):
        def standing(self, genotype: Genotype) -> Standing:
            right = super().standing(genotype)
            return replace(right, accuracy=100 * right.accuracy)

    class Reversed(Known):
        def standing(self, genotype: Genotype) -> Standing:
            right = super().standing(genotype)
            return replace(right, rank=10 - right.rank)

    class Fickle(Known):
        calls = 0

        def standing(self, genotype: Genotype) -> Standing:
            self.calls += 1
            return Standing(0.5, 1 + self.calls % 9, 9)

    class Lenient(Known):
        def standing(self, genotype: Genotype) -> Standing:
            return Standing(0.5, 1, 9)

    testing.check_benchmark(Known)
    refused("must name a space", testing.check_benchmark, Nowhere)
    refused("from 0 to 1", testing.check_benchmark, Percent)
    refused("smaller rank", testing.check_benchmark, Reversed)
    refused("the same of the same", testing.check_benchmark, Fickle)
    refused("another space", testing.check_benchmark, Lenient)


@pytest.fixture
def registered() -> Iterator[Callable[[Registry[Any], Callable[..., Any]], None]]:
    """Register a component for the time of a test."""
    undo: list[Registry[Any]] = []

    def register(registry: Registry[Any], factory: Callable[..., Any]) -> None:
        registry.register("under_test")(factory)
        undo.append(registry)

    yield register
    for registry in undo:
        del registry._registered["under_test"], registry._origins["under_test"]


def test_component_that_says_nothing(registered: Callable[..., None]) -> None:
    class Silent(Schedule):
        __doc__ = None

        def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
            return base_lr

    registered(schedules, Silent)
    refused("say what it is", testing.check_component, "schedules", "under_test")


def test_component_with_a_setting_that_says_nothing(registered: Callable[..., None]) -> None:
    class Terse(Schedule):
        """A schedule."""

        def __init__(self, *, factor: float = 0.5) -> None: ...

        def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
            return base_lr

    registered(schedules, Terse)
    refused("`factor` must say what it means", testing.check_component, "schedules", "under_test")


def test_component_with_a_default_that_its_type_refuses(registered: Callable[..., None]) -> None:
    class Wrong(Schedule):
        """A schedule.

        Args:
            factor: A factor.
        """

        def __init__(self, *, factor: int = 0.5) -> None: ...  # type: ignore[assignment]

        def __call__(self, base_lr: float, epoch: float, num_epochs: int) -> float:
            return base_lr

    registered(schedules, Wrong)
    refused("default of `factor`.*0.5", testing.check_component, "schedules", "under_test")


def test_component_of_another_sort(registered: Callable[..., None]) -> None:
    class NotASchedule:
        """Something else."""

        def __init__(self) -> None: ...

    registered(schedules, NotASchedule)
    refused("subclass of Schedule", testing.check_component, "schedules", "under_test")


def test_example_space_has_every_kind_of_site() -> None:
    from nasframe.core import InputChoice, ValueChoice, supernet

    model = supernet(testing.example_space(), mixed_ops["softmax"])
    assert {type(choice) for choice in model.choices.values()} == {LayerChoice, InputChoice, ValueChoice}
    assert {kind_of(parameter).name for parameter in model.parameters()} == {"alpha", "weight"}
    outputs = model(torch.randn(2, 4))
    assert outputs.shape == (2, 3)
    assert objectives["cross_entropy"]().loss(outputs, torch.tensor([0, 2])).isfinite()
