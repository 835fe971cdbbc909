"""From files and the command line to a recipe: includes, merging, overrides, interpolation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any, Final, final

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nasframe import problem_kinds as kinds
from nasframe.errors import Problem, RecipeError
from nasframe.problem_kinds import ProblemKind
from nasframe.recipe.discovery import import_modules, shipped_recipes
from nasframe.recipe.migration import migrated
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.schema import read_recipe
from nasframe.recipe.tree import BROKEN, COMMAND_LINE, KeyPath, Node, Place, merge
from nasframe.recipe.yaml_text import MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES, read_yaml
from nasframe.suggestion import did_you_mean, nearest

_MAX_ROUNDS: Final = 20
_MAX_FILES: Final = 100
_MAX_REFERENCES: Final = 1000
_MAX_TEXT: Final = 10_000
_REFERENCE: Final = re.compile(r"\$\{(\.*)([^\s{}:.\[\]]+(?:\.[^\s{}:.\[\]]+)*)\}")


def load_recipe(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    *,
    check: bool = True,
    outside: bool = False,
) -> Recipe:
    """Read a recipe.

    Args:
        recipe: A file, or the name of a shipped recipe.
        overrides: ``a.b.c=value`` (the value is YAML) lays a value over the recipe, ``~a.b`` deletes one;
            deletions come first.
        plugins: Python modules that register components, imported first.
        check: Also find what a run on this machine would refuse at its start: absent files and devices,
            and parts that cannot be built.
        outside: Let it include files outside of its folder, and name such as are written to.

    Raises:
        RecipeError: Something is wrong; it holds all problems.

    Warns:
        FormerNameWarning: It says something by a name that it had before, and is read all the same.
    """
    return load_with_places(recipe, overrides, plugins, check=check, outside=outside)[0]


def load_with_places(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    plugins: Sequence[Path] = (),
    *,
    check: bool = True,
    outside: bool = False,
) -> tuple[Recipe, dict[KeyPath, Place]]:
    """As `load_recipe`; also tells where each value was written, by its path (see `read_recipe`)."""
    import_modules(plugins)
    tree, problems = read_file(_locate(str(recipe)), overrides, outside=outside)
    return _read(tree, problems, check=check, outside=outside)


def read_file(
    path: Path, overrides: Sequence[str] = (), *, outside: bool = False
) -> tuple[Node, list[Problem]]:
    """A file with what it includes, and overrides laid over it.

    Returns:
        The tree as it was written, and what is wrong so far.

    Raises:
        RecipeError: A file cannot be read.
    """
    files = _Files(None if outside else path.resolve().parent)
    tree = files.read(path)
    if tree is None:
        assigned = [text for text in overrides if not text.startswith("~")]
        _overridden(
            Node({}, COMMAND_LINE, COMMAND_LINE), assigned, files.problems
        )  # as far as it can be told
        raise RecipeError(files.problems)
    return _overridden(tree, overrides, files.problems), files.problems


def read_overrides(overrides: Sequence[str]) -> tuple[Node, list[Problem]]:
    """What overrides say where there is no file; and what is wrong with them."""
    problems: list[Problem] = []
    return _overridden(Node({}, COMMAND_LINE, COMMAND_LINE), overrides, problems), problems


def load_layers(
    recipe: Node, layers: Sequence[Node], folder: Path, *, check: bool = True, outside: bool = False
) -> Recipe:
    """A recipe that another file names, with what that file lays over it.

    Args:
        recipe: Its file or shipped name, as an `include` says it.
        layers: Parts of recipes, from the lowest to the highest.
        folder: That of the other file, where the recipe lies in or below.
        check: As `load_recipe`.
        outside: As `load_recipe`; the recipe may then lie anywhere.

    Raises:
        RecipeError: Something is wrong; each problem says in which file.
    """
    files = _Files(None if outside else folder.resolve())
    tree = files.included(recipe)
    if tree is None:
        raise RecipeError(files.problems)
    for layer in layers:
        tree = merge(tree, layer)
    return _read(tree, files.problems, check=check, outside=outside)[0]


def _read(
    tree: Node, problems: list[Problem], *, check: bool, outside: bool
) -> tuple[Recipe, dict[KeyPath, Place]]:
    tree = _interpolated(tree, problems)
    tree = migrated(tree, problems)
    return read_recipe(tree, problems, check=check, outside=outside)


def _locate(recipe: str) -> Path:
    return locate(recipe, shipped_recipes(), "recipe")


def locate(name: str, shipped: Mapping[str, Path], what: str) -> Path:
    """The file that a name on the command line means.

    Args:
        name: A file, or what `shipped` has.
        shipped: Files that come with nasframe, by name.
        what: They are, in a word.

    Raises:
        RecipeError: There is none.
    """
    either = f"must be a file or a shipped {what}'s name"
    try:
        if not name.endswith((".yaml", ".yml")) and name in shipped:
            return shipped[name]
        if Path(name).is_file():
            return Path(name)
        rule = "must be a file" if Path(name).exists() else either
    except (OSError, ValueError):
        rule = either
    if what == "recipe":
        advice = _meant_file(Path(name)) or "`nasframe recipes` lists the shipped ones"
    else:
        advice = did_you_mean(name, shipped) or f"shipped are {', '.join(shipped)}"
    raise RecipeError([Problem(kinds.NO_RECIPE, str(COMMAND_LINE), what.upper(), rule, f"`{name}`", advice)])


def _meant_file(path: Path, folder: Path | None = None) -> str:
    """Advice for a recipe that is not there: a file beside it, or a shipped one.

    Args:
        path: As it was written.
        folder: Where it would lie; by default as `path` says.
    """
    folder = folder or path.parent
    try:
        if (folder / path.name / "recipe.yaml").is_file():
            return f"did you mean `{path / 'recipe.yaml'}`?"
        files = {file.stem: file.name for file in sorted(folder.glob("*.y*ml")) if file.is_file()}
    except (OSError, ValueError):
        files = {}
    if beside := nearest(path.stem, files):
        return f"did you mean `{path.with_name(files[beside])}`?"
    shipped = nearest(path.stem, shipped_recipes())
    return f"did you mean the shipped recipe `{shipped}`?" if shipped else ""


@final
class _Files:
    """Reads files with what they include; each problem is added to `problems`.

    Args:
        folder: What is included lies in it, or comes with nasframe; None lets it lie anywhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self.problems: list[Problem] = []
        self._folder = folder
        self._open: list[Path] = []
        self._count = 0
        self._characters = 0

    def read(self, path: Path) -> Node | None:
        """A file laid over what it includes; None if one of them cannot be read."""
        self._count += 1
        self._open.append(path.resolve())
        try:
            tree = self._parse(path)
            return self._with_includes(tree) if tree else None
        finally:
            self._open.pop()

    def _say(
        self, kind: ProblemKind, where: object, path: str, rule: str, given: str = "", advice: str = ""
    ) -> None:
        self.problems.append(Problem(kind, str(where), path, rule, given, advice))

    def _parse(self, path: Path) -> Node | None:
        try:
            if path.stat().st_size > 4 * MAX_CHARACTERS:
                self._say(kinds.TOO_LARGE, path, "", f"must have at most {MAX_CHARACTERS} characters")
                return None
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            self._say(kinds.UNREADABLE_FILE, path, "", "must be a text file that can be read", str(error))
            return None
        self._characters += len(text)
        if self._characters > MAX_CHARACTERS:
            rule = f"must have at most {MAX_CHARACTERS} characters, together with what includes it"
            self._say(kinds.TOO_LARGE, path, "", rule, str(self._characters))
            return None
        tree = read_yaml(text, _shown(path), self.problems)
        if tree is not None and not isinstance(tree.value, dict):
            if not tree.is_broken:
                self._say(kinds.NOT_A_RECIPE, tree.at, "", "a recipe must be a mapping", _sort(tree.value))
            return None
        return tree

    def _with_includes(self, tree: Node) -> Node | None:
        include = tree.child("include")
        if include is None:
            return tree
        own = replace(tree, value={key: node for key, node in tree.value.items() if key != "include"})
        lower: Node | None = None
        for entry in include.value if isinstance(include.value, list) else [include]:
            included = self.included(entry)
            if included is None:
                return None
            lower = merge(lower, included) if lower else included
        return merge(lower, own) if lower else own

    def included(self, entry: Node) -> Node | None:
        """What an `include` names; None if it cannot be read."""
        if not isinstance(entry.value, str):
            if not entry.is_broken:
                rule = "must be a file or a shipped recipe's name"
                self._say(kinds.BAD_INCLUDE, entry.at, "include", rule, _sort(entry.value))
            return None
        shipped = shipped_recipes()
        path = entry.at.folder / entry.value
        if not _is_file(path):
            path = shipped.get(entry.value.removesuffix(".yaml"), path)
        if self._folder is not None and not self._may_read(path, self._folder):
            rule = f"must lie in {_shown(self._folder)} or below, or be a shipped recipe's name"
            advice = "copy it there, or allow it by --outside"
            self._say(kinds.OUTER_INCLUDE, entry.at, "include", rule, f"`{entry.value}`", advice)
        elif path.resolve() in self._open:
            chain = " → ".join(file.name for file in [*self._open, path])
            rule = "a recipe must not include itself"
            self._say(kinds.CIRCULAR_INCLUDE, entry.at, "include", rule, chain)
        elif self._count >= _MAX_FILES:
            rule = f"a recipe must include at most {_MAX_FILES} files"
            self._say(kinds.MANY_INCLUDES, entry.at, "include", rule)
        elif _is_file(path):
            return self.read(path)
        else:
            advice = _meant_file(Path(entry.value), path.parent) or f"there is no {path}"
            rule = "must be a file (relative to this one) or a shipped recipe's name"
            self._say(kinds.NO_INCLUDE, entry.at, "include", rule, f"`{entry.value}`", advice)
        return None

    def _may_read(self, path: Path, folder: Path) -> bool:
        """Whether a file may be included, be it there or not; links are followed."""
        try:
            found = path.resolve()
        except (OSError, RuntimeError, ValueError):  # too long, or a circle of links
            return False
        shipped = {each.resolve() for each in shipped_recipes().values()}
        return found.is_relative_to(folder) or found in shipped


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # such as too long a name
        return False


