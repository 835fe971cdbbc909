"""A traced graph as the body of a forward that a person reads."""

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import torch
from torch import fx
from torch.nn import functional

from nasframe.exporters._layout import (
    ATOM,
    WIDTH,
    Binary,
    Call,
    Expr,
    Text,
    UnwritableError,
    attribute,
    flat,
    identifier,
    lines,
    literal,
    operand,
)
from nasframe.exporters._parts import Own
from nasframe.exporters._trace import OFF, entry_of

_INDENT: Final = 8
_LONGEST: Final = WIDTH - _INDENT - 24  # of what stands within another expression
_OPERATORS: Final[Mapping[Any, tuple[str, int]]] = {
    operator.mul: ("*", 13), operator.truediv: ("/", 13), operator.floordiv: ("//", 13),
    operator.mod: ("%", 13), operator.matmul: ("@", 13), operator.add: ("+", 12), operator.sub: ("-", 12),
    operator.lshift: ("<<", 11), operator.rshift: (">>", 11), operator.and_: ("&", 10),
    operator.xor: ("^", 9), operator.or_: ("|", 8),
    operator.lt: ("<", 7), operator.le: ("<=", 7), operator.eq: ("==", 7), operator.ne: ("!=", 7),
    operator.gt: (">", 7), operator.ge: (">=", 7),
}  # fmt: skip
_IN_PLACE: Final[Mapping[Any, str]] = {
    operator.iadd: "add_", operator.isub: "sub_", operator.imul: "mul_", operator.itruediv: "div_",
}  # fmt: skip
_FUNCTIONS: Final[Mapping[Any, str]] = {operator.pow: "torch.pow", operator.abs: "torch.abs"}
_SIGNS: Final[Mapping[Any, str]] = {operator.neg: "-", operator.invert: "~"}
_RESULTS: Final[Mapping[str, str]] = {
    "add": "total", "sub": "difference", "mul": "product", "matmul": "product", "truediv": "quotient",
    "floordiv": "quotient", "cat": "joined", "getitem": "item", "getattr": "value",
}  # fmt: skip
_TAKEN: Final = frozenset({"self", "torch", "nn", "functional", "Tensor"})
_COMPARISON: Final = 7


