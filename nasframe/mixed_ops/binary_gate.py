"""The binary gates of ProxylessNAS."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from nasframe.core import (
    ALPHA,
    ArchParam,
    Candidate,
    Choice,
    InTwoSteps,
    Kind,
    SampledOp,
    is_watched,
    is_zero,
    kept_random_state,
    map_tensors,
    mixed_ops,
    tensors_of,
    unmoved,
)
from nasframe.errors import ComponentError, UnsupportedError
from nasframe.types import NonNegativeFloat, PositiveFloat


@mixed_ops.register("binary_gate")
@final
class BinaryGate(SampledOp):
    """Runs the sampled candidate alone (Cai et al. 2019, arXiv 1812.00332, section 3.2).

    With p = softmax(alpha / temperature) over the sample's paths and one gate g_j a path, the output is
    Σ_j g_j o_j(x), where g is 1 at the active paths and 0 elsewhere (eq. 1 and 2). Backward passes a
    gate's gradient ∂L/∂g_j = ⟨∂L/∂y, o_j(x)⟩ straight on to p_j (eq. 4), so that
    ∂L/∂alpha = p ⊙ (b − p·b) / temperature with b the gates' gradients.

    The o_j(x) that did not run are computed in the backward pass, one after the other, from copies of the
    site's inputs and under the forward pass's autocast, and nothing of them is kept; they move neither
    buffers nor the random state. Saved for backward are the active path, its output and these copies.
    No backward pass that leaves alpha out computes any of this, and with a frozen alpha nothing is saved.
    The gates can be differentiated once.

    In evaluation mode the most likely candidates that a genotype may keep run, without gates. A choice
    that keeps several candidates adds them up; they are drawn without replacement.

    Departures from the authors' code: a sampled zero operation gives its gate gradient as any other
    path does, where that code skips the whole choice; candidates that are always zero are not computed
    to learn that ⟨∂L/∂y, 0⟩ = 0; recomputation leaves batch-norm statistics as they were.

    Args:
        init_std: Standard deviation of the initial alpha, drawn around 0.
        temperature: What alpha is divided by before the softmax; above 1 the draws are more even.
    """

    makes: ClassVar[tuple[Kind, ...]] = (ALPHA,)

    def __init__(
        self, choice: Choice, *, init_std: NonNegativeFloat = 1e-3, temperature: PositiveFloat = 1.0
    ) -> None:
        super().__init__(choice)
        self.alpha = ArchParam(nn.init.normal_(torch.empty(len(choice.candidates)), std=init_std), ALPHA)
        self.temperature = temperature

    def log_probability(self) -> torch.Tensor:
        logits_K = self.logits()
        total, left = logits_K.new_zeros(()), list(range(len(logits_K)))
        for index in self.active:  # each among those that were not drawn before it
            total = total + logits_K[index] - logits_K[left].logsumexp(0)
            left.remove(index)
        return total

    def forward(self, candidates: Sequence[Candidate], *args: Any, **kwargs: Any) -> Any:
        calls = [_Call.of(candidate, args, kwargs) for candidate in candidates]
        if not self.training:
            return _added([calls[index].run() for index in self._most_likely()])
        if not (torch.is_grad_enabled() and self.alpha.requires_grad):
            return _added([calls[index].run() for index in self.active])
        return self._gated(calls)

    def _gated(self, calls: Sequence["_Call"]) -> Any:
        paths, active = self.paths, self.active
        saved = _Saved()
        # copied before anything runs, because a candidate may write into its inputs
        ways = {
            index: saved.copied(calls[index])
            for index in paths
            if index not in active and not is_zero(calls[index].function)
        }
        outputs = {index: calls[index].run() for index in active}
        ways |= {index: saved.known(_floating(output), calls[index]) for index, output in outputs.items()}
        output = _added(list(outputs.values()))
        leaves = _floating(output)
        if not leaves:
            raise UnsupportedError(
                f"binary_gate: candidates of choice `{self._choice.id}` must return floating-point tensors, "
                f"alone or in tuples, lists and dicts, got {type(output).__name__}; without one its alpha "
                "would never learn"
            )
        gates = _Gates(self._choice.id, [ways.get(index) for index in paths], leaves)
        p = self._probabilities(paths)
        nothing = iter(_GateGradients.apply(p, gates, *saved.tensors))  # type: ignore[no-untyped-call]
        return map_tensors(lambda leaf: leaf + next(nothing) if leaf.is_floating_point() else leaf, output)

    def _probabilities(self, paths: tuple[int, ...]) -> torch.Tensor:
        """The softmax over some paths, in their order."""
        logits_K = self.logits()
        among = logits_K if len(paths) == len(logits_K) else torch.stack([logits_K[index] for index in paths])
        return torch.softmax(among, dim=0)

    def _most_likely(self) -> list[int]:
        """The strongest candidates that a genotype may keep; of equal ones the first."""
        alphas = self.alpha.tolist()
        legal = [self._choice.candidates.index(name) for name in self._choice.derivable]
        return sorted(legal, key=lambda index: -alphas[index])[: self._choice.num_chosen]


@dataclass(frozen=True)
class _Call:
    """A candidate with all of its arguments, also those of a partial application."""

    function: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]

    @classmethod
    def of(cls, candidate: Candidate, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "_Call":
        if isinstance(candidate, partial):
            return cls(candidate.func, ((*candidate.args, *args), {**candidate.keywords, **kwargs}))
        return cls(candidate, (args, dict(kwargs)))

    def run(self) -> Any:
        args, kwargs = self.arguments
        return self.function(*args, **kwargs)

    def run_sharing(self, made: dict[Hashable, Any], inputs: Hashable) -> Any:
        """`run`, but a first step that was `made` of equal inputs is not done again."""
        args, kwargs = self.arguments
        if kwargs or len(args) != 1 or not isinstance(self.function, InTwoSteps) or is_watched(self.function):
            return self.run()
        key = inputs, self.function.sharing_key()
        if key not in made:
            made[key] = self.function.first_step(*args)
        return self.function.second_step(made[key], *args)


@dataclass(frozen=True)
class _Way:
    """How a path's outputs are had in backward: a call of tensors that were saved, or these themselves."""

    call: _Call | None
    slots: list[int]

    def outputs(self, inputs: "_Inputs") -> list[torch.Tensor]:
        if self.call is None:
            return [inputs.saved[slot] for slot in self.slots]
        tensors = iter([inputs.copy(slot) for slot in self.slots])
        again = _Call(self.call.function, map_tensors(lambda _: next(tensors), self.call.arguments))
        with _unnoticed(again.function):
            return _floating(again.run_sharing(inputs.made, tuple(self.slots)))