def _shown(path: Path) -> str:
    """The path as a person would write it here."""
    below = path.absolute().is_relative_to(Path.cwd())
    return str(path.absolute().relative_to(Path.cwd()) if below else path)


def _sort(value: Any) -> str:
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else f"`{value}`"


def _overridden(tree: Node, overrides: Sequence[str], problems: list[Problem]) -> Node:
    """Deletions are made first, then all assignments together are laid over the recipe."""
    deletions = [_keys(text[1:]) for text in overrides if text.startswith("~")]
    for keys in sorted(deletions, key=_backwards, reverse=True):
        if keys and tree.find(keys):
            tree = tree.with_child(keys, None)
        else:
            rule = "deletes nothing: the recipe's files say nothing there"
            advice = _nearest_path(tree, keys)
            where, path = str(COMMAND_LINE), f"~{_spell(keys)}"
            problems.append(Problem(kinds.DELETES_NOTHING, where, path, rule, "", advice))
    patch: Node | None = None
    for text in overrides:
        if not text.startswith("~"):
            assigned = _assignment(text, tree, problems)
            patch = merge(patch, assigned, one_layer=True) if patch and assigned else assigned or patch
    return merge(tree, patch) if patch else tree


def _nearest_path(tree: Node, keys: KeyPath) -> str:
    """Advice for a path that the tree does not have: the same with its first wrong key corrected."""
    for depth, key in enumerate(keys):
        owner = tree.find(keys[:depth])
        if owner and owner.child(key) is None:
            names = [str(name) for name, _ in owner.items()]
            meant = nearest(str(key), names)
            return f"did you mean `{_spell((*keys[:depth], meant, *keys[depth + 1 :]))}`?" if meant else ""
    return ""