@final
class Forward:
    """Writes the forward of a module, in the order of the calls that were traced.

    Args:
        own: The module.
        attributes: The name of each module and tensor that it uses, by path.

    Attributes:
        signature: What it takes, as code.
        returns: The type of what it returns, as code.
        body: Its lines.
    """

    def __init__(self, own: Own, attributes: Mapping[str, str]) -> None:
        self._own, self._attributes = own, attributes
        self._texts: dict[fx.Node, Expr] = {}
        self._free: set[fx.Node] = set()
        self._pending: list[fx.Node] = []
        self._unpacked_as: dict[fx.Node, list[str]] = {}
        self._taken: set[str] = set(_TAKEN)
        self.body: list[str] = []
        inputs = [self._name(_input(name)) for name in own.inputs]
        self.signature = ", ".join(["self", *(f"{name}: Tensor" for name in inputs)])
        self.returns = "Tensor"
        for node in own.graph.nodes:
            if node.op == "placeholder":
                self._atom(node, Text(inputs[len(self._texts)]))
            elif node.op == "output":
                self._return(node.args[0])
            else:
                self._add(node)

    def _name(self, text: str) -> str:
        name = identifier(text, self._taken, otherwise="value")
        self._taken.add(name)
        return name

    def _atom(self, node: fx.Node, text: Expr) -> None:
        """Something that may stand anywhere, and any number of times."""
        self._texts[node] = text
        self._free.add(node)

    def _add(self, node: fx.Node) -> None:
        if node.op == "get_attr":
            self._atom(node, Text(f"self.{self._attributes[str(node.target)]}"))
            return
        taken = self._settle(node)
        expr = self._expr(node)
        users = list(node.users)
        ends = len(users) == 1 and users[0].op == "output"
        begins = "out: Tensor" if ends else identifier(self._result(node), self._taken)
        if taken and len(_unbreakable(expr)) > WIDTH - _INDENT - len(f"{begins} = "):
            self._flush()
            for each in taken:
                self._assign(each, self._texts[each])
            expr = self._expr(node)
        if self._is_shape(node) or (node.target is operator.getitem and node.args[0] in self._unpacked_as):
            self._atom(node, expr)
            return
        if self._unpacked(node, users, expr):
            return
        is_named = node.op != "call_module" and node in self._own.names  # what a part made
        is_brief = not is_named and len(flat(expr)) <= _LONGEST
        if len(users) == 1 and (ends or is_brief) and _uses(users[0], node) == 1:
            self._texts[node] = expr
            self._pending.append(node)
        else:
            self._flush()
            self._assign(node, expr)

    def _settle(self, node: fx.Node) -> list[fx.Node]:
        """Let what a node takes be at hand, in the order of computation; return what then stands in it."""
        inputs = _inputs_in_order(node)
        is_wide = node.op == "call_module" and len(inputs) > 1  # each of them gets a name
        first = len(self._pending) if is_wide else 0
        while self._pending[first:] != [each for each in inputs if each in self._pending[first:]]:
            first += 1
        taken = self._pending[first:]
        del self._pending[first:]
        if any(each in self._pending for each in inputs):
            self._flush()
        return taken

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for node in pending:
            self._assign(node, self._texts[node])

    def _assign(self, node: fx.Node, expr: Expr) -> None:
        if not node.users:
            self.body += lines("", expr, "", _INDENT)
            return
        name = self._name(self._result(node))
        self.body += lines(f"{name} = ", expr, "", _INDENT)
        self._atom(node, Text(name))

    def _result(self, node: fx.Node) -> str:
        """What a value is called."""
        if node.op == "call_module":
            return self._attributes[str(node.target)]
        if node in self._own.names:
            return attribute(self._own.names[node].split("."))
        made_by = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", ""))
        return _RESULTS.get(made_by, made_by)

    def _is_shape(self, node: fx.Node) -> bool:
        """Whether a value is the shape of something at hand, or a part of it."""
        if node.target is getattr and len(node.args) == 2 and node.args[1] == "shape":
            return node.args[0] in self._free
        is_part = node.target is operator.getitem and node.args[0] in self._free
        return is_part and isinstance(node.args[0], fx.Node) and self._is_shape(node.args[0])

    def _unpacked(self, node: fx.Node, users: list[fx.Node], expr: Expr) -> bool:
        """Write a call whose results are taken apart as such, and say whether it is one."""
        if node.op != "call_module":
            return False
        part = self._own.parts[str(node.target)]
        count = part.num_outputs if isinstance(part, Own) else None
        indices = [each.args[1] for each in users if each.target is operator.getitem]
        places = {index for index in indices if isinstance(index, int)}
        if count is None or count < 2 or len(indices) < len(users) or places != set(range(count)):
            return False
        self._flush()
        names = [self._name(f"{self._result(node)}_{index}") for index in range(count)]
        self.body += lines(f"{', '.join(names)} = ", expr, "", _INDENT)
        self._atom(node, Call("", tuple(map(Text, names))))
        self._unpacked_as[node] = names
        return True

    def _return(self, value: Any) -> None:
        self._settle_all(value)
        expr = self._of(value)
        self.returns = _type_of(value)
        if isinstance(value, fx.Node) and not self._has_type(value):
            name = self._name("out")
            self.body += lines(f"{name}: Tensor = ", expr, "", _INDENT)
            expr = Text(name)
        if isinstance(value, tuple) and len(value) > 1 and len(flat(expr)) < WIDTH - _INDENT - len("return "):
            expr = Text(flat(expr)[1:-1])
        self.body += lines("return ", expr, "", _INDENT)

    def _has_type(self, value: fx.Node) -> bool:
        """Whether a type checker knows that it is a tensor; what modules return may be anything."""
        if value.op == "placeholder":
            return True
        is_new = value.op == "call_function" and value not in self._free
        return is_new and getattr(torch, getattr(value.target, "__name__", ""), None) is value.target

    def _settle_all(self, value: Any) -> None:
        if self._pending[-1:] == [value]:
            del self._pending[-1]
        self._flush()

    def _of(self, value: Any) -> Expr:
        """Any argument."""
        if isinstance(value, fx.Node):
            return self._texts[value]
        if value is OFF:
            return Text("self.training")
        if isinstance(value, slice):
            start, stop = ("" if each is None else flat(self._of(each)) for each in (value.start, value.stop))
            step = "" if value.step is None else f":{flat(self._of(value.step))}"
            wide = " " in f"{start}{stop}{step}"  # as formatters have it
            return Text(f"{start} : {stop}{step}".strip() if wide else f"{start}:{stop}{step}", 0)
        if isinstance(value, (list, tuple)) and any(isinstance(each, (fx.Node, slice)) for each in value):
            return Call("", tuple(map(self._of, value)), brackets="[]" if isinstance(value, list) else "()")
        if isinstance(value, dict):
            items = (f"{literal(key)}: {flat(self._of(each))}" for key, each in value.items())
            return Text(f"{{{', '.join(items)}}}")
        text = literal(value)
        return Text(text, 14 if text.startswith("-") else ATOM)

    def _expr(self, node: fx.Node) -> Expr:
        if node.op == "call_module":
            return Call(f"self.{self._attributes[str(node.target)]}", *self._module_arguments(node))
        if node.op == "call_method":
            return self._method(str(node.target), node)
        target: Any = node.target
        if target is operator.getitem:
            whole, index_of = node.args
            if isinstance(whole, fx.Node) and isinstance(index_of, int) and whole in self._unpacked_as:
                return Text(self._unpacked_as[whole][index_of])
            index = flat(self._of(node.args[1]))
            is_open = isinstance(node.args[1], tuple) and len(node.args[1]) > 1
            return Text(f"{operand(self._of(node.args[0]))}[{index[1:-1] if is_open else index}]")
        if target is getattr and _is_of_tensor(node.args[1]):
            return Text(f"{operand(self._of(node.args[0]))}.{node.args[1]}")
        if target in _OPERATORS and len(node.args) == 2:
            sign, binds = _OPERATORS[target]
            left, right = map(self._of, node.args)
            if binds == _COMPARISON:
                return Text(f"({operand(left)} {sign} {operand(right)})")
            return Binary(sign, left, right, binds)
        if target in _SIGNS:
            return Text(f"{_SIGNS[target]}{operand(self._of(node.args[0]))}", 14)
        if target in _IN_PLACE:
            return self._method(_IN_PLACE[target], node)
        given = _without_defaults(target, node.kwargs)
        return Call(_home(target), *self._arguments(node.args, given))

    def _method(self, name: str, node: fx.Node) -> Expr:
        if not _is_of_tensor(name):
            raise UnwritableError(f"it calls a method that tensors do not have, `{name!a:.40}`")
        return Call(f"{operand(self._of(node.args[0]))}.{name}", *self._arguments(node.args[1:], node.kwargs))

    def _arguments(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Expr, ...], tuple[str, ...]]:
        if not all(name.isidentifier() for name in kwargs):
            raise UnwritableError("it calls a function with a keyword that is no name")
        exprs = tuple(map(self._of, (*args, *kwargs.values())))
        return exprs, (*[""] * len(args), *kwargs)

    def _module_arguments(self, node: fx.Node) -> tuple[tuple[Expr, ...], tuple[str, ...]]:
        part = self._own.parts[str(node.target)]
        if not isinstance(part, Own):
            return self._arguments(node.args, node.kwargs)
        entry = getattr(part.module, entry_of(part.module))
        given = inspect.signature(entry).bind(*node.args, **node.kwargs).arguments
        return self._arguments(tuple(given[name] for name in part.inputs), {})


