"""Model: a network together with what is searched in it, and its parameters by kind."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, cast, final, runtime_checkable

import torch
from torch import nn

from nasframe.core import parameter as parameter_kinds
from nasframe.core.architectures import Architectures
from nasframe.core.choice import Choice, InputChoice
from nasframe.core.genotype import Genotype
from nasframe.core.mixed_op import MixedOp, NoisySum, SampledOp, WeightedSum
from nasframe.core.parameter import Kind, Level
from nasframe.errors import UnsupportedError


@runtime_checkable
class Annealed(Protocol):
    """A module that changes over a stage, such as a temperature or a drop-path probability."""

    def anneal(self, progress: float) -> None:
        """Set the state for `progress`, the share of the stage's epochs that are done, 0 to 1."""


@final
class Model(nn.Module):
    """A supernet or a derived network: `network`, and one mixed op for each choice of a supernet.

    Args:
        network: Any module; computes the forward pass.
        choices: The choices of the search space by id, empty for a network without a search.
        mixed_ops: The mixed op of each choice that has one.
        conditions: By choice id the (choice, candidate) pairs around each of its sites; one that is not
            there is always in effect, one without a site never.
        decided: What stands where in a derived network.

    Attributes:
        progress: The share of the stage's epochs that are done, 0 to 1, as `anneal` was told.
        decided: Of a derived network, choice id, candidate and module of each site.
    """

    def __init__(
        self,
        network: nn.Module,
        choices: Mapping[str, Choice] | None = None,
        mixed_ops: Mapping[str, MixedOp] | None = None,
        conditions: Mapping[str, Collection[frozenset[tuple[str, str]]]] | None = None,
        decided: Iterable[tuple[str, str, nn.Module]] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.choices = dict(choices or {})
        self.mixed_ops = _MixedOps(mixed_ops or {})
        self._conditions = dict(conditions or {})
        self.decided = list(decided)
        self._autocast: torch.dtype | None = None
        self.progress = 0.0
        parameter_kinds.keep_kinds_on_load(self)
        self.kinds()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Model":
        """Move or convert; kinds stay where PyTorch makes new parameters (``to_empty``)."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        parameter_kinds.restore_kinds(self)
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What `network` returns, under autocast where `autocast` says so (forward only).

        In training each `NoisySum` draws anew before.
        """
        if self.training:
            self.draw_noise()
        if self._autocast is None:
            return self.network(*args, **kwargs)
        device = next(self.parameters()).device.type
        with torch.autocast(device, self._autocast):
            return self.network(*args, **kwargs)

    def autocast(self, dtype: torch.dtype | None) -> None:
        """Run each forward pass under autocast to `dtype`; None turns it off. Backward is outside."""
        self._autocast = dtype

    @property
    def precision(self) -> str:
        """What forward passes compute in: the type of autocast, or that of the parameters (``float32``)."""
        dtype = self._autocast or next((each.dtype for each in self.parameters()), torch.get_default_dtype())
        return str(dtype).removeprefix("torch.")

    def anneal(self, progress: float) -> None:
        """Tell every `Annealed` module how much of the stage is done, 0 to 1."""
        self.progress = progress
        for module in self.modules():
            # that of a class is remembered; there are thousands of modules, and few classes
            if module is not self and issubclass(type(module), Annealed):
                cast(Annealed, module).anneal(progress)

    def sample(self, generator: torch.Generator, num_paths: int | None = None) -> None:
        """Draw anew for each `SampledOp`, in the order of the choices; without one, do nothing.

        Args:
            generator: The only source of randomness, on the CPU.
            num_paths: See `SampledOp.draw`.
        """
        drawn = [op for op in self.mixed_ops.values() if isinstance(op, SampledOp)]
        if drawn:
            logits = [op.logits().detach() for op in drawn]
            on_cpu = torch.cat(logits).to("cpu", torch.float64)  # one transfer for all choices
            pieces = torch.split(on_cpu, [len(each) for each in logits])
            for op, logits_K in zip(drawn, pieces, strict=True):
                op.draw(logits_K, generator, num_paths)

    def take(self, genotype: Genotype) -> None:
        """Let each `SampledOp` run what an architecture keeps, until the next draw.

        A choice that the architecture leaves open runs a candidate that none may keep (``none``), where it
        has one.
        """
        for name, op in self.mixed_ops.items():
            if isinstance(op, SampledOp):
                choice = self.choices[name]
                others = choice.search_only[:1] or choice.derivable[: choice.num_chosen]
                op.take([choice.candidates.index(each) for each in genotype.choices.get(name, others)])

    def check_takes(self, where: str) -> None:
        """Refuse a supernet in which an architecture cannot run alone, by `take`.

        Args:
            where: Who wants it, for messages.

        Raises:
            UnsupportedError: A mixed op does not draw, or an input that is not kept cannot be left out.
        """
        for name, op in self.mixed_ops.items():
            if not isinstance(op, SampledOp):
                raise UnsupportedError(
                    f"{where}: each mixed op must draw its paths, but that of choice `{name}` is a "
                    f"{type(op).__name__}; build the supernet with one that draws, such as uniform_path"
                )
        for choice in self.choices.values():
            adds_all = isinstance(choice, InputChoice) and choice.id not in self.mixed_ops
            if not adds_all or choice.num_chosen == len(choice.derivable):
                continue
            for edge in choice.edges if isinstance(choice, InputChoice) else ():
                if not self.choices[edge].search_only:
                    raise UnsupportedError(
                        f"{where}: choice `{edge}` must have a candidate that stands in the search alone, "
                        f"such as `none`, so that a path of the supernet can leave out what `{choice.id}` "
                        "does not keep; give it to the space"
                    )

    def architectures(self) -> Architectures:
        """The architectures of the choices, to draw and to change."""
        return Architectures(self.choices, self._conditions)

    def draw_noise(self) -> None:
        """Draw anew for each `NoisySum`, in the order of the choices; without one, do nothing."""
        for op in self.mixed_ops.values():
            if isinstance(op, NoisySum):
                op.draw_noise()

    @property
    def draws(self) -> bool:
        """Whether training computes what is drawn, and evaluation something else (see `MixedOp`)."""
        return any(op.draws for op in self.mixed_ops.values())

    def mixtures(self) -> dict[str, torch.Tensor]:
        """The shares of the candidates in a pass that begins without a new draw, detached, by choice id.

        Raises:
            UnsupportedError: A mixed op is no `WeightedSum`.
        """
        with torch.no_grad():
            return {name: op.shares().detach() for name, op in self._weighted_sums().items()}

    @contextmanager
    def mixed_by(self, shares: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Inside, the candidates of some choices are mixed by other shares, of shape K by choice id.

        Backward passes belong inside too: a part that is `recomputed` runs forward again in them.

        Raises:
            UnsupportedError: A mixed op is no `WeightedSum`.
        """
        ops = self._weighted_sums()
        with ExitStack() as stack:
            for name, shares_K in shares.items():
                stack.enter_context(ops[name].fixed(shares_K))
            yield

    def _weighted_sums(self) -> dict[str, WeightedSum]:
        found = {}
        for name, op in self.mixed_ops.items():
            if not isinstance(op, WeightedSum):
                raise UnsupportedError(
                    f"mixed op of choice `{name}`: must be a weighted sum of its candidates, but is a "
                    f"{type(op).__name__}; build the supernet with one, such as softmax"
                )
            found[name] = op
        return found

    def kinds(self) -> tuple[str, ...]:
        """The kinds of parameter that occur, in order of appearance: disjoint, together all."""
        return parameter_kinds.kinds(self)

    def parameters_of(self, kind: str | Kind) -> Iterator[nn.Parameter]:
        """Each parameter of a kind, such as ``"alpha"`` or ``"weight"``, once."""
        return (parameter for _, parameter in self.named_parameters_of(kind))

    def named_parameters_of(self, kind: str | Kind) -> Iterator[tuple[str, nn.Parameter]]:
        """Each parameter of a kind once, with its qualified name."""
        return parameter_kinds.named_parameters_of(self, kind)

    def parameters_at(self, level: str | Level) -> Iterator[nn.Parameter]:
        """Each parameter of a level (``"upper"`` or ``"lower"``) once."""
        return (parameter for _, parameter in self.named_parameters_at(level))

    def named_parameters_at(self, level: str | Level) -> Iterator[tuple[str, nn.Parameter]]:
        """Each parameter of a level once, with its qualified name."""
        return parameter_kinds.named_parameters_at(self, level)

    def genotype(self, kept: Mapping[str, tuple[str, ...]]) -> Genotype:
        """The architecture in which each choice keeps `kept`.

        Choices that no site of it asks for are left out: edges of inputs that are not kept, and what is
        chosen within candidates that are not kept.
        """
        pairs = {(choice, name) for choice, names in kept.items() for name in names}
        return Genotype({choice: names for choice, names in kept.items() if self._in_effect(choice, pairs)})

    def decides(self, choice: str) -> bool:
        """Whether an architecture may say what a choice keeps, which is not so where it only weighs a sum."""
        return bool(self._conditions.get(choice, [frozenset()]))

    def _in_effect(self, choice: str, pairs: Collection[tuple[str, str]]) -> bool:
        conditions = self._conditions.get(choice, [frozenset()])
        return any(all(pair in pairs for pair in condition) for condition in conditions)

    def choice_weights(self) -> dict[str, torch.Tensor]:
        """The weights of the candidates of each choice that has a mixed op, detached, shape K."""
        with torch.no_grad():
            return {name: op.weights().detach() for name, op in self.mixed_ops.items()}


class _MixedOps(nn.Module):
    """Mixed ops by choice id; unlike ``nn.ModuleDict`` it takes any id (``keys``, ``pop``)."""

    def __init__(self, mixed_ops: Mapping[str, MixedOp]) -> None:
        super().__init__()
        self._modules.update(mixed_ops)

    def items(self) -> list[tuple[str, MixedOp]]:
        return [(name, op) for name, op in self._modules.items() if isinstance(op, MixedOp)]

    def values(self) -> list[MixedOp]:
        return [op for _, op in self.items()]

    def __contains__(self, choice_id: object) -> bool:
        return choice_id in self._modules

    def __getitem__(self, choice_id: str) -> MixedOp:
        op = self._modules[choice_id]
        assert isinstance(op, MixedOp)
        return op

    def __len__(self) -> int:
        return len(self._modules)

    def train(self, mode: bool = True) -> "_MixedOps":
        """Set the mode of each; PyTorch's own would trip over a choice that is called ``training``."""
        for op in self.values():
            op.train(mode)
        return self

    forward: Callable[..., Any]


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Inside, a model is in evaluation mode; then in the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