def _keys(text: str) -> KeyPath:
    keys = tuple(text.split("."))
    return keys if all(keys) and len(keys) <= MAX_DEPTH else ()


def _backwards(keys: KeyPath) -> list[tuple[int, str]]:
    """Sorts later items of a list after earlier ones, so that they can be deleted first."""
    return [(int(key) if str(key).isdecimal() else -1, str(key)) for key in keys]


def _assignment(text: str, tree: Node, problems: list[Problem]) -> Node | None:
    name, equals, value = text.partition("=")
    keys = _keys(name)
    if not equals or not keys:
        rule = "must be KEY=VALUE or ~KEY, names in KEY parted by dots"
        problems.append(Problem(kinds.NOT_AN_OVERRIDE, str(COMMAND_LINE), "", rule, f"`{text}`"))
        return None
    before = len(problems)
    node = read_yaml(value, "", problems) or Node(BROKEN, COMMAND_LINE, COMMAND_LINE)
    for index, problem in enumerate(problems[before:], before):
        problems[index] = replace(problem, path=f"{name}.{problem.path}".rstrip("."))
    for depth, key in enumerate(keys):
        owner = tree.find(keys[:depth])
        if owner and isinstance(owner.value, list) and owner.child(key) is None:
            rule = f"must be an index of `{_spell(keys[:depth])}`, which has {len(owner.value)} items"
            problems.append(Problem(kinds.NO_SUCH_ITEM, str(COMMAND_LINE), name, rule, f"`{key}`"))
            return None
    for key in reversed(keys):
        node = Node({str(key): node}, COMMAND_LINE, COMMAND_LINE)
    return node


