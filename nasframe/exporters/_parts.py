"""A network as parts that are written down: layers of PyTorch, sequences of them, and classes of one's own.

Each module is traced by itself, with the modules in it as they are, so that parts stay parts. What is traced
is what runs in evaluation: whatever a module does in training alone is not there.
"""

import operator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

import torch
from torch import fx, nn

from nasframe.core import is_zero
from nasframe.errors import UnsupportedError
from nasframe.exporters._layers import Layer, layer_of
from nasframe.exporters._trace import OFF, Calls, Tracer, calls_of, entry_of, in_mode, tensor_at


@final
@dataclass(frozen=True)
class Sequence:
    """An ``nn.Sequential`` without names; `sites` are the modules that the parts stand for."""

    parts: tuple["Part", ...]
    sites: tuple[nn.Module, ...]


@final
@dataclass(frozen=True, eq=False)
class Own:
    """A module whose class has to be written.

    Attributes:
        module: The module.
        inputs: Names of what its forward takes.
        graph: What its forward does; calls modules by path.
        parts: The modules that it calls, by path, in the order in which they stand in it.
        tensors: The parameters and buffers that it reads itself, by path.
        names: What values of the graph are the results of, by path.
        num_outputs: Of a tuple that it returns; None for anything else.
        where: What it is called in messages.
    """

    module: nn.Module
    inputs: tuple[str, ...]
    graph: fx.Graph
    parts: dict[str, "Part"]
    tensors: dict[str, torch.Tensor]
    names: dict[fx.Node, str]
    num_outputs: int | None
    where: str


@final
class Titled(nn.Module):
    """A sequence that is to be a class."""

    def __init__(self, layers: nn.Sequential, title: str) -> None:
        super().__init__()
        self.layers, self.written_as = layers, title

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


@final
class Nothing:
    """A module that hands its input on."""


Part: TypeAlias = Layer | Sequence | Own | Nothing
NOTHING: Final = Nothing()


Decisions: TypeAlias = dict[nn.Module, list[tuple[str, str]]]
"""Choices, and what was chosen, by the module that stands for it."""


def parts_of(network: nn.Module, example: torch.Tensor, decisions: Decisions) -> Own:
    """The parts of a network in evaluation mode on the CPU.

    Args:
        network: Changes in its `training` for a while.
        example: Inputs.
        decisions: Give sequences their names; those of a sequence of one go over to what it is.

    Raises:
        UnsupportedError: A part cannot be traced; says which, and why.
    """
    with torch.no_grad():
        root = _Parts(network, calls_of(network, example), decisions).own(network)
    assert isinstance(root, Own)
    return root


_PURE: Final = frozenset({
    getattr, operator.getitem, operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv,
    operator.mod, operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge, operator.neg,
})  # fmt: skip
_OF_SHAPES: Final = frozenset({"size", "dim", "numel"})
_LONGEST_NAME: Final = 200


