"""What a module does in evaluation, as a graph: how it is called, and what it calls."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, final

import torch
from torch import fx, nn

from nasframe.core import Block
from nasframe.exporters._layers import is_plain


@final
@dataclass
class Calls:
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


def entry_of(module: nn.Module) -> str:
    """The method that says what a module computes."""
    return "compute" if isinstance(module, Block) else "forward"


def calls_of(network: nn.Module, example: torch.Tensor) -> dict[nn.Module, Calls]:
    """Run a network, and note how each of its modules is called."""
    found: dict[nn.Module, Calls] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        bound = inspect.signature(getattr(module, entry_of(module))).bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        inputs = tuple(name for name, value in given.items() if isinstance(value, torch.Tensor))
        constants = {name: value for name, value in given.items() if name not in inputs}
        plain = all(map(is_plain, constants.values())) and not bound.kwargs and _is_nest(output)
        shapes = tuple((given[name].shape, given[name].dtype) for name in inputs)
        num_outputs = len(output) if isinstance(output, tuple) else None
        call = Calls(inputs, constants, plain, shapes, num_outputs)
        first = found.setdefault(module, call)
        first.alike = first.alike and call == first

    hooks = [module.register_forward_hook(note, with_kwargs=True) for module in network.modules()]
    try:
        network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_nest(value: Any) -> bool:
    """Whether something is a tensor, or a tuple, list or dict of such."""
    if type(value) in (tuple, list, dict):
        return all(map(_is_nest, value.values() if isinstance(value, dict) else value))
    return isinstance(value, torch.Tensor)


@final
class _Off(int):
    """``training`` of a module in evaluation, which shows where a traced function is given it."""


OFF: Final = _Off(0)


@contextmanager
def in_mode(network: nn.Module, mode: Any) -> Iterator[None]:
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
class Tracer(fx.Tracer):
    """Follows one module, and into those in it only that cannot be parts by themselves."""

    proxy_buffer_attributes = True

    def __init__(self, call: Calls, is_part: Callable[[nn.Module], bool], entry: str) -> None:
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
            with in_mode(self.root, False):
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
                made = tensor_at(self.root, str(node.target))
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


def tensor_at(module: nn.Module, path: str) -> torch.Tensor:
    """A parameter or buffer by its path."""
    parent, _, name = path.rpartition(".")
    tensor = getattr(module.get_submodule(parent), name)
    assert isinstance(tensor, torch.Tensor)
    return tensor
