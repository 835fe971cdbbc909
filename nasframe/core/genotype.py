"""Genotype: a found architecture as plain, versioned data."""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nasframe.errors import FormatError

_FORMAT = "nasframe.genotype"
_VERSION = 1
_CELLS = ("normal", "reduce")


@dataclass(frozen=True)
class Genotype:
    """Which candidates each choice keeps, by choice id, in order.

    Cell spaces name their choices ``<cell>_<node>`` (which states reach a node) and
    ``<cell>_<node>_<state>`` (the operation between them), and ``<cell>_concat`` (the cell's
    output), so that `from_darts` and `to_darts` can read and write the format of Liu et al. 2019.
    """

    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        frozen = {name: tuple(kept) for name, kept in sorted(self.choices.items())}
        object.__setattr__(self, "choices", MappingProxyType(frozen))

    def __hash__(self) -> int:
        return hash(tuple(self.choices.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Genotype, (dict(self.choices),)

    def __getitem__(self, choice_id: str) -> tuple[str, ...]:
        return self.choices[choice_id]

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
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"genotype: must be JSON: {error}") from error
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise FormatError(f"genotype: must be an object with format `{_FORMAT}`")
        if data.get("version") != _VERSION:
            raise FormatError(
                f"genotype: version must be {_VERSION}, got {data.get('version')!r}; "
                "read it with the nasframe that wrote it, or a newer one"
            )
        choices = data.get("choices")
        if not isinstance(choices, dict) or not all(
            isinstance(kept, list) and all(isinstance(name, str) for name in kept)
            for kept in choices.values()
        ):
            raise FormatError("genotype: `choices` must map choice ids to lists of candidate names")
        return cls({name: tuple(kept) for name, kept in choices.items()})

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Genotype":
        """Read a JSON file.

        Raises:
            FormatError: The file is not a genotype; the message names it.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, FormatError) as error:
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
        choices: dict[str, list[str]] = {}
        for cell in _CELLS:
            pairs, concat = fields[cell], fields[f"{cell}_concat"]
            if len(pairs) % 2 or not all(
                isinstance(pair, (tuple, list))
                and len(pair) == 2
                and isinstance(pair[0], str)
                and type(pair[1]) is int
                for pair in pairs
            ):
                raise FormatError(f"genotype: `{cell}` must be pairs (operation, state), two for each node")
            for index, (op, state) in enumerate(pairs):
                node = 2 + index // 2
                if not 0 <= state < node:
                    raise FormatError(
                        f"genotype: `{cell}` node {node} must take a state below {node}, got {state}"
                    )
                choices.setdefault(f"{cell}_{node}", []).append(str(state))
                choices.setdefault(f"{cell}_{node}_{state}", []).append(op)
            last = 2 + len(pairs) // 2
            if not all(type(state) is int and 0 <= state < last for state in concat):
                raise FormatError(f"genotype: `{cell}_concat` must be states below {last}, got {concat}")
            choices[f"{cell}_concat"] = [str(state) for state in concat]
        return cls({name: tuple(kept) for name, kept in choices.items()})

    def to_darts(self) -> str:
        """The text that `from_darts` reads.

        Raises:
            FormatError: This is not the genotype of a cell space with two inputs a node.
        """
        return f"Genotype({', '.join(self._darts_cell(cell) for cell in _CELLS)})"

    def _darts_cell(self, cell: str) -> str:
        pairs: list[tuple[str, int]] = []
        node = 2
        while (states := self.choices.get(f"{cell}_{node}")) is not None:
            ops = {state: list(self.choices.get(f"{cell}_{node}_{state}", ())) for state in states}
            if len(states) != 2 or any(len(ops[state]) != states.count(state) for state in states):
                raise FormatError(
                    f"genotype: node {node} of `{cell}` must have two inputs with one operation each"
                )
            pairs += [(ops[state].pop(0), int(state)) for state in states]
            node += 1
        concat = self.choices.get(f"{cell}_concat")
        if not pairs or concat is None:
            raise FormatError(f"genotype: no `{cell}` cell, so it cannot be written in the DARTS format")
        return f"{cell}={pairs!r}, {cell}_concat={[int(state) for state in concat]!r}"


def _parse_call(text: str) -> dict[str, list[Any]]:
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(f"genotype: must be `Genotype(normal=…, …)`: {error}") from error
    wanted = {f"{cell}{suffix}" for cell in _CELLS for suffix in ("", "_concat")}
    if not isinstance(call, ast.Call) or getattr(call.func, "id", None) != "Genotype" or call.args:
        raise FormatError(
            "genotype: must be `Genotype(normal=…, normal_concat=…, reduce=…, reduce_concat=…)`"
        )
    fields = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
    if set(fields) != wanted or len(call.keywords) != len(wanted):
        raise FormatError(f"genotype: must have {sorted(wanted)}, got {[k.arg for k in call.keywords]}")
    return {str(name): value for name, value in fields.items()}


def _literal(node: ast.expr) -> list[Any]:
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "range" and not node.keywords:
        bounds = [_constant(argument) for argument in node.args]
        if 1 <= len(bounds) <= 2 and all(type(bound) is int and 0 <= bound <= 1000 for bound in bounds):
            return list(range(*bounds))
    value = _constant(node)
    if not isinstance(value, (list, tuple)):
        raise FormatError(f"genotype: must be a list or range(a, b), got {ast.unparse(node)}")
    return list(value)


def _constant(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise FormatError(f"genotype: must be literals, got {ast.unparse(node)}") from error