class _Inputs:
    """What candidates are computed again from: copies, because a candidate may write into its inputs.

    Attributes:
        saved: The tensors that autograd saved.
        made: The first steps of layers in two, by their inputs and keys.
    """

    def __init__(self, saved: Sequence[torch.Tensor]) -> None:
        self.saved = saved
        self.made: dict[Hashable, Any] = {}
        self._copies: dict[int, torch.Tensor] = {}

    def copy(self, slot: int) -> torch.Tensor:
        """A copy that nobody has written into yet."""
        if slot not in self._copies or self._copies[slot]._version > 0:
            self._copies[slot] = self.saved[slot].clone()
        return self._copies[slot]


class _Saved:
    """The tensors that autograd is to save, each once."""

    def __init__(self) -> None:
        self.tensors: list[torch.Tensor] = []
        self._slots: dict[int, int] = {}

    def known(self, outputs: Sequence[torch.Tensor], call: _Call) -> _Way:
        """Outputs of a call that ran; one that is an input is copied, for whoever writes into that."""
        inputs = {id(_whole(tensor)) for tensor in tensors_of(call.arguments)}
        slots = list(range(len(self.tensors), len(self.tensors) + len(outputs)))
        for output in outputs:
            kept = output.detach()
            self.tensors.append(kept.clone() if id(_whole(output)) in inputs else kept)
        return _Way(None, slots)

    def copied(self, call: _Call) -> _Way:
        """Copies of a call's tensors, whose places in the call an empty tensor keeps."""
        slots: list[int] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in self._slots:
                self._slots[id(tensor)] = len(self.tensors)
                self.tensors.append(tensor.detach().clone())
            slots.append(self._slots[id(tensor)])
            return torch.empty(0)

        return _Way(_Call(call.function, map_tensors(keep, call.arguments)), slots)


