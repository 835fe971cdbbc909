"""Prices: the cost of every architecture of a space as a sum over its choices, and its expectation."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from types import MappingProxyType
from typing import Any, final

import torch
from torch import nn

from nasframe.core.batch import first_tensor, map_tensors, tensors_of
from nasframe.core.choice import Choice, InputChoice, LayerChoice, ValueChoice
from nasframe.core.cost import Cost
from nasframe.core.filler import Filler, Given, Nesting
from nasframe.core.genotype import Genotype
from nasframe.core.json_text import read_json
from nasframe.core.kept import keep_probabilities
from nasframe.core.mixed_op import SumOfInputs
from nasframe.core.model import Model
from nasframe.core.sharing import narrowed, padded
from nasframe.core.space import Space
from nasframe.core.task import Task
from nasframe.errors import FormatError, UnsupportedError

_FORMAT = "nasframe.prices"
_VERSION = 1


@final
@dataclass(frozen=True)
class Prices:
    """What a network, or a candidate in one, costs: a fixed part, and one for each of its choices.

    Attributes:
        fixed: The cost of what stands in every architecture.
        choices: By choice id, then by candidate in the order of the alpha: the prices of the
            candidate, added up over the sites of the choice. Where several choices decide one cost
            (a convolution between two widths), those of one lie in those of the other.
        prunable: Ids of choices that a genotype need not decide: edges of an input choice, which a
            derived network loses together with the input.
    """

    fixed: float
    choices: Mapping[str, Mapping[str, "Prices"]] = field(default_factory=dict)
    prunable: frozenset[str] = frozenset()

    def to_json(self) -> str:
        """The JSON text that `from_json` reads; numbers come back bit by bit."""
        return json.dumps({"format": _FORMAT, "version": _VERSION, **self._plain()}, indent=1) + "\n"

    def _plain(self) -> dict[str, Any]:
        choices = {
            choice: {name: prices._plain() for name, prices in candidates.items()}
            for choice, candidates in self.choices.items()
        }
        parts = {"fixed": self.fixed, "choices": choices, "prunable": sorted(self.prunable)}
        return {key: part for key, part in parts.items() if key == "fixed" or part}

    @classmethod
    def from_json(cls, text: str) -> "Prices":
        """Read what `to_json` wrote.

        Raises:
            FormatError: It is nothing of that sort, or of another version.
        """
        try:
            plain = read_json(text, "prices")
            if (plain.pop("format"), plain.pop("version")) != (_FORMAT, _VERSION):
                raise ValueError(f"must have format {_FORMAT}, version {_VERSION}")
            return cls._of_plain(plain)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"prices: must be what nasframe wrote: {error}") from error

    @classmethod
    def _of_plain(cls, plain: Mapping[str, Any]) -> "Prices":
        choices = {
            choice: MappingProxyType({name: cls._of_plain(each) for name, each in candidates.items()})
            for choice, candidates in plain.get("choices", {}).items()
        }
        fixed, prunable = plain["fixed"], plain.get("prunable", [])
        if type(fixed) not in (int, float):
            raise ValueError(f"a price must be a number, got {fixed!r:.80}")
        if not isinstance(prunable, list) or not all(isinstance(name, str) for name in prunable):
            raise ValueError(f"`prunable` must be a list of choice ids, got {prunable!r:.80}")
        return cls(fixed, MappingProxyType(choices), frozenset(prunable))

    def of(self, genotype: Genotype) -> float:
        """The cost of one architecture.

        Raises:
            FormatError: The genotype leaves a choice open, or keeps what is not among its candidates.
        """
        return self.fixed + sum(
            candidates[name].of(genotype)
            for choice, candidates in self.choices.items()
            for name in self._kept(genotype, choice)
        )

    def shares(self, genotype: Genotype) -> dict[tuple[str, str], float]:
        """What of the cost of an architecture lies with each candidate that it keeps, by choice and name.

        What several choices decide lies with the innermost. With the fixed part the shares add up to the
        whole.

        Raises:
            FormatError: As `of`.
        """
        found: dict[tuple[str, str], float] = {}
        for choice, candidates in self.choices.items():
            for name in self._kept(genotype, choice):
                inner = candidates[name].shares(genotype)
                for pair, cost in [((choice, name), candidates[name].fixed), *inner.items()]:
                    found[pair] = found.get(pair, 0.0) + cost
        return found

    def _kept(self, genotype: Genotype, choice: str) -> tuple[str, ...]:
        kept, candidates = genotype.choices.get(choice, ()), self.choices[choice]
        if any(name not in candidates for name in kept) or not (kept or choice in self.prunable):
            raise FormatError(
                f"genotype: choice `{choice}` must keep some of {list(candidates)}, got {list(kept)}; "
                "is it the genotype of another space?"
            )
        return kept

    def expected(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """E[cost] = fixed + Σ_choices Σ_k p_k cost_k, a scalar (Cai et al. 2019, section 3.3.1).

        The gradient in p_k is cost_k. Choices count as independent of each other, and a cost that several
        decide counts with the product of their weights.

        Args:
            weights: By choice id the probability p_k that each candidate is kept, of shape K.

        Raises:
            UnsupportedError: A choice has no weights, or not one a candidate.
        """
        total = torch.tensor(self.fixed, dtype=torch.float64)
        for choice, candidates in self.choices.items():
            weights_K = weights.get(choice)
            if weights_K is None or weights_K.shape != (len(candidates),):
                got = "none" if weights_K is None else f"a shape of {tuple(weights_K.shape)}"
                raise UnsupportedError(
                    f"expected cost: choice `{choice}` must have {len(candidates)} weights, got {got}; "
                    "give those of the supernet of the space that was priced"
                )
            total = total.to(weights_K) + weights_K @ _costs(candidates, weights).to(weights_K)
        return total


def _costs(candidates: Mapping[str, Prices], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What each candidate costs, of shape K; one with choices inside as expected over these."""
    if any(prices.choices for prices in candidates.values()):
        parts = [prices.expected(weights) for prices in candidates.values()]
        return torch.stack([part.to(parts[0]) for part in parts])
    return torch.tensor([prices.fixed for prices in candidates.values()], dtype=torch.float64)


