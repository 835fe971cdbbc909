"""How to write each kind of component: by what `nasframe new plugin` writes, or by one that is built in."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import nasframe
import nasframe.testing
from nasframe.cli.new import KINDS, package
from nasframe.registry import Registry, registries
from pages.components import built_in, interface, title
from pages.markdown import block, contents, prose, table

_ROOT: Final = Path(nasframe.__file__).parents[1]


def make() -> Iterator[tuple[str, str]]:
    """Path and text of each page."""
    for registry in registries.values():
        yield f"extending/{registry.name}", _page(registry)
    rows = [[f"[{each.name}]({each.name}.md)", interface(each)] for each in registries.values()]
    yield (
        "extending/index",
        f"""# Components of each kind

Each page shows a component that is tested: what `nasframe new plugin` writes, or the shortest one that
is built in. [Components of your own](../own_components.md) tells what they have in common.

{table(["registry", "what its components are"], rows)}

{contents(registries)}""",
    )


def _page(registry: Registry[Any]) -> str:
    kind = registry.name.removesuffix("s")
    given = ", ".join(f"`{name}`" for name in registry.given) or "nothing"
    has_check = hasattr(nasframe.testing, f"check_{kind}")
    check = (
        f" {{py:func}}`nasframe.testing.check_{kind}` tests what all of them promise." if has_check else ""
    )
    shown = _template(kind) if kind in KINDS else _shortest(registry)
    return f"""# {title(registry)} of your own

{_before_sections(inspect.getdoc(registry.interface) or "")}

It is given {given} by position; its settings stand after a bare `*`. It is registered by
`@{registry.name}.register("my_name")`, or by an entry point of the group `nasframe.{registry.name}`.
{_interface_link(registry)}{check} [What there is already](../reference/{registry.name}.md).

{shown}"""


def _before_sections(docstring: str) -> str:
    kept = []
    for paragraph in docstring.split("\n\n"):
        if paragraph.startswith(("Args:", "Attributes:", "Raises:")):
            break
        kept.append(prose(paragraph))
    return "\n\n".join(kept)


def _interface_link(registry: Registry[Any]) -> str:
    module, name = registry.interface.__module__, registry.interface.__name__
    if module.startswith("nasframe.core"):
        return f"Its interface is {{py:class}}`nasframe.core.{name}`."
    return f"Its interface is `{module.removeprefix('builtins')}.{name}`."


def _template(kind: str) -> str:
    name = f"my-{kind.replace('_', '-')}"
    own = {
        path: text
        for path, text in sorted(package(name, kind).items())
        if path.stem.removeprefix("test_") == f"my_{kind}"
    }
    shown = "\n\n".join(f"`{path}`:\n\n{block(_language(path), text)}" for path, text in own.items())
    return f"""## What `nasframe new plugin` writes

{block("sh", f"nasframe new plugin {name} --kind {kind}")}

makes a package of these files, besides the `pyproject.toml` that declares it, a README, a licence, and
a test that runs the recipe. Its tests pass at once.

{shown}"""


def _language(path: Path) -> str:
    return {".py": "py", ".yaml": "yaml"}[path.suffix]


def _shortest(registry: Registry[Any]) -> str:
    files = [Path(inspect.getsourcefile(registry[name]) or "") for name in built_in(registry)]
    path = min(files, key=lambda file: (file.stat().st_size, file))
    return f"""## One that is built in

`{path.relative_to(_ROOT)}`:

{block("py", path.read_text(encoding="utf-8"))}"""