class _Gates:
    """The gates of one call of a site.

    Args:
        choice_id: For messages.
        ways: How the outputs of each path are had; None for a path that is always zero.
        outputs: The floating-point tensors of the site's output.
    """

    def __init__(self, choice_id: str, ways: Sequence[_Way | None], outputs: Sequence[torch.Tensor]) -> None:
        self._choice_id, self._ways = choice_id, ways
        self._shapes = [output.shape for output in outputs]
        self._dtypes = [output.dtype for output in outputs]
        self._device = outputs[0].device
        kind = self._device.type
        self._autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def nothing(self) -> tuple[torch.Tensor, ...]:
        """What is added to the outputs: −0.0, which changes no number, and takes no memory."""
        one = [torch.full((), -0.0, dtype=dtype, device=self._device) for dtype in self._dtypes]
        return tuple(zero.expand(shape) for zero, shape in zip(one, self._shapes, strict=True))

    def gradients(
        self, saved: Sequence[torch.Tensor], of_outputs: Sequence[torch.Tensor | None], dtype: torch.dtype
    ) -> torch.Tensor:
        """∂L/∂g_j = ⟨∂L/∂y, o_j(x)⟩ of each path; one path's tensors at a time."""
        zero, inputs = torch.zeros((), dtype=dtype, device=self._device), _Inputs(saved)
        kind, cast_dtype, cast = self._autocast
        # no cache: it would hand weights cast without gradients to passes that need them
        with torch.autocast(kind, cast_dtype, cast, cache_enabled=False), kept_random_state(self._device):
            return torch.stack(
                [zero if way is None else self._gradient(way, inputs, of_outputs, zero) for way in self._ways]
            )

    def _gradient(
        self,
        way: _Way,
        inputs: _Inputs,
        of_outputs: Sequence[torch.Tensor | None],
        zero: torch.Tensor,
    ) -> torch.Tensor:
        outputs = way.outputs(inputs)
        shapes = [output.shape for output in outputs]
        if shapes != self._shapes:
            raise ComponentError(
                f"choice `{self._choice_id}`: candidates must return tensors of the same shapes, got "
                f"{_spelled(self._shapes)} of one and {_spelled(shapes)} of another; change the space"
            )
        total = zero
        for output, gradient in zip(outputs, of_outputs, strict=True):
            if gradient is not None:
                total = total + (gradient.to(zero.dtype) * output.to(zero.dtype)).sum()
        return total


class _GateGradients(torch.autograd.Function):
    """Adds nothing to an output, and gives the gates their gradients.

    It stands beside the active path, not in it, so that a backward pass that leaves alpha out never
    comes here.
    """

    @staticmethod
    def forward(p: torch.Tensor, gates: _Gates, *saved: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return gates.nothing()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        p, ctx.gates, *saved = inputs
        ctx.dtype, ctx.num_saved = p.dtype, len(saved)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*saved)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_outputs: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        gradients = ctx.gates.gradients(ctx.saved_tensors, of_outputs, ctx.dtype)
        return gradients, None, *[None] * ctx.num_saved


@contextmanager
def _unnoticed(function: Callable[..., Any]) -> Iterator[None]:
    """Without gradients, and without a trace in a module's buffers."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if isinstance(function, nn.Module):
            stack.enter_context(unmoved(function))
        yield


def _spelled(shapes: Sequence[torch.Size]) -> str:
    return " and ".join(str(tuple(shape)) for shape in shapes) or "none"


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """What a view is a view of, or the tensor itself."""
    return tensor if tensor._base is None else tensor._base


def _floating(value: Any) -> list[torch.Tensor]:
    """The floating-point tensors of a nest, in order."""
    return [tensor for tensor in tensors_of(value) if tensor.is_floating_point()]


def _added(outputs: Sequence[Any]) -> Any:
    """The sum of nests of tensors; what is no tensor is taken from the first."""
    total, *others = outputs
    for other in others:
        total = map_tensors(partial(_next_added, iter(tensors_of(other))), total)
    return total


def _next_added(others: Iterator[torch.Tensor], tensor: torch.Tensor) -> torch.Tensor:
    return tensor + next(others)