def _interpolated(tree: Node, problems: list[Problem]) -> Node:
    """Replace each ``${a.b}`` by what stands there, innermost first.

    A value that is nothing but one reference becomes the other value, which keeps its place (and so the
    folder of its relative paths); inside a text the other value is spelled out.
    """
    if sum(node.value.count("${") for _, node in tree.leaves() if _has_reference(node)) > _MAX_REFERENCES:
        rule = f"a recipe must have at most {_MAX_REFERENCES} references"
        raise RecipeError([*problems, Problem(kinds.TOO_LARGE, str(tree.at), "", rule)])
    for _ in range(_MAX_ROUNDS):
        interpolation = _Interpolation(tree, problems)
        if not interpolation.waiting:
            return tree
        tree = tree.map_leaves(interpolation.settle)
        _check_size(tree, problems)
    rule = f"must end at a value in at most {_MAX_ROUNDS} steps, and not at itself"

    def refuse(path: KeyPath, node: Node) -> Node:
        if not _has_reference(node):
            return node
        return _refused(kinds.CIRCULAR_REFERENCE, path, node, rule, problems)

    return tree.map_leaves(refuse)


def _has_reference(node: Node) -> bool:
    return isinstance(node.value, str) and "${" in node.value


def _check_size(tree: Node, problems: list[Problem]) -> None:
    for count, (path, _) in enumerate(tree.leaves()):
        if count >= MAX_VALUES or len(path) > MAX_DEPTH:
            rule = f"with its references a recipe must have at most {MAX_VALUES} values, {MAX_DEPTH} deep"
            problem = Problem(kinds.TOO_LARGE, str(tree.at), _spell(path[:4]), rule)
            raise RecipeError([*problems, problem])


