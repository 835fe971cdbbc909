"""The parts that a network runs through, with what they make of the shape of an input."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import nn

from nasframe.core.batch import tensors_of
from nasframe.core.block import Block
from nasframe.core.choice import Choice, InputChoice, LayerChoice, ValueChoice
from nasframe.core.filler import DerivedFiller, Filler
from nasframe.core.genotype import Genotype, cell_of
from nasframe.core.random_state import kept_random_state
from nasframe.core.space import Space
from nasframe.core.task import Task

_MOST: Final = 200


@final
@dataclass(frozen=True)
class Part:
    """A part of a network: a cell, the site of a choice, or what holds neither, such as the stem.

    Attributes:
        name: Where it is in the network.
        what: Its kind of cell, what its choice keeps, or its name, or its class.
        shape: Of its (last) output, without the batch.
        parameters: How many it has.
        is_chosen: Whether it follows from a choice.
    """

    name: str
    what: str
    shape: tuple[int, ...]
    parameters: int
    is_chosen: bool


def parts_of(space: Space, genotype: Genotype, task: Task) -> list[Part]:
    """The parts of an architecture's network in the order in which they run.

    Returns:
        Nothing where the network cannot be computed without numbers, or has too many for anyone to read.
    """
    filler = _Noting(DerivedFiller(genotype))
    with kept_random_state(torch.device("cpu")), torch.device("meta"):
        network = space.build(filler).eval().requires_grad_(False)
        found = list(_parts(network, "", filler))
        if len(found) > _MOST:
            return []
        shapes: dict[str, tuple[int, ...]] = {}
        hooks = [module.register_forward_hook(_note_shape(shapes, name)) for name, module, _ in found]
        try:
            network(task.blank(2))
        except Exception:  # a network that needs numbers may raise anything, and this is but a picture
            return []
        finally:
            for hook in hooks:
                hook.remove()
    called = {name: (module, what) for name, module, what in found}
    return [_part(name, *called[name], shape) for name, shape in shapes.items()]


def _part(name: str, module: nn.Module, what: str, shape: tuple[int, ...]) -> Part:
    parameters = sum(each.numel() for each in module.parameters())
    last = name.rpartition(".")[2]
    given = type(module).__name__.strip("_").lower() if last.isdecimal() else last
    return Part(name, what or given, shape, parameters, bool(what))


def _note_shape(shapes: dict[str, tuple[int, ...]], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def note(module: nn.Module, inputs: Any, outputs: Any) -> None:
        if tensors := list(tensors_of(outputs)):
            shapes[name] = tuple(tensors[-1].shape[1:])

    return note


def _parts(module: nn.Module, name: str, noted: "_Noting") -> Iterator[tuple[str, nn.Module, str]]:
    """Name, module, and what was chosen of each part; what only holds others, or nothing, is none itself."""
    if isinstance(module, nn.Sequential) and not len(module):  # the blocks that a depth leaves out
        return
    is_cell = isinstance(module, Block)
    inner = any(noted.holds(each) for each in module.modules() if each is not module)
    if name and (is_cell or not inner):
        yield name, module, noted.what(module)
        return
    for child, each in module.named_children():
        yield from _parts(each, f"{name}.{child}" if name else child, noted)


@final
class _Noting(Filler):
    """Asks another filler, and notes what stands where.

    Args:
        filler: The other one.
    """

    mixed = False

    def __init__(self, filler: DerivedFiller) -> None:
        self._filler = filler
        self._kept: dict[int, list[str]] = {}
        self._cells: dict[int, str] = {}
        self._all: list[nn.Module] = []  # so that no two have one id

    def holds(self, module: nn.Module) -> bool:
        """Whether a module is a part, or a choice decides it."""
        return id(module) in self._kept or isinstance(module, Block)

    def what(self, module: nn.Module) -> str:
        """What is kept there, or the kind of cell that choices within it are of; empty for neither."""
        if id(module) in self._kept:
            return " ".join(self._kept[id(module)])
        cells = (self._cells.get(id(each), "") for each in module.modules())
        return next(filter(None, cells), "")

    def layer(self, choice: LayerChoice, make: Callable[[str], nn.Module]) -> nn.Module:
        kept: list[str] = []

        def made(name: str) -> nn.Module:
            kept.append(name)
            return make(name)

        return self._noted(self._filler.layer(choice, made), choice, " + ".join(dict.fromkeys(kept)))

    def inputs(self, choice: InputChoice, make: Callable[[int], nn.Module]) -> nn.Module:
        return self._filler.inputs(choice, make)

    def subset(self, choice: InputChoice) -> tuple[int, ...]:
        return self._filler.subset(choice)

    def value(
        self,
        choice: ValueChoice,
        make: Callable[[int], nn.Module],
        *,
        narrow_input: bool = False,
        pad_output: bool = False,
    ) -> nn.Module:
        values: list[str] = []

        def made(value: int) -> nn.Module:
            values.append(f"{choice.id.partition('_')[0]} {value}")
            return make(value)

        return self._noted(self._filler.value(choice, made), choice, " ".join(values))

    def _noted(self, module: nn.Module, choice: Choice, what: str) -> nn.Module:
        self._all.append(module)
        self._kept.setdefault(id(module), []).append(what)
        self._cells[id(module)] = cell_of(choice.id)
        return module
