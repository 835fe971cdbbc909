"""The JSON Schema of recipes (draft 2020-12), for editors and other tools."""

import dataclasses
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, final

from nasframe.errors import ComponentError
from nasframe.recipe.recipe import INHERITED_FROM, Recipe
from nasframe.recipe.schema import VERSION, listed_section, plain, settings_of, slot_of
from nasframe.registry import Component, Registry
from nasframe.settings import Setting, json_schema_of, signature_of

TITLE: Final = "nasframe recipe"

_PATH: Final = r"\$\{\.*[^\s{}:.\[\]]+(\.[^\s{}:.\[\]]+)*\}"
_REFERENCE: Final = {
    "type": "string",
    "pattern": f"^{_PATH}$",
    "description": "What stands elsewhere in the recipe: ${section.key}, or ${.key} of the same mapping.",
}
_WITH_REFERENCE: Final = {
    "type": "string",
    "pattern": _PATH,
    "description": "Text with ${section.key} in it.",
}
_TO_REFERENCE: Final = {"$ref": "#/$defs/reference"}
_TO_TEXT: Final = {"$ref": "#/$defs/text_with_reference"}


def recipe_schema(without: Collection[tuple[str, str]] = ()) -> dict[str, Any]:
    """The schema of a recipe's file with all components that can be imported.

    A recipe that includes others may leave out what they say: there nothing must be given, and a component
    may go without its ``type``.

    Args:
        without: Components to leave out, by registry and name; they are not imported.
    """
    part = _Schema("part.", without)
    whole = _Schema("", without, part)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "description": signature_of(Recipe).summary,
        "type": "object",
        "if": {"required": ["include"]},
        "then": part.section(Recipe),
        "else": whole.section(Recipe),
        "$defs": {
            "reference": _REFERENCE,
            "text_with_reference": _WITH_REFERENCE,
            **whole.definitions,
            **part.definitions,
        },
    }


