"""How a component is registered."""

from pathlib import Path
from typing import Any

from nasframe.registry import Component, registries
from nasframe.settings import read_value
from nasframe.testing._verdict import fail, flat, require


def check_component(registry: str, name: str) -> None:
    """Check how a component is registered.

    It and each of its settings say what they are, each setting has a type that its default fits, and
    it can be built where it needs nothing (a dataset excepted, which may need files).

    Args:
        registry: Such as ``algorithms``.
        name: Its registered name.

    Raises:
        ComponentError: What must be changed.
    """
    where = f"{registry}: `{name}`"
    owner = registries[registry]
    factory, signature = owner[name], owner.signature(name)
    require(
        not isinstance(factory, type) or issubclass(factory, owner.interface),
        f"{where} must be a subclass of {owner.interface.__name__}; derive the class from it",
    )
    own_docstring = factory.__doc__  # not the one of the interface, which a class without its own inherits
    require(
        own_docstring and signature.summary,
        f"{where} must say what it is; give it a docstring of at least one line",
    )
    for setting in signature.settings.values():
        require(
            setting.doc,
            f"{where}: setting `{setting.name}` must say what it means; "
            "add it under `Args:` in the docstring",
        )
        if not setting.required:
            _check_default(f"{where}: default of `{setting.name}`", setting.annotation, setting.default)
    required = [setting.name for setting in signature.settings.values() if setting.required]
    if not owner.given and not required and registry != "datasets":
        built = factory()
        require(
            isinstance(built, owner.interface),
            f"{where} must build a {owner.interface.__name__}, got {type(built).__name__}; return one",
        )


def _check_default(where: str, annotation: Any, default: Any) -> None:
    components = [part for part in flat(default) if isinstance(part, Component)]
    for component in components:
        require(
            component.name in registries[component.registry],
            f"{where} must name a component, but {component.registry} has no `{component.name}`; "
            "correct the default",
        )
    if not components:
        _, problems = read_value(annotation, str(default) if isinstance(default, Path) else default)
        if problems:
            fail(f"{where} {problems[0].rule}, got {default!r}; change the default or the type")
