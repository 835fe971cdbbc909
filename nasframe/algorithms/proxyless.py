"""ProxylessNAS: one path at a time, on the task itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, final

import torch
from torch import nn

from nasframe.core import (
    Algorithm,
    Batch,
    MixedOp,
    Model,
    Objective,
    SampledOp,
    WeightUpdate,
    algorithms,
    averaged,
    kept_random_state,
    optimizers,
    unmoved,
    with_penalty,
)
from nasframe.errors import UnsupportedError
from nasframe.registry import Component
from nasframe.types import Metrics, NonNegativeInt, PositiveInt, ProperFraction

_ALPHA_OPTIMIZER = optimizers.component("adam", lr=1e-3, betas=(0.0, 0.999), weight_decay=0.0)


@algorithms.register("proxyless")
@final
class Proxyless(Algorithm):
    """Alternates steps of weights and alphas on sampled paths (Cai et al. 2019, arXiv 1812.00332).

    A weight step trains a newly sampled path on the training batch, with alphas frozen (section 3.2). An
    alpha step samples anew and takes the validation batch. With `all_paths` it follows the gradient of
    every gate (eq. 4). With `two_paths` it samples two paths, or one more than the choice keeps, and
    follows the gates between them alone (section 3.2.1): no other alpha moves, nor its entry in the
    optimizer's state, and the sampled alphas are shifted afterwards so that all other probabilities stay
    what they were. With `reinforce` it follows (R − baseline) ∇ log p (section 3.3.2, eq. 5).

    Departures from the authors' code: alpha steps move no batch-norm statistics and leave the random
    state alone; Adam's moments of unsampled alphas do not decay; a sampled zero operation does not
    call the step off; REINFORCE compares with the mean reward of earlier steps alone, which leaves
    the gradient unbiased (the first step, which has none, with the mean of its own rewards).

    Args:
        update: How alphas learn.
        alpha_optimizer: Optimizer of the alphas.
        warmup_epochs: Epochs at the beginning that train the weights alone; the authors' ImageNet
            search has 40.
        alpha_every: Weight steps before each alpha step; 1 alternates as the paper says, the authors'
            ImageNet script has 5.
        num_samples: Networks that a step of `reinforce` evaluates (M in eq. 5).
        reward: What `reinforce` maximizes: a metric of the objective, or `loss` for its negative.
        baseline_decay: Share of the old baseline that a step of `reinforce` keeps.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"alpha"})
    mixes: ClassVar[type[MixedOp]] = SampledOp
    follows_penalty: ClassVar[bool] = True
    knows_ranks: ClassVar[bool] = True
    chunks: int = 1

    def __init__(
        self,
        model: Model,
        objective: Objective,
        *,
        update: Literal["two_paths", "all_paths", "reinforce"] = "two_paths",
        alpha_optimizer: Component[torch.optim.Optimizer] = _ALPHA_OPTIMIZER,
        warmup_epochs: NonNegativeInt = 0,
        alpha_every: PositiveInt = 1,
        num_samples: PositiveInt = 10,
        reward: str = "accuracy",
        baseline_decay: ProperFraction = 0.99,
    ) -> None:
        self._model, self._objective, self._update = model, objective, update
        self._warmup_epochs, self._alpha_every, self._num_samples = warmup_epochs, alpha_every, num_samples
        self._reward, self._baseline_decay = reward, baseline_decay
        self._ops = _sampled_ops(model)
        self._alphas = [op.alpha for op in self._ops]
        self._weights = list(model.parameters_at("lower"))
        self._alpha_optimizer = alpha_optimizer(self._alphas)
        # the seed comes from the global random state, and so from the run's seed
        self._generator = torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))
        self._baseline: float | None = None
        self._epoch, self._steps = 0, 0

    def phases(self) -> frozenset[int]:
        return frozenset({self._warmup_epochs})

    def begin_epoch(self, epoch: int, num_epochs: int) -> None:
        self._epoch = epoch

    def step(self, train: Batch, valid: Batch, update_weights: WeightUpdate) -> Metrics:
        self._model.sample(self._generator)
        with _frozen(self._alphas):
            metrics = update_weights(train)
        if self._epoch < self._warmup_epochs:
            return metrics
        self._steps += 1
        if self._steps % self._alpha_every:
            return metrics
        return {**metrics, **self._update_alphas(valid)}

    def state_dict(self) -> dict[str, Any]:
        own = {"generator": self._generator.get_state(), "baseline": self._baseline, "steps": self._steps}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._generator.set_state(state["generator"].cpu())
        self._baseline, self._steps = state["baseline"], state["steps"]

    def upper_gradients(
        self, train: Batch, valid: Batch, update_weights: WeightUpdate
    ) -> list[torch.Tensor | None]:
        """The gradient that an alpha step would use now, that of a penalty included.

        It draws as that step would, and then puts its generator back. Nothing changes but what is drawn:
        mixed ops show what the gradient was taken on. Of `two_paths`, a step uses the entries of their
        `paths` alone.

        Args:
            train: Is not read; an algorithm with two levels would.
            valid: The batch of the gradient.
            update_weights: Is not called.

        Returns:
            One for each alpha that requires a gradient, in the model's order; None where the loss does
            not depend on it.
        """
        state, baseline = self._generator.get_state(), self._baseline
        try:
            return self._upper(valid)[1]
        finally:
            self._generator.set_state(state)
            self._baseline = baseline

    def _upper(self, valid: Batch) -> tuple[Metrics, list[torch.Tensor | None]]:
        metrics, gradients = self._reinforce(valid) if self._update == "reinforce" else self._gates(valid)
        loss = torch.as_tensor(metrics["alpha_loss"])
        return metrics, with_penalty(self._objective, self._alphas, gradients, loss)

    def _update_alphas(self, valid: Batch) -> Metrics:
        metrics, gradients = self._upper(valid)
        for alpha, gradient in zip(self._alphas, gradients, strict=True):
            alpha.grad = gradient
        if self._update == "two_paths":
            _step_sampled(self._alpha_optimizer, self._ops)
        else:
            self._alpha_optimizer.step()
        self._alpha_optimizer.zero_grad(set_to_none=True)
        return metrics

    def _gates(self, valid: Batch) -> tuple[Metrics, Sequence[torch.Tensor | None]]:
        self._model.sample(self._generator, num_paths=2 if self._update == "two_paths" else None)
        weights = [weight for weight in self._weights if weight.requires_grad]
        with kept_random_state(self._alphas[0].device), unmoved(self._model), _frozen(weights):
            losses, gradients = [], []
            for piece in valid.chunk(self.chunks):
                loss = self._objective.loss(self._model(piece.inputs), piece.targets)
                loss = loss if len(piece) == len(valid) else loss * (len(piece) / len(valid))
                gradients.append(torch.autograd.grad(loss, self._alphas, allow_unused=True))
                losses.append(loss.detach())
        (loss,) = averaged([torch.stack(losses).sum()])
        return {"alpha_loss": loss}, averaged(list(map(_sum, *gradients)))

    def _reinforce(self, valid: Batch) -> tuple[Metrics, Sequence[torch.Tensor | None]]:
        """The gradient of −J, so that an optimizer's descent climbs."""
        losses, rewards, log_probabilities = [], [], []
        for _ in range(self._num_samples):
            self._model.sample(self._generator)
            loss, reward = self._evaluate(valid)
            losses.append(loss)
            rewards.append(reward)
            log_probabilities.append(torch.stack([op.log_probability() for op in self._ops]).sum())
        loss_M, reward_M = averaged([torch.stack(losses), torch.stack(rewards)])
        mean = float(reward_M.mean())
        baseline = mean if self._baseline is None else self._baseline
        surrogate = -((reward_M - baseline) * torch.stack(log_probabilities)).mean()
        decay = self._baseline_decay
        self._baseline = decay * baseline + (1 - decay) * mean
        gradients = torch.autograd.grad(surrogate, self._alphas)
        return {"alpha_loss": loss_M.mean(), "reward": mean}, gradients

    def _means(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss and metrics of a batch, from those of its pieces."""
        losses: list[torch.Tensor] = []
        metrics: dict[str, torch.Tensor] = {}
        for piece in batch.chunk(self.chunks):
            outputs, share = self._model(piece.inputs), len(piece) / len(batch)
            losses.append(self._objective.loss(outputs, piece.targets) * share)
            found = {} if self._reward == "loss" else self._objective.metrics(outputs, piece.targets)
            for name, value in found.items():
                metrics[name] = metrics.get(name, torch.zeros(())) + share * torch.as_tensor(value)
        return torch.stack(losses).sum(), metrics

    @torch.no_grad()
    def _evaluate(self, valid: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and reward of the sampled network."""
        with kept_random_state(self._alphas[0].device), unmoved(self._model):
            loss, metrics = self._means(valid)
        if self._reward == "loss":
            return loss, -loss
        if self._reward not in metrics:
            raise UnsupportedError(
                f"proxyless: reward must be `loss` or a metric of {type(self._objective).__name__} "
                f"({', '.join(metrics) or 'which has none'}), got `{self._reward}`; set `reward`"
            )
        return loss, torch.as_tensor(metrics[self._reward], dtype=loss.dtype, device=loss.device)


def _sum(*parts: torch.Tensor | None) -> torch.Tensor | None:
    """Of the gradients of a batch's pieces; None where the loss of no piece depends on it."""
    there = [part for part in parts if part is not None]
    return torch.stack(there).sum(0) if there else None


def _sampled_ops(model: Model) -> list[SampledOp]:
    """The mixed ops whose alphas are learned.

    Raises:
        UnsupportedError: There is none, or a mixed op does not draw.
    """
    for choice_id, op in model.mixed_ops.items():
        if not isinstance(op, SampledOp):
            raise UnsupportedError(
                f"proxyless: each mixed op must draw its paths, but that of choice `{choice_id}` is a "
                f"{type(op).__name__}; build the supernet with one that draws, such as binary_gate"
            )
    ops = [op for op in model.mixed_ops.values() if isinstance(op, SampledOp) and op.alpha.requires_grad]
    if not ops:
        raise UnsupportedError("proxyless: the model must have a choice whose alpha requires gradients")
    return ops


@contextmanager
def _frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Inside, no pass computes or keeps anything for these parameters."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@torch.no_grad()
def _step_sampled(optimizer: torch.optim.Optimizer, ops: Sequence[SampledOp]) -> None:
    """A step of the sampled paths' alphas alone, which changes no other path's probability.

    Their shift is that of section 3.2.1: the sum of their exponentials stays what it was. Other entries
    keep their values, also in the optimizer's state. Sites are taken together: there are many, and small.
    """
    alphas = [op.alpha for op in ops]
    drawn = [[index in op.paths for index in range(len(op.alpha))] for op in ops]
    sampled_K = [torch.tensor(each, device=op.alpha.device) for each, op in zip(drawn, ops, strict=True)]
    before_SK, sampled_SK = _padded(alphas), _padded(sampled_K)
    held = [{name: value.clone() for name, value in _entries(optimizer, alpha).items()} for alpha in alphas]
    optimizer.step()
    after_SK = _padded(alphas)
    temperature_S1 = after_SK.new_tensor([[op.temperature] for op in ops])
    after_S1, before_S1 = (
        (alpha_SK / temperature_S1).masked_fill(~sampled_SK, -torch.inf).logsumexp(1, keepdim=True)
        for alpha_SK in (after_SK, before_SK)
    )
    shifted_SK = torch.where(sampled_SK, after_SK - (after_S1 - before_S1) * temperature_S1, before_SK)
    for alpha, shifted_K, mask_K, state in zip(alphas, shifted_SK, sampled_K, held, strict=True):
        alpha.copy_(shifted_K[: len(alpha)])
        for name, value in _entries(optimizer, alpha).items():
            value.copy_(torch.where(mask_K, value, state.get(name, 0.0)))


def _padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Vectors of several lengths as the rows of a matrix, with zeros behind them."""
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def _entries(optimizer: torch.optim.Optimizer, alpha: nn.Parameter) -> dict[str, torch.Tensor]:
    """What the optimizer holds for each entry of alpha, by name."""
    held = optimizer.state.get(alpha, {})
    tensors = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    return {name: value for name, value in tensors.items() if value.shape == alpha.shape}