def expected_cost(model: Model, prices: Prices) -> torch.Tensor:
    """The expected cost of what a supernet prefers, differentiable in the alphas of any mixed op.

    The expectation is over derived networks: each genotype as probable as the product of the weights of
    what it keeps. Where choices keep one candidate each this is Σ p_k cost_k over choices (Cai et al.
    2019, section 3.3.1); ``none``, which is never kept, takes no part. An edge that a node may lose
    (DARTS keeps two inputs) counts as often as it is kept; see `keep_probabilities`.

    Args:
        model: The supernet, with any mixed op.
        prices: Those of its space.

    Returns:
        A scalar.

    Raises:
        UnsupportedError: `prices` are not those of the supernet's space.
    """
    weights = {choice: op.weights() for choice, op in model.mixed_ops.items()}
    return prices.expected(keep_probabilities(model.choices, weights))


def price(space: Space, task: Task, cost: Cost) -> Prices:
    """Price each candidate of a space at each of its sites, as it stands in a derived network.

    One pass on the meta device shows every site its inputs; nothing of real size is computed.

    Args:
        space: Where is searched.
        task: Its inputs have the shape that is priced.
        cost: Must be a sum over the parts of a network.

    Raises:
        UnsupportedError: The cost is no such sum, or the space is none that can be priced choice by
            choice: a site is called twice or never, candidates of one site return different shapes,
            or a choice keeps several candidates (inputs with edges excepted).
    """
    filler = _PricingFiller()
    with torch.device("meta"), torch.no_grad():
        network = space.build(filler).eval()
        inputs = task.blank(1)
        network(inputs)
    filler.check_called()
    prices = _price(cost, network, (inputs,), {})
    return Prices(prices.fixed, prices.choices, frozenset(filler.prunable))


