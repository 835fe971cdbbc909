"""A network as parts that are written down: layers of PyTorch, sequences of them, and classes of one's own.

Each module is traced by itself, with the modules in it as they are, so that parts stay parts. What is traced
is what runs in evaluation: whatever a module does in training alone is not there.
"""

import inspect
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, final

import torch
from torch import fx, nn

from nasframe.core import Block, ExactBatchNorm2d, is_zero
from nasframe.core.depthwise import is_conv2d
from nasframe.errors import UnsupportedError


@final
@dataclass(frozen=True)
class Layer:
    """A module of ``torch.nn``.

    Attributes:
        module: The module.
        made_by: The class that makes it.
        settings: What the class is given, by name.
        defaults: What it takes by itself.
    """

    module: nn.Module
    made_by: str
    settings: dict[str, Any]
    defaults: dict[str, Any]


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
        root = _Parts(network, _calls(network, example), decisions).own(network)
    assert isinstance(root, Own)
    return root


@final
@dataclass
class _Calls:
    """How a module was called.

    Attributes:
        inputs: Names of the tensors that it took.
        constants: What else it took, by name.
        alike: Whether all calls were of this form, which a method can have.
        shapes: Of the inputs, with their types.
        num_outputs: Of a tuple that it returned.
    """

    inputs: tuple[str, ...]
    constants: dict[str, Any]
    alike: bool
    shapes: tuple[tuple[torch.Size, torch.dtype], ...] = field(default=(), compare=False)
    num_outputs: int | None = None


def _entry(module: nn.Module) -> str:
    """The method that says what a module computes."""
    return "compute" if isinstance(module, Block) else "forward"


def _calls(network: nn.Module, example: torch.Tensor) -> dict[nn.Module, _Calls]:
    """Run a network, and note how each of its modules is called."""
    found: dict[nn.Module, _Calls] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        bound = inspect.signature(getattr(module, _entry(module))).bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        inputs = tuple(name for name, value in given.items() if isinstance(value, torch.Tensor))
        constants = {name: value for name, value in given.items() if name not in inputs}
        plain = all(map(_is_plain, constants.values())) and not bound.kwargs and _is_nest(output)
        shapes = tuple((given[name].shape, given[name].dtype) for name in inputs)
        num_outputs = len(output) if isinstance(output, tuple) else None
        call = _Calls(inputs, constants, plain, shapes, num_outputs)
        first = found.setdefault(module, call)
        first.alike = first.alike and call == first

    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in network.modules()]
    try:
        network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _is_nest(value: Any) -> bool:
    """Whether something is a tensor, or a tuple, list or dict of such."""
    if type(value) in (tuple, list, dict):
        return all(map(_is_nest, value.values() if isinstance(value, dict) else value))
    return isinstance(value, torch.Tensor)


@final
class _Off(int):
    """``training`` of a module in evaluation, which shows where a traced function is given it."""


OFF: Final = _Off(0)
_PURE: Final = frozenset({
    getattr, operator.getitem, operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv,
    operator.mod, operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge, operator.neg,
})  # fmt: skip
_LONGEST_NAME: Final = 200
_OF_SHAPES: Final = frozenset({"size", "dim", "numel"})


@contextmanager
def _in_mode(network: nn.Module, mode: Any) -> Iterator[None]:
    """Inside, `training` of all modules is something."""
    before = {module: module.training for module in network.modules()}
    try:
        for module in before:
            module.training = mode
        yield
    finally:
        for module, was in before.items():
            module.training = was