@final
class _Schema:
    """Builds the schema of one way to read: of a whole recipe, or of part of one.

    Args:
        prefix: Of the names of definitions.
        without: Components to leave out, by registry and name.
        part: How slots are read that start from what another slot says; this way by default.

    Attributes:
        definitions: What is referred to, by name.
    """

    def __init__(
        self, prefix: str, without: Collection[tuple[str, str]], part: "_Schema | None" = None
    ) -> None:
        self._prefix, self._without, self._part = prefix, without, part or self
        self.definitions: dict[str, Any] = {}

    @property
    def _is_part(self) -> bool:
        return bool(self._prefix)

    def section(self, section: type, path: str = "") -> dict[str, Any]:
        """A section of the recipe, or the whole."""
        settings = settings_of(section)
        properties = {} if path else self._frame()
        for name, setting in settings.items():
            properties[name] = self._setting(setting, f"{path}{name}")
        required = [] if self._is_part else [name for name, each in settings.items() if each.required]
        return _object(signature_of(section).summary, properties, required)

    def _frame(self) -> dict[str, Any]:
        """Keys that are read before the settings; editors offer `include` also where it is not said yet."""
        version = {"const": VERSION, "default": VERSION, "description": "The version of the recipe format."}
        name = {"type": "string"}
        files = "Recipes that this one lies over, later ones over earlier: files, or names of shipped ones."
        include = {"description": files, "anyOf": [name, {"type": "array", "items": name}]}
        return {"version": version, "include": include}

    def _setting(self, setting: Setting, path: str = "") -> dict[str, Any]:
        """A setting of the section or component; `path` is that of a section's setting."""
        about: dict[str, Any] = {"description": setting.doc} if setting.doc else {}
        if dataclasses.is_dataclass(setting.annotation):
            section = self.section(typing.cast(type, setting.annotation), f"{path}.")
            return {**about, **_either(section, _TO_REFERENCE)}
        inherits = path in INHERITED_FROM
        if not setting.required and not inherits:
            about["default"] = plain(setting.default)
        if (section_type := listed_section(setting.annotation)) is not None:
            item = _either(self.section(section_type, f"{path}.*."), _TO_REFERENCE)
            return {**about, **_either({"type": "array", "items": item}, _TO_REFERENCE)}
        form, registry = slot_of(setting.annotation)
        if registry is None:
            return {**about, **_with_references(self._leaf(setting.annotation))}
        default = None if setting.required else setting.default
        reader = self._part if inherits else self
        return {**about, **reader._slot(form, registry, default, untyped=inherits)}

    def _leaf(self, annotation: Any) -> dict[str, Any]:
        schema = json_schema_of(annotation)
        self.definitions |= schema.pop("$defs", {})
        return schema

    def _slot(self, form: str, registry: Registry[Any], default: Any, *, untyped: bool) -> dict[str, Any]:
        if form == "one":
            return self._component(registry, default, untyped=untyped)
        if form == "optional":
            return _either(self._component(registry, default, untyped=untyped), {"type": "null"})
        item = self._component(registry, None)
        if form == "list":
            return _either({"type": "array", "items": item}, _TO_REFERENCE)
        own = {key: self._component(registry, component) for key, component in (default or {}).items()}
        return _either({"type": "object", "properties": own, "additionalProperties": item}, _TO_REFERENCE)

    def _component(
        self, registry: Registry[Any], default: Component[Any] | None, *, untyped: bool = False
    ) -> dict[str, Any]:
        """A name, or a mapping with a ``type``, which may be missing where it is said elsewhere."""
        alternatives: list[dict[str, Any]] = []
        for name in self._names(registry):
            start = default if default is not None and default.name == name else None
            needed = self._needed(registry, name, start)
            if not needed:
                summary = registry.signature(name).summary
                alternatives.append({"const": name, "description": summary})
            if start is None and not untyped and not self._is_part:
                needed = ["type", *needed]
            schema = self._with_defaults(registry, name, start)
            alternatives.append({**schema, "required": needed} if needed else schema)
        referred = {"type": "object", "properties": {"type": _TO_TEXT}, "required": ["type"]}
        return {"anyOf": [*alternatives, referred, _TO_TEXT]}

    def _names(self, registry: Registry[Any]) -> list[str]:
        """The names of the components that can be used."""
        return [
            name
            for name in registry.names()
            if (registry.name, name) not in self._without and self._is_usable(registry, name)
        ]

    def _is_usable(self, registry: Registry[Any], name: str) -> bool:
        try:
            self._definition(registry, name)
        except ComponentError:
            return False
        return True

    def _needed(self, registry: Registry[Any], name: str, start: Component[Any] | None) -> list[str]:
        """The settings that must be given."""
        given = {} if start is None else start.settings
        settings = registry.signature(name).settings.values()
        return [
            each.name for each in settings if each.required and each.name not in given and not self._is_part
        ]

    def _with_defaults(
        self, registry: Registry[Any], name: str, start: Component[Any] | None
    ) -> dict[str, Any]:
        """The mapping of one component, whose slots may have other defaults than usual."""
        if start is not None and any(isinstance(each, Component) for each in start.settings.values()):
            return self._mapping(registry, name, start.settings)
        return {"$ref": f"#/$defs/{self._definition(registry, name)}"}

    def _definition(self, registry: Registry[Any], name: str) -> str:
        """The name of a component's definition, which is made if there is none yet."""
        key = f"{self._prefix}{registry.name}.{name}"
        if key not in self.definitions:
            self.definitions[key] = {}  # for a component that may hold another of its own name
            try:
                self.definitions[key] = self._mapping(registry, name, {})
            except ComponentError:
                del self.definitions[key]
                raise
        return key

    def _mapping(self, registry: Registry[Any], name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """A component's ``type`` and settings; components in `given` are the defaults of their slots."""
        signature = registry.signature(name)
        properties: dict[str, Any] = {"type": {"const": name, "description": signature.summary}}
        for key, setting in signature.settings.items():
            if isinstance(given.get(key), Component):
                setting = dataclasses.replace(setting, default=given[key])
            properties[key] = self._setting(setting)
        return _object(signature.summary, properties, [])


def _object(description: str, properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "description": description, "properties": properties}
    return {**schema, "additionalProperties": False, **({"required": required} if required else {})}


def _either(*schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Any of these; alternatives of alternatives are their own."""
    return {"anyOf": list(_alternatives(schemas))}


def _alternatives(schemas: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for schema in schemas:
        if set(schema) == {"anyOf"}:
            yield from schema["anyOf"]
        else:
            yield schema


def _with_references(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a value that may be, or may hold, references."""
    inner: dict[str, Any] = dict(schema)
    for key in ("items", "additionalProperties"):
        if isinstance(inner.get(key), dict):
            inner[key] = _with_references(inner[key])
    if "prefixItems" in inner:
        inner["prefixItems"] = [_with_references(item) for item in inner["prefixItems"]]
    if "anyOf" in inner:
        return _either(*map(_with_references, inner["anyOf"]))
    if inner.get("type") == "string" and not {"enum", "const", "pattern", "minLength", "maxLength"} & set(
        inner
    ):
        return inner
    texts = [inner.get("const"), *inner.get("enum", [])]
    is_text = inner.get("type") == "string" or any(isinstance(text, str) for text in texts)
    return _either(inner, _TO_TEXT if is_text else _TO_REFERENCE)
