"""Mixed ops: how the candidates of one choice become one output in the supernet."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import nn

from nasframe.core.block import Block
from nasframe.core.choice import Choice
from nasframe.core.parameter import Kind
from nasframe.errors import UnsupportedError
from nasframe.registry import Registry

Candidate = Callable[..., Any]


class MixedOp(nn.Module, ABC):
    """The mixture of one choice; one instance a choice, shared by every site of that choice.

    It owns the parameters of the choice (an `ArchParam` each) and whatever is drawn for it; the
    candidates belong to the sites.

    Attributes:
        makes: The kinds of parameter that it makes.
        draws: Whether passes in training mode compute what is drawn, and those in evaluation mode something
            else: running statistics of batch norms are then of many networks, and validation takes its own.
    """

    makes: ClassVar[tuple[Kind, ...]] = ()
    draws: ClassVar[bool] = False

    @abstractmethod
    def weights(self) -> torch.Tensor:
        """The weight of each candidate after this op's own normalization, of shape K."""

    @abstractmethod
    def forward(self, candidates: Sequence[Candidate], *args: Any, **kwargs: Any) -> Any:
        """Mix what the candidates make of the arguments."""


class SampledOp(MixedOp):
    """A mixed op whose passes in training mode run drawn candidates alone.

    What is drawn is drawn by `Model.sample`.

    Args:
        choice: What is drawn among; one that keeps several candidates has as many drawn, without replacement.

    Attributes:
        alpha: Its parameter, of shape K; one that draws uniformly has none.
        temperature: What alpha is divided by before the softmax.
    """

    draws: ClassVar[bool] = True
    alpha: nn.Parameter
    temperature: float

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self._choice = choice
        self._drawn: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def logits(self) -> torch.Tensor:
        """What the softmax is taken of: alpha / temperature, of shape K."""
        return self.alpha / self.temperature

    def weights(self) -> torch.Tensor:
        return torch.softmax(self.logits(), dim=0)

    @property
    def paths(self) -> tuple[int, ...]:
        """The candidates that the last draw was among: those whose gates have gradients."""
        return self._draw_of_now()[0]

    @property
    def active(self) -> tuple[int, ...]:
        """The candidates that run since the last draw, in the order in which they were drawn."""
        return self._draw_of_now()[1]

    def _draw_of_now(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self._drawn is None:
            raise UnsupportedError(
                f"{type(self).__name__}: choice `{self._choice.id}` must be drawn before it runs in training "
                "mode, but never was; call `model.sample(generator)`, or search with an algorithm that "
                "draws, such as proxyless or single_path"
            )
        return self._drawn

    def draw(self, logits_K: torch.Tensor, generator: torch.Generator, num_paths: int | None = None) -> None:
        """Draw what all sites of the choice run until the next draw.

        Args:
            logits_K: The present `logits`, as float64 on the CPU: equal generators draw the same on
                every device and rank.
            generator: The only source of randomness, on the CPU.
            num_paths: Draw so many distinct candidates first (one more for each further candidate that
                the choice keeps), and the active ones among these; all candidates by default.
        """
        paths, num_chosen = tuple(range(len(logits_K))), self._choice.num_chosen
        if num_paths is not None and (count := num_paths + num_chosen - 1) < len(paths):
            paths = tuple(sorted(_distinct(logits_K, paths, count, generator)))
        self._drawn = paths, _distinct(logits_K, paths, num_chosen, generator)

    def take(self, active: Sequence[int]) -> None:
        """Let all sites of the choice run these candidates until the next draw, as many as it keeps."""
        logits_K = torch.full((len(self.weights()),), -torch.inf, dtype=torch.float64, device="cpu")
        logits_K[list(active)] = 0
        self.draw(logits_K, torch.Generator().manual_seed(0))

    @abstractmethod
    def log_probability(self) -> torch.Tensor:
        """Logarithm of the probability that `active` is drawn among all; differentiable in alpha."""


class WeightedSum(MixedOp):
    """A mixed op that adds up all candidates, each times its share, and does nothing else.

    Sites of such an op may be computed together (see `FusedSum`). A candidate that is always zero is
    not computed.
    """

    _fixed: torch.Tensor | None = None

    @abstractmethod
    def mixture(self) -> torch.Tensor:
        """What each candidate is multiplied with in this pass of this site, of shape K; differentiable."""

    @final
    def shares(self) -> torch.Tensor:
        """The `mixture`, or what is `fixed` in its place."""
        return self.mixture() if self._fixed is None else self._fixed

    @final
    @contextmanager
    def fixed(self, shares_K: torch.Tensor) -> Iterator[None]:
        """Inside, candidates are multiplied with `shares_K`; backward passes belong inside too."""
        before, self._fixed = self._fixed, shares_K
        try:
            yield
        finally:
            self._fixed = before

    def forward(self, candidates: Sequence[Candidate], *args: Any, **kwargs: Any) -> Any:
        shares_K = self.shares()
        computed = [index for index, candidate in enumerate(candidates) if not is_zero(candidate)]
        if not computed:
            return candidates[0](*args, **kwargs)
        return total_of([shares_K[index] * candidates[index](*args, **kwargs) for index in computed])


class NoisySum(WeightedSum):
    """A weighted sum whose mixture is drawn: once before each training pass, for all sites of the choice.

    What is drawn is a buffer, so that whoever runs a pass again finds it. The random numbers are those of
    the global random state: passes that begin in equal states draw the same.
    """

    draws: ClassVar[bool] = True

    @abstractmethod
    def draw_noise(self) -> None:
        """Draw what `mixture` is made with until the next draw; a `Model` in training does it."""


def _distinct(
    logits_K: torch.Tensor, among: tuple[int, ...], count: int, generator: torch.Generator
) -> tuple[int, ...]:
    """Distinct indices, drawn one after the other by the softmax of their logits.

    The largest after adding Gumbel noise: the same distribution as drawing without replacement, and
    no probability underflows to 0.
    """
    noise = torch.empty(len(among), dtype=torch.float64).exponential_(generator=generator)
    order = (logits_K[list(among)] - noise.log()).argsort(descending=True)[:count]
    return tuple(among[position] for position in order.tolist())


mixed_ops: Registry[MixedOp] = Registry("mixed_ops", MixedOp, given=("choice",))

MakeMixedOp = Callable[[Choice], MixedOp]


def is_zero(candidate: Candidate) -> bool:
    """Whether a candidate declares (``always_zero = True``) that it returns zeros of its siblings' shape."""
    return bool(getattr(candidate, "always_zero", False))


def is_skip(candidate: Candidate) -> bool:
    """Whether a candidate is a skip connection.

    It is an ``nn.Identity``, or declares (``passes_on = True``) that it hands its input on but for its shape
    or for what training drops of it, or is an ``nn.Sequential`` of such parts.
    """
    if type(candidate) is nn.Sequential:
        return all(map(is_skip, candidate))
    return isinstance(candidate, nn.Identity) or bool(getattr(candidate, "passes_on", False))


@final
class MixedLayer(Block):
    """A site of a layer or value choice in the supernet: its own candidates, the choice's mixed op."""

    def __init__(self, mixed_op: MixedOp, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)
        self._mixed_op = (mixed_op,)  # in a tuple, because the model owns it: one entry in state_dict

    @property
    def mixed_op(self) -> MixedOp:
        """The mixed op of the choice, which the model owns."""
        return self._mixed_op[0]

    def calls(self) -> Sequence[nn.Module]:
        return self._mixed_op

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        return self._mixed_op[0](list(self.candidates), *args, **kwargs)


@final
class MixedInput(Block):
    """A site of an input choice in the supernet: each state through its branch, then mixed."""

    def __init__(self, mixed_op: MixedOp, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self._mixed_op = (mixed_op,)

    def calls(self) -> Sequence[nn.Module]:
        return self._mixed_op

    def compute(self, states: Sequence[torch.Tensor]) -> Any:
        inputs = zip(self.branches, states, strict=True)
        return self._mixed_op[0]([partial(branch, state) for branch, state in inputs])


@final
class SumOfInputs(Block):
    """Adds up what the branches make of their states.

    Args:
        branches: One module for each kept state.
        indices: Which state each branch reads.
    """

    def __init__(self, branches: Sequence[nn.Module], indices: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.indices = tuple(indices)

    def compute(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        inputs = zip(self.branches, self.indices, strict=True)
        return total_of([branch(states[index]) for branch, index in inputs])


@final
class SumOfLayers(Block):
    """Adds up what several kept candidates make of one input."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def compute(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return total_of([layer(*args, **kwargs) for layer in self.layers])


def total_of(outputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of at least one tensor."""
    total = outputs[0]
    for output in outputs[1:]:
        total = total + output
    return total