@final
class _Tracer(fx.Tracer):
    """Follows one module, and into those in it only that cannot be parts by themselves."""

    proxy_buffer_attributes = True

    def __init__(self, call: _Calls, is_part: Callable[[nn.Module], bool], entry: str) -> None:
        super().__init__()
        self._call, self._is_part = call, is_part
        self.traced_func_name = entry
        self._values: dict[fx.Node, Any] = {}
        self._is_computing = False
        self.names: dict[fx.Node, str] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self._is_part(m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._is_computing:
            return forward(*args, **kwargs)
        made = super().call_module(m, forward, args, kwargs)
        if isinstance(made, fx.Proxy):
            self.names[made.node] = self.path_of_module(m)
        return made

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._is_computing else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Decide a condition that follows from shapes alone, as it was in the calls."""
        self._is_computing = True
        try:
            with _in_mode(self.root, False):
                value = self._value(obj.node)
        finally:
            self._is_computing = False
        return value if type(value) is bool else super().to_bool(obj)

    def _value(self, node: fx.Node) -> Any:
        """What a node computes of zeros; nothing that a value of a tensor decides."""
        if node not in self._values:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._value)
            made: Any = None
            if node.op == "placeholder":
                shape, dtype = self._call.shapes[self._call.inputs.index(str(node.target))]
                made = torch.zeros(shape, dtype=dtype)
            elif node.op == "get_attr":
                made = _tensor(self.root, str(node.target))
            elif node.op == "call_module":
                made = self.root.get_submodule(str(node.target)).forward(*args, **kwargs)
            elif node.op == "call_method" and node.target not in ("item", "tolist"):
                made = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            elif node.op == "call_function" and callable(node.target):
                made = node.target(*args, **kwargs)
            self._values[node] = made
        return self._values[node]

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        proxies = {name: self.create_proxy("placeholder", name, (), {}) for name in self._call.inputs}

        def called(root: nn.Module) -> Any:
            return root_fn(root, **proxies, **self._call.constants)

        return called, [self.root]


@final
class _Parts:
    """Makes parts of modules, each once.

    Args:
        network: All of them.
        calls: How each module is called.
        decisions: As for `parts_of`.
    """

    def __init__(self, network: nn.Module, calls: dict[nn.Module, _Calls], decisions: Decisions) -> None:
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
        self._calls[titled] = self._calls[module] = _Calls(("x",), {}, True)
        return self.own(titled)

    def _is_part(self, module: nn.Module) -> bool:
        """Whether a call of the module can stand as a call of a part."""
        return self._layers[module] is not None or type(module) is nn.Identity or self._calls[module].alike

    def own(self, module: nn.Module) -> Part:
        """The part of a module whose class has to be written, or nothing."""
        call = self._calls[module]
        tracer = _Tracer(call, self._is_part, _entry(module))
        try:
            with _in_mode(module, OFF):
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
                    node.replace_all_uses_with(node.args[0])
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
            str(node.target): _tensor(module, str(node.target)) for node in graph.find_nodes(op="get_attr")
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


def _tensor(module: nn.Module, path: str) -> torch.Tensor:
    parent, _, name = path.rpartition(".")
    tensor = getattr(module.get_submodule(parent), name)
    assert isinstance(tensor, torch.Tensor)
    return tensor


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


def layer_of(module: nn.Module) -> Layer | None:
    """A module as what makes it anew, where it is one of ``torch.nn`` or says that it computes the same."""
    made_by = type(module)
    if is_conv2d(module):
        made_by = nn.Conv2d
    elif made_by is ExactBatchNorm2d:
        made_by = nn.BatchNorm2d
    if getattr(nn, made_by.__name__, None) is not made_by:
        return None
    takes = list(inspect.signature(made_by).parameters.values())
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in takes):
        return None
    settings: dict[str, Any] = {}
    for each in takes:
        if each.name in ("device", "dtype") or each.name.startswith("_"):
            continue
        value = getattr(module, each.name, each.default)
        if isinstance(value, torch.Tensor) or (each.name == "bias" and value is None):
            value = value is not None
        settings[each.name] = value
    if not all(map(_is_plain, settings.values())):
        return None
    defaults = {each.name: each.default for each in takes}
    brief = {name: _brief(value) for name, value in settings.items()}
    for candidate in (brief, settings):
        if _is_alike(made_by, candidate, module):
            return Layer(module, f"nn.{made_by.__name__}", candidate, defaults)
    return None


def _brief(value: Any) -> Any:
    """One number in place of several equal ones."""
    if isinstance(value, tuple) and value and type(value[0]) is int and len(set(value)) == 1:
        return value[0]
    return value


def _is_alike(made_by: type[nn.Module], settings: dict[str, Any], module: nn.Module) -> bool:
    """Whether the settings make such a module."""
    try:
        with torch.device("meta"):
            other = made_by(**settings)
    except (TypeError, ValueError, RuntimeError):
        return False
    shapes, others = ({name: each.shape for name, each in m.state_dict().items()} for m in (module, other))
    return shapes == others and _described(module) == _described(other)


def _described(module: nn.Module) -> list[Any]:
    """The plain attributes of a module, but for the mode that it is in, and those in it with their types."""
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and _is_plain(value)
    }
    return [own, *((name, type(child), _described(child)) for name, child in module.named_children())]
