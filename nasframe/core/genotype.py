"""Genotype: a found architecture as plain, versioned data."""

import ast
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nasframe.core.graph import Graph, draw
from nasframe.core.json_text import read_bounded, read_json
from nasframe.core.picture import Picture
from nasframe.core.storage import write_whole
from nasframe.errors import FormatError, UnsupportedError

_FORMAT = "nasframe.genotype"
_VERSION = 1
_CELLS = ("normal", "reduce")
_CONCAT = "_concat"
_EDGE = re.compile(r"(.+?)_\d+_\d+")
_MAX_LENGTH = 100_000  # of a text in the DARTS format, some fifty times what a large cell takes


@dataclass(frozen=True)
class Genotype:
    """Which candidates each choice keeps, by choice id, in order.

    Cell spaces name their choices ``<cell>_<node>`` (which states reach a node) and
    ``<cell>_<node>_<state>`` (the operation between them), and ``<cell>_concat`` (the cell's
    output), so that `from_darts` and `to_darts` can read and write the format of Liu et al. 2019.

    Attributes:
        choices: What each choice keeps.
        graphs: How its space draws it, where it comes from a run; no part of what it is.

    Raises:
        FormatError: `choices` does not map texts to sequences of texts.
    """

    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    graphs: Mapping[str, Graph] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_choices(self.choices)
        frozen = {name: tuple(kept) for name, kept in sorted(self.choices.items())}
        object.__setattr__(self, "choices", MappingProxyType(frozen))

    def __hash__(self) -> int:
        return hash(tuple(self.choices.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Genotype, (dict(self.choices), dict(self.graphs))

    def __getitem__(self, choice_id: str) -> tuple[str, ...]:
        return self.choices[choice_id]

    @property
    def summary(self) -> str:
        """What is kept, in one line: how often in each kind of cell; in order where there are no cells.

        Where choices of several kinds are numbered, such as ``block_0``, ``width_0``, ``block_1``, by kind.
        """
        names = sorted(self.choices, key=_natural)
        cells: dict[str, list[str]] = {}
        kinds: dict[str, list[str]] = {}
        for name in names:
            kinds.setdefault(name.rstrip("_0123456789"), []).append(name)
            if cell := cell_of(name):
                cells.setdefault(cell, []).extend(self.choices[name])
        if not cells:
            if 1 < len(kinds) < len(names):
                return "; ".join(f"{kind}: {self._in_order(of_kind)}" for kind, of_kind in kinds.items())
            return self._in_order(names)
        counts = {cell: Counter(kept).most_common() for cell, kept in cells.items()}
        return "; ".join(
            f"{cell}: {', '.join(_times(count, each) for each, count in found)}"
            for cell, found in counts.items()
        )

    def _in_order(self, names: Iterable[str]) -> str:
        """What choices keep, one after the other; equal ones are counted, numbers are not."""
        kept = [" + ".join(self.choices[name]) or "nothing" for name in names]
        told = []
        for each, same in itertools.groupby(kept):
            count = len(list(same))
            told += [each] * count if each.isdecimal() else [_times(count, each)]
        return ", ".join(told)

    def draw(self) -> Picture:
        """Draw the cells, or what its space shows of it, one below the other.

        Raises:
            UnsupportedError: It is neither of cells nor of a run.
        """
        graphs = self.graphs or cell_graphs(self)
        if not graphs:
            raise UnsupportedError(
                "genotype: must be of cells, or of a run, to be drawn by itself; let its space draw it: "
                "`draw(*space.graphs(genotype).values())`"
            )
        return Picture(draw(*graphs.values()))

    def _repr_svg_(self) -> str | None:
        return self.draw()._repr_svg_() if self.graphs or cell_graphs(self) else None

    def to_json(self) -> str:
        """The JSON text that `from_json` reads."""
        choices = {name: list(kept) for name, kept in self.choices.items()}
        return json.dumps({"format": _FORMAT, "version": _VERSION, "choices": choices}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Read what `to_json` wrote.

        Raises:
            FormatError: It is not a genotype, or one of a newer version.
        """
        data = read_json(text, "genotype")
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise FormatError(f"genotype: must be an object with format `{_FORMAT}`")
        if type(data.get("version")) is not int or data["version"] != _VERSION:
            raise FormatError(
                f"genotype: version must be {_VERSION}, got {data.get('version')!r}; "
                "read it with the nasframe that wrote it, or a newer one"
            )
        choices: Any = data.get("choices")
        return cls(choices)

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            StorageError: It cannot be written.
        """
        write_whole(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "Genotype":
        """Read a JSON file.

        Raises:
            FormatError: The file is not a genotype; the message names it.
        """
        try:
            return cls.from_json(read_bounded(path).decode("utf-8"))
        except (UnicodeDecodeError, FormatError) as error:
            raise FormatError(f"{path}: {error}") from error

    @classmethod
    def from_darts(cls, text: str) -> "Genotype":
        """Read ``Genotype(normal=[('sep_conv_3x3', 0), …], normal_concat=…, reduce=…, …)``.

        Each node takes the next two pairs (operation, state); states 0 and 1 are the cell's inputs.
        Nothing is evaluated: literals and ``range(a, b)`` are all that is understood.

        Raises:
            FormatError: The text is anything else.
        """
        fields = _parse_call(text)
        choices: dict[str, tuple[str, ...]] = {}
        for cell in _CELLS:
            choices |= _read_cell(cell, fields[cell], fields[f"{cell}_concat"])
        return cls(choices)

    def to_darts(self) -> str:
        """The text that `from_darts` reads.

        Raises:
            FormatError: This is not the genotype of a cell space with two inputs a node.
        """
        text = f"Genotype({', '.join(self._darts_cell(cell) for cell in _CELLS)})"
        if Genotype.from_darts(text) != self:
            raise FormatError("genotype: decides more than two cells, so the DARTS format cannot hold it")
        return text

    def _darts_cell(self, cell: str) -> str:
        pairs: list[tuple[str, int]] = []
        node = 2
        while (states := self.choices.get(f"{cell}_{node}")) is not None:
            ops = {state: list(self.choices.get(f"{cell}_{node}_{state}", ())) for state in states}
            if len(states) != 2 or any(len(kept) != states.count(state) for state, kept in ops.items()):
                raise FormatError(
                    f"genotype: node {node} of `{cell}` must have two inputs with one operation each"
                )
            pairs += [(ops[state].pop(0), _number(state)) for state in states]
            node += 1
        concat = self.choices.get(f"{cell}_concat")
        if not pairs or concat is None:
            raise FormatError(f"genotype: no `{cell}` cell, so it cannot be written in the DARTS format")
        return f"{cell}={pairs!r}, {cell}_concat={[_number(state) for state in concat]!r}"


def cell_of(choice_id: str) -> str:
    """The kind of cell that an edge is in, as cell spaces name them (see `Genotype`); empty for others."""
    found = _EDGE.fullmatch(choice_id)
    return found[1] if found else ""


def _natural(name: str) -> list[tuple[int, str]]:
    """Orders names as one counts: 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _times(count: int, name: str) -> str:
    return name if count == 1 else f"{count} {name}"


def cell_graphs(genotype: Genotype) -> dict[str, Graph]:
    """The cells of a genotype of cells (see `Genotype`), by their names; none of another.

    Raises:
        FormatError: A cell is not whole.
    """
    cells = [name.removesuffix(_CONCAT) for name in genotype.choices if name.endswith(_CONCAT)]
    try:
        return {cell: _cell_graph(genotype, cell) for cell in cells}
    except (LookupError, ValueError) as error:
        raise FormatError(
            f"genotype: each state of a cell must be decided, but one is not: {error}"
        ) from error


def _cell_graph(genotype: Genotype, cell: str) -> Graph:
    count = next(node for node in itertools.count(2) if f"{cell}_{node}" not in genotype.choices)
    names = ("c_{k-2}", "c_{k-1}", *map(str, range(count - 2)), "c_{k}")
    edges: list[tuple[str, str, str]] = []
    for node in range(2, count):
        for state in dict.fromkeys(genotype[f"{cell}_{node}"]):
            kept = genotype[f"{cell}_{node}_{state}"]
            edges += [(names[int(state)], names[node], name) for name in kept]
    edges += [(names[int(node)], names[-1], "") for node in genotype[f"{cell}{_CONCAT}"]]
    return Graph(f"{cell} cell", names, tuple(edges))


def _check_choices(choices: Any) -> None:
    if not isinstance(choices, Mapping) or not all(
        isinstance(name, str)
        and isinstance(kept, (list, tuple))
        and all(isinstance(candidate, str) for candidate in kept)
        for name, kept in choices.items()
    ):
        raise FormatError("genotype: `choices` must map choice ids to lists of candidate names")


def _number(state: str) -> int:
    if not state.isdecimal():
        raise FormatError(f"genotype: a state must be a number in the DARTS format, got `{state}`")
    return int(state)


def _read_cell(cell: str, pairs: list[Any], concat: list[Any]) -> dict[str, tuple[str, ...]]:
    if not pairs or len(pairs) % 2 or not all(map(_is_pair, pairs)):
        raise FormatError(f"genotype: `{cell}` must be pairs (operation, state), two for each node")
    choices: dict[str, tuple[str, ...]] = {}
    for index, (op, state) in enumerate(pairs):
        node = 2 + index // 2
        if not 0 <= state < node:
            raise FormatError(f"genotype: `{cell}` node {node} must take a state below {node}, got {state}")
        for name, kept in ((f"{cell}_{node}", str(state)), (f"{cell}_{node}_{state}", op)):
            choices[name] = (*choices.get(name, ()), kept)
    last = 2 + len(pairs) // 2
    legal = all(type(state) is int and 0 <= state < last for state in concat)
    if not concat or not legal or len(set(concat)) < len(concat):
        raise FormatError(f"genotype: `{cell}_concat` must be distinct states below {last}, got {concat}")
    return {**choices, f"{cell}_concat": tuple(map(str, concat))}


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and isinstance(value[0], str)
        and type(value[1]) is int
    )


def _parse_call(text: str) -> dict[str, list[Any]]:
    if len(text) > _MAX_LENGTH:
        raise FormatError(f"genotype: must be at most {_MAX_LENGTH} characters, got {len(text)}")
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(f"genotype: must be `Genotype(normal=…, …)`: {error}") from error
    wanted = {f"{cell}{suffix}" for cell in _CELLS for suffix in ("", "_concat")}
    if not isinstance(call, ast.Call) or getattr(call.func, "id", None) != "Genotype" or call.args:
        raise FormatError(
            "genotype: must be `Genotype(normal=…, normal_concat=…, reduce=…, reduce_concat=…)`"
        )
    names = [str(keyword.arg) for keyword in call.keywords]
    if set(names) != wanted or len(names) != len(wanted):
        raise FormatError(f"genotype: must have {sorted(wanted)}, got {names}")
    return {name: _list(name, keyword.value) for name, keyword in zip(names, call.keywords, strict=True)}


def _list(name: str, node: ast.expr) -> list[Any]:
    try:
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "range" and not node.keywords:
            bounds = [ast.literal_eval(argument) for argument in node.args]
            if 1 <= len(bounds) <= 2 and all(type(bound) is int and 0 <= bound <= 1000 for bound in bounds):
                return list(range(*bounds))
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, (list, tuple)):
        raise FormatError(f"genotype: `{name}` must be a list of literals, or range(a, b)")
    return list(value)
