"""YAML text to nodes and back: safe, bounded, by the core schema of YAML 1.2, with all places."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, final

import yaml

from nasframe import problem_kinds as kinds
from nasframe.errors import Problem
from nasframe.problem_kinds import ProblemKind
from nasframe.recipe.tree import BROKEN, KeyPath, Node, Place

MAX_DEPTH: Final = 40
MAX_VALUES: Final = 20_000
MAX_CHARACTERS: Final = 200_000
_COMMENT_COLUMN: Final = 50

_SCALARS: Final = {
    "tag:yaml.org,2002:null": (re.compile(r"~|null|Null|NULL|"), "~nN"),
    "tag:yaml.org,2002:bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF"),
    "tag:yaml.org,2002:int": (re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"), "-+0123456789"),
    "tag:yaml.org,2002:float": (
        re.compile(
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
        ),
        "-+.0123456789",
    ),
}
_TEXT: Final = "tag:yaml.org,2002:str"


@final
class _TooDeepError(yaml.MarkedYAMLError):
    """Raised while composing, before Python's own stack ends."""


@final
class _TooLargeError(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


class _Loader(yaml.SafeLoader):
    """Composes nodes; bounded in depth. Nothing is ever constructed by a tag."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _TooDeepError(problem=f"must nest at most {MAX_DEPTH} deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what this module, or an older YAML, would read as anything but text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    """Escape what YAML 1.1 takes for the end of a line; PyYAML itself would not write it back as it was."""
    style = '"' if any(end in text for end in "\x85\u2028\u2029") else None
    return dumper.represent_scalar(_TEXT, text, style=style)


_Dumper.add_representer(str, _represent_text)
for _tag, (_pattern, _first) in _SCALARS.items():
    _whole = re.compile(f"(?:{_pattern.pattern})$")
    _firsts = [*_first, ""] if _tag.endswith("null") else list(_first)
    _Loader.add_implicit_resolver(_tag, _whole, _firsts)
    _Dumper.add_implicit_resolver(_tag, _whole, _firsts)


def split_values(text: str) -> list[str]:
    """The values of a text that has several between commas, each as it was written.

    Commas inside of brackets, braces and quotes part nothing. A text that is no YAML is one value.
    """
    try:
        whole = yaml.compose(f"[{text}]", Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        return [text]
    if (
        not isinstance(whole, yaml.SequenceNode)
        or len(whole.value) < 2
        or whole.end_mark.index < len(text) + 2
    ):
        return [text]
    return [text[node.start_mark.index - 1 : node.end_mark.index - 1].strip() for node in whole.value]


def dump_yaml(value: Any, *, flow: bool = False) -> str:
    """Plain data as YAML that `read_yaml` reads back to equal data; on one line if `flow`."""
    if flow:
        text = yaml.dump(
            value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=True
        )
        return text.removesuffix("...\n").rstrip("\n")
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def dump_annotated(value: Any, comments: Mapping[KeyPath, str]) -> str:
    """Plain data as YAML with a comment on the line of each value that `comments` has the path of.

    The comment of a name is looked up at its ``type``, that of a list or mapping stands beside its key.
    """
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    lines = text.removesuffix("\n").split("\n")
    noted = dict(_noted(yaml.compose(text, Loader=_Loader), (), 0, comments))
    column = max((len(line) for index, line in enumerate(lines) if index in noted), default=0)
    column = min(column, _COMMENT_COLUMN)
    for index, comment in noted.items():
        lines[index] = f"{lines[index]:{column}}  # {comment}"
    return "\n".join(lines) + "\n"


def _noted(
    node: Any, path: KeyPath, key_line: int, comments: Mapping[KeyPath, str]
) -> Iterator[tuple[int, str]]:
    """The comments by the index of their line."""
    scalar = isinstance(node, yaml.ScalarNode)
    comment = comments.get(path) or (comments.get((*path, "type")) if scalar else None)
    if comment:
        yield (node.end_mark.line if scalar else key_line), comment
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            yield from _noted(item, (*path, key.value), key.end_mark.line, comments)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _noted(item, (*path, index), item.start_mark.line, comments)


def read_yaml(text: str, file: str, problems: list[Problem]) -> Node | None:
    """Read one document.

    Args:
        text: The YAML.
        file: Its path, for places; empty for the command line.
        problems: What is wrong is added here, and stands as `BROKEN` in the tree.

    Returns:
        The tree, or None if the text is not YAML at all.
    """
    if len(text) > MAX_CHARACTERS:
        rule = f"must have at most {MAX_CHARACTERS} characters"
        problems.append(Problem(kinds.TOO_LARGE, str(_place(None, file)), "", rule, str(len(text))))
        return None
    try:
        composed = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        where = _place(error.problem_mark or error.context_mark, file)
        kind = kinds.TOO_LARGE if isinstance(error, _TooDeepError) else kinds.NOT_YAML
        advice = "indent with spaces: YAML takes no tabs" if "'\\t'" in str(error.problem) else ""
        problems.append(Problem(kind, str(where), "", _yaml_rule(error), "", advice))
        return None
    except yaml.YAMLError as error:
        rule = f"must be YAML: {' '.join(str(error).split())}"
        problems.append(Problem(kinds.NOT_YAML, str(_place(None, file)), "", rule))
        return None
    place = _place(composed.start_mark if composed else None, file)
    if composed is None:
        return Node(None, place, place)
    try:
        return _Reading(file, problems).read(composed, place, ())
    except _TooLargeError as error:
        problems.append(error.problem)
        return None


def _yaml_rule(error: yaml.MarkedYAMLError) -> str:
    if isinstance(error, _TooDeepError):
        return str(error.problem)
    return "must be YAML: " + ", ".join(part for part in (error.context, error.problem) if part)


def _place(mark: Any, file: str) -> Place:
    if not file:
        return Place()
    return Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)


@final
class _Reading:
    def __init__(self, file: str, problems: list[Problem]) -> None:
        self._file, self._problems, self._count = file, problems, 0

    def read(self, composed: yaml.Node, key_at: Place, path: tuple[str, ...]) -> Node:
        at = _place(composed.start_mark, self._file)
        self._count += 1
        if self._count > MAX_VALUES:
            rule = f"a recipe must have at most {MAX_VALUES} values, each alias counted in full"
            raise _TooLargeError(Problem(kinds.TOO_LARGE, str(at), ".".join(path), rule))
        if len(path) > MAX_DEPTH:
            rule = f"must nest at most {MAX_DEPTH} deep"
            raise _TooLargeError(Problem(kinds.TOO_LARGE, str(at), ".".join(path[:4]), rule))
        if isinstance(composed, yaml.MappingNode):
            value: Any = self._mapping(composed, at, path)
        elif isinstance(composed, yaml.SequenceNode):
            value = self._sequence(composed, at, path)
        else:
            value = self._scalar(composed, at, path)
        return Node(value, at, key_at)

    def _say(
        self,
        kind: ProblemKind,
        at: Place,
        path: tuple[str, ...],
        rule: str,
        given: str = "",
        advice: str = "",
    ) -> Any:
        self._problems.append(Problem(kind, str(at), ".".join(path), rule, given, advice))
        return BROKEN

    def _mapping(self, composed: yaml.MappingNode, at: Place, path: tuple[str, ...]) -> Any:
        if composed.tag != "tag:yaml.org,2002:map":
            return self._tagged(composed, at, path)
        entries: dict[str, Node] = {}
        for key_node, value_node in composed.value:
            key_at = _place(key_node.start_mark, self._file)
            key = self._key(key_node, key_at, path)
            if key is None:
                continue
            if key in entries:
                first = entries[key].key_at
                rule, advice = "a key must stand once in its mapping", f"it is given at {first} already"
                self._say(kinds.REPEATED_KEY, key_at, (*path, key), rule, "", advice)
                continue
            entries[key] = self.read(value_node, key_at, (*path, key))
        return entries

    def _key(self, key_node: yaml.Node, at: Place, path: tuple[str, ...]) -> str | None:
        if key_node.value == "<<":
            advice = "name the other mapping by ${its.path}, or include a file"
            self._say(kinds.MERGE_KEY, at, path, "merge keys are not read", "<<", advice)
        elif not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TEXT:
            given = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a collection"
            advice = "write it in quotes if it is meant as text"
            self._say(kinds.KEY_NOT_TEXT, at, path, "a key must be text", given, advice)
        elif self._scalar(key_node, at, path) is not BROKEN:
            return str(key_node.value)
        return None

    def _sequence(self, composed: yaml.SequenceNode, at: Place, path: tuple[str, ...]) -> Any:
        if composed.tag != "tag:yaml.org,2002:seq":
            return self._tagged(composed, at, path)
        return [
            self.read(item, _place(item.start_mark, self._file), (*path, str(index)))
            for index, item in enumerate(composed.value)
        ]

    def _tagged(self, composed: yaml.Node, at: Place, path: tuple[str, ...]) -> Any:
        tag = composed.tag.replace("tag:yaml.org,2002:", "!!")
        rule = "a recipe must not use tags"
        return self._say(kinds.TAG, at, path, rule, f"`{tag}`", "write the plain value")

    def _scalar(self, composed: yaml.Node, at: Place, path: tuple[str, ...]) -> Any:
        text, tag = composed.value, composed.tag
        if tag == _TEXT:
            if any("\ud800" <= character <= "\udfff" or character == "\0" for character in text):
                rule = "text must be valid Unicode without null characters"
                return self._say(kinds.BAD_TEXT, at, path, rule)
            return text
        if tag not in _SCALARS or not _SCALARS[tag][0].fullmatch(text):
            return self._tagged(composed, at, path)
        if tag.endswith("null"):
            return None
        if tag.endswith("bool"):
            return text.lower() == "true"
        return self._number(text, tag, at, path)

    def _number(self, text: str, tag: str, at: Place, path: tuple[str, ...]) -> Any:
        if tag.endswith("float"):
            return float(text.replace(".", "") if text[-1] in "fFnN" else text)
        if len(text) > 100:
            rule = "a whole number must have at most 100 digits"
            return self._say(kinds.LONG_NUMBER, at, path, rule, f"{len(text)}")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