@final
class _Parts:
    """Makes parts of modules, each once.

    Args:
        network: All of them.
        calls: How each module is called.
        decisions: As for `parts_of`.
    """

    def __init__(self, network: nn.Module, calls: dict[nn.Module, Calls], decisions: Decisions) -> None:
        self._calls, self._decisions = calls, decisions
        self._paths = {module: name for name, module in network.named_modules()}
        # now, for while a module is traced, whoever looks at parameters is traced too
        self._layers = {module: layer_of(module) for module in self._paths}
        self._made: dict[nn.Module, Part] = {}

    def part(self, module: nn.Module) -> Part:
        if module not in self._made:
            self._made[module] = self._make(module)
        return self._made[module]

    def _make(self, module: nn.Module) -> Part:
        if type(module) is nn.Identity:
            return NOTHING
        if (layer := self._layers[module]) is not None:
            return layer
        if type(module) is nn.Sequential and all(name.isdigit() for name, _ in module.named_children()):
            return self._sequence(module)
        return self.own(module)

    def _sequence(self, module: nn.Sequential) -> Part:
        others = [each for each in module if type(each) is not nn.Sequential]
        left = [each for each in others if self.part(each) is not NOTHING]
        left += [each for each in module if type(each) is nn.Sequential]
        own = self._decisions.get(module, [])
        if len(left) == 1:
            self._decisions[left[0]] = [*own, *self._decisions.get(left[0], [])]
            part = self.part(left[0])
            self._decisions[module] = self._decisions[left[0]]
            return part
        sites = tuple(each for each in module if self.part(each) is not NOTHING)
        if not sites:
            return NOTHING
        sequence = Sequence(tuple(map(self.part, sites)), sites)
        names = [name for _, name in own if not name.isdigit()]
        return self._titled(module, sequence, names[-1]) if names else sequence

    def _titled(self, module: nn.Sequential, sequence: Sequence, title: str) -> Part:
        """A sequence as a class that has it."""
        self._made[module] = sequence  # what is in the class
        titled = Titled(module, title)
        self._layers[titled], self._paths[titled] = None, self._paths[module]
        self._calls[titled] = self._calls[module] = Calls(("x",), {}, True)
        return self.own(titled)

    def _is_part(self, module: nn.Module) -> bool:
        """Whether a call of the module can stand as a call of a part."""
        return self._layers[module] is not None or type(module) is nn.Identity or self._calls[module].alike

    def own(self, module: nn.Module) -> Part:
        """The part of a module whose class has to be written, or nothing."""
        call = self._calls[module]
        tracer = Tracer(call, self._is_part, entry_of(module))
        try:
            with in_mode(module, OFF):
                graph = tracer.trace(module)
            paths = [str(node.target) for node in graph.nodes if node.op == "call_module"]
            children = {path: module.get_submodule(path) for path in paths}
        except Exception as error:  # it runs the module's own code
            raise refused(self._where(module), f"{type(error).__name__}: {error}") from error
        parts: dict[str, Part] = {}
        for node in list(graph.nodes):
            if node.op == "call_module":
                part = self.part(children[str(node.target)])
                if part is NOTHING:
                    node.replace_all_uses_with(node.all_input_nodes[0])
                    graph.erase_node(node)
                else:
                    parts[str(node.target)] = part
        _leave_out_zeros(graph, module)
        for node in reversed(graph.nodes):
            if not node.users and (node.target in _PURE or node.target in _OF_SHAPES):
                graph.erase_node(node)
        (output,) = [node for node in graph.nodes if node.op == "output"]
        if (
            self._paths[module]
            and len(call.inputs) == 1
            and getattr(output.args[0], "op", "") == "placeholder"
        ):
            return NOTHING
        called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
        order = {name: None for name, _ in module.named_modules(remove_duplicate=False) if name in called}
        tensors = {
            str(node.target): tensor_at(module, str(node.target)) for node in graph.find_nodes(op="get_attr")
        }
        return Own(
            module, call.inputs, graph, {path: parts[path] for path in order}, tensors, tracer.names,
            call.num_outputs, self._where(module),
        )  # fmt: skip

    def _where(self, module: nn.Module) -> str:
        if not self._paths[module]:
            return "the network"
        return " ".join(f"`{self._paths[module]}` ({type(module).__name__})".split())[:_LONGEST_NAME]


def refused(where: str, reason: str) -> UnsupportedError:
    """What is told of a part that cannot be written."""
    return UnsupportedError(
        f"source: {where} cannot be written as plain PyTorch: {' '.join(reason.split())}; let its forward "
        "use tensors and modules without asking for their values, or export as onnx or torch_export"
    )


def _leave_out_zeros(graph: fx.Graph, module: nn.Module) -> None:
    """Add no zeros, and compute nothing for them."""

    def adds_nothing(node: Any) -> bool:
        is_call = isinstance(node, fx.Node) and node.op == "call_module"
        return is_call and is_zero(module.get_submodule(str(node.target)))

    idle: list[fx.Node] = []
    gone: set[fx.Node] = set()
    for node in list(graph.nodes):
        if node.target is operator.add:
            left, right = node.args
            if adds_nothing(left) or adds_nothing(right):
                kept, left_out = (right, left) if adds_nothing(left) else (left, right)
                node.replace_all_uses_with(kept)
                graph.erase_node(node)
                idle.append(left_out)
    while idle:
        node = idle.pop()
        is_pure = node.op == "call_module" or node.target is operator.add
        if is_pure and not node.users and node not in gone:
            idle += node.all_input_nodes
            graph.erase_node(node)
            gone.add(node)