def _input(name: str) -> str:
    """What an input is called, without the shape letters that its name may end with."""
    stem, _, letters = name.rpartition("_")
    name = stem if stem and letters.isupper() else name
    return "x" if name == "input" else name


def _unbreakable(expr: Expr) -> str:
    """What has to stand on one line."""
    return expr.head if isinstance(expr, Call) else flat(expr)


def _uses(user: fx.Node, node: fx.Node) -> int:
    return _inputs_in_order(user).count(node)


def _inputs_in_order(node: fx.Node) -> list[fx.Node]:
    """What a node takes, in the order of its arguments, with repetitions."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda each: found.append(each))
    return found


def _without_defaults(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments but for those that say what a function takes by itself."""
    try:
        takes = inspect.signature(function).parameters
    except ValueError:  # a function of C++ tells nothing
        return dict(kwargs)
    return {
        name: value
        for name, value in kwargs.items()
        if name not in takes
        or value is OFF
        or type(value) is not type(takes[name].default)
        or value != takes[name].default
    }


def _is_of_tensor(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and hasattr(torch.Tensor, name)


def _home(function: Any) -> str:
    """What a function of PyTorch is called.

    Raises:
        UnwritableError: It is none.
    """
    if function in _FUNCTIONS:
        return _FUNCTIONS[function]
    name = getattr(function, "__name__", "")
    for module, home in ((torch, "torch"), (functional, "functional")):
        if name.isidentifier() and getattr(module, name, None) is function:
            return f"{home}.{name}"
    raise UnwritableError(f"it calls a function that is not PyTorch's, `{name!a:.40}`")


def _type_of(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        inside = ", ".join(map(_type_of, value))
        return f"tuple[{inside}]" if isinstance(value, tuple) else "list[Tensor]"
    if isinstance(value, dict):
        kinds = set(map(_type_of, value.values()))
        return f"dict[str, {kinds.pop() if len(kinds) == 1 else 'object'}]"
    return "Tensor"