def _spell(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _refused(
    kind: ProblemKind, path: KeyPath, node: Node, rule: str, problems: list[Problem], advice: str = ""
) -> Node:
    given = node.value if len(node.value) <= 60 else f"{node.value[:60]}…"
    problems.append(Problem(kind, str(node.at), _spell(path), rule, f"`{given}`", advice))
    return replace(node, value=BROKEN)


@final
class _Interpolation:
    """One round: settles the references to values that hold none themselves."""

    def __init__(self, tree: Node, problems: list[Problem]) -> None:
        self._tree, self._problems = tree, problems
        self.waiting = [path for path, node in tree.leaves() if _has_reference(node)]
        self._waiting = {tuple(map(str, path)) for path in self.waiting}
        self._above = {path[:length] for path in self._waiting for length in range(len(path) + 1)}

    def settle(self, path: KeyPath, node: Node) -> Node:
        """The value of a leaf, as far as it can be told in this round."""
        if not _has_reference(node):
            return node
        targets = _targets(path, node.value)
        if targets is None:
            rule = "a reference must be ${section.key}; nothing is called or escaped"
            return _refused(kinds.BAD_REFERENCE, path, node, rule, self._problems)
        if any(self._is_open(target) for target in targets):
            return node
        found = [self._tree.find(target) for target in targets]
        if None in found:
            missing = targets[found.index(None)]
            rule = f"must refer to what the recipe says, but it says nothing at `{_spell(missing)}`"
            advice = _nearest_path(self._tree, missing)
            return _refused(kinds.DANGLING_REFERENCE, path, node, rule, self._problems, advice)
        return self._value(
            path, node, {path: each for path, each in zip(targets, found, strict=True) if each}
        )

    def _is_open(self, target: KeyPath) -> bool:
        """Whether a reference waits at, above or below the target."""
        above = (tuple(map(str, target[:length])) for length in range(len(target)))
        return tuple(map(str, target)) in self._above or any(path in self._waiting for path in above)

    def _value(self, path: KeyPath, node: Node, found: Mapping[KeyPath, Node]) -> Node:
        if any(target.is_broken for target in found.values()):
            return replace(node, value=BROKEN)
        if _REFERENCE.fullmatch(node.value):
            (target,) = found.values()
            return replace(target, key_at=node.key_at)
        scalar = not any(isinstance(target.value, (dict, list, NoneType)) for target in found.values())
        try:
            value = _spelled_out(path, node, found) if scalar else ""
        except OmegaConfBaseException as error:
            rule = f"must be resolved: {str(error).splitlines()[0]}"
            return _refused(kinds.BAD_REFERENCE, path, node, rule, self._problems)
        if not scalar or len(value) > _MAX_TEXT:
            rule = f"inside a text a reference must be to a scalar, and make at most {_MAX_TEXT} characters"
            return _refused(kinds.BAD_TEXT_REFERENCE, path, node, rule, self._problems)
        return replace(node, value=value)


def _spelled_out(path: KeyPath, node: Node, found: Mapping[KeyPath, Node]) -> str:
    """A text with what it refers to; OmegaConf is only shown these values, since a tree takes it long."""
    shown: dict[str, Any] = {}
    for at, each in {**found, path: node}.items():
        owner = shown
        for key in at[:-1]:
            owner = owner.setdefault(str(key), {})
        owner[str(at[-1])] = each.value
    value: Any = OmegaConf.create(shown)
    for key in path:
        value = value[str(key)]
    return str(value)


def _targets(path: KeyPath, text: str) -> list[KeyPath] | None:
    """Where the references in the text at `path` point; None if one is not well formed."""
    if "${" in _REFERENCE.sub("", text) or "\\${" in text:
        return None
    targets: list[KeyPath] = []
    for dots, name in _REFERENCE.findall(text):
        if len(dots) > len(path):
            targets.append((dots + name,))  # above the recipe, where there is nothing
        else:
            start = path[: len(path) - len(dots)] if dots else ()
            targets.append((*start, *name.split(".")))
    return targets