def _price(cost: Cost, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Prices:
    fixed = Prices(cost.of_call(module, *args, **kwargs))
    sites = (site for site in module.modules() if isinstance(site, _Site))
    return reduce(_plus, (site.price(cost) for site in sites), fixed)


def _plus(one: Prices, other: Prices) -> Prices:
    """The prices of two parts together."""
    choices = dict(one.choices)
    for choice, candidates in other.choices.items():
        before = choices.get(choice)
        choices[choice] = {
            name: prices if before is None else _plus(before[name], prices)
            for name, prices in candidates.items()
        }
    return Prices(one.fixed + other.fixed, MappingProxyType(choices))


@final
class _Site(nn.Module):
    """A site that shows its inputs to its candidates once, and then costs nothing.

    Candidates are no submodules, so that what stands around the site is priced without them.

    Args:
        choice: What is chosen.
        candidates: By name, as they stand in a derived network.
        in_channels: To how many channels the input of each candidate is cut, where it is.
        out_channels: Up to how many channels outputs get zeros, if they do.
    """

    def __init__(
        self,
        choice: Choice,
        candidates: Mapping[str, nn.Module],
        in_channels: Mapping[str, int] | None = None,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.choice, self._candidates = choice, candidates
        self._in_channels, self._out_channels = in_channels or {}, out_channels
        self.num_calls, self._hole = 0, None
        self.between: Callable[[Any, Any], Any] | None = None  # stands in it, of inputs and zeros

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.num_calls == 0:
            self._args = {name: narrowed(args, self._in_channels.get(name)) for name in self._candidates}
            self._kwargs = kwargs
            outputs = [each(*self._args[name], **kwargs) for name, each in self._candidates.items()]
            outputs = [padded(output, self._out_channels) for output in outputs]
            self._check_shapes(outputs)
            self._output = outputs[0]
        self.num_calls += 1
        nothing = self._nothing(first_tensor(args or kwargs).device)
        return nothing if self.between is None else self.between((args, kwargs), nothing)

    def _nothing(self, device: torch.device) -> Any:
        """Zeros like a candidate's output, made once, so that a cost in time is not that of making them."""
        if self._hole is None or first_tensor(self._hole).device != device:
            self._hole = map_tensors(partial(torch.zeros_like, device=device), self._output)
        return self._hole

    def _check_shapes(self, outputs: Iterable[Any]) -> None:
        shapes = [_shapes(output) for output in outputs]
        if any(shape != shapes[0] for shape in shapes):
            raise UnsupportedError(
                f"prices: all candidates of choice `{self.choice.id}` must return the same shapes, got "
                f"{shapes}; what comes after it would cost another amount after each"
            )

    def price(self, cost: Cost) -> Prices:
        """The prices of this choice; call it after the site was called."""
        priced = {
            name: _price(cost, candidate, self._args[name], self._kwargs)
            for name, candidate in self._candidates.items()
        }
        return Prices(0.0, MappingProxyType({self.choice.id: MappingProxyType(priced)}))


@final
class Opened(nn.Module):
    """A part of a network with its sites as inputs and outputs, for what compiles graphs.

    That would leave out what leads up to a site, which hands nothing on, and compute what follows from the
    zeros in it once and for all.

    Args:
        module: Such as a cost is given; it was called before.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._sites = [each for each in module.modules() if isinstance(each, _Site)]

    def holes(self, device: torch.device) -> list[torch.Tensor]:
        """What stands in the sites: zeros."""
        return [tensor for site in self._sites for tensor in tensors_of(site._nothing(device))]

    def forward(
        self, holes: Sequence[torch.Tensor], args: Any, kwargs: Mapping[str, Any]
    ) -> tuple[torch.Tensor, ...]:
        """Tensors that sites were given, except those of `holes`, and those of the output."""
        given, left = list[torch.Tensor](), iter(holes)
        standing = {id(site): [next(left) for _ in tensors_of(site._hole)] for site in self._sites}

        def between(site: "_Site", inputs: Any, nothing: Any) -> Any:
            given.extend(tensors_of(inputs))
            mine = iter(standing[id(site)])
            return map_tensors(lambda _: next(mine), nothing)

        for site in self._sites:
            site.between = partial(between, site)
        try:
            output = tensors_of(self.module(*args, **kwargs))
        finally:
            for site in self._sites:
                site.between = None
        inner = {id(hole) for hole in holes}
        return tuple(each for each in (*given, *output) if id(each) not in inner)


def _shapes(output: Any) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    map_tensors(note, output)
    return shapes


@final
class _Branch(nn.Module):
    """A branch of a choice of inputs, as a candidate that is given all states."""

    def __init__(self, branch: nn.Module, index: int) -> None:
        super().__init__()
        self.branch, self._index = branch, index

    def forward(self, states: Any) -> Any:
        return self.branch(states[self._index])


@final
class _PricingFiller(Filler):
    """Puts at each site all candidates, as they stand in a derived network."""

    mixed = False

    def __init__(self) -> None:
        self._nesting = Nesting()
        self._sites: list[_Site] = []
        self.prunable: set[str] = set()

    def layer(self, choice: LayerChoice, make: Callable[[str], nn.Module]) -> nn.Module:
        return self._site(choice, {name: self._made(choice, name, make, name) for name in choice.candidates})

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        named = {name: self._made(choice, name, make, i) for i, name in enumerate(choice.candidates)}
        branches = list(named.values())
        self.prunable.update(choice.edges)
        if choice.edges or choice.num_chosen == len(branches):
            return SumOfInputs(branches, range(len(branches)))
        return self._site(
            choice, {name: _Branch(branch, i) for i, (name, branch) in enumerate(named.items())}
        )

    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        return tuple(range(len(choice.candidates)))

    def value(
        self,
        choice: ValueChoice,
        make: Callable[[int], nn.Module],
        *,
        narrow_input: bool = False,
        pad_output: bool = False,
    ) -> nn.Module:
        values = dict(zip(choice.candidates, choice.values, strict=True))
        candidates = {name: self._made(choice, name, make, value) for name, value in values.items()}
        in_channels = values if narrow_input else None
        return self._site(choice, candidates, in_channels, max(choice.values) if pad_output else None)

    def _made(self, choice: Choice, name: str, make: Callable[[Given], nn.Module], given: Given) -> nn.Module:
        with self._nesting.inside(choice, name):
            return make(given)

    def _site(
        self,
        choice: Choice,
        candidates: dict[str, nn.Module],
        in_channels: Mapping[str, int] | None = None,
        out_channels: int | None = None,
    ) -> _Site:
        self._nesting.note(choice)
        if choice.num_chosen > 1:
            raise UnsupportedError(
                f"prices: choice `{choice.id}` must keep one candidate, got {choice.num_chosen}; how often "
                "each of several is kept does not follow from their weights"
            )
        candidates = {name: each.eval() for name, each in candidates.items()}
        self._sites.append(_Site(choice, candidates, in_channels, out_channels))
        return self._sites[-1]

    def check_called(self) -> None:
        """Refuse a network whose cost is not the sum of one call of each site."""
        for site in self._sites:
            if site.num_calls != 1:
                raise UnsupportedError(
                    f"prices: each site of choice `{site.choice.id}` must be called once in a forward "
                    f"pass, got {site.num_calls} calls"
                )
