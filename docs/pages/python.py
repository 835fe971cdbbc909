"""The Python API, from docstrings."""

from collections.abc import Iterator
from typing import Final

import nasframe
import nasframe.core
from pages.markdown import first_line, table

_OWN: Final = {
    "load_recipe": "function",
    "run": "function",
    "Recipe": "class",
    "Run": "class",
    "Component": "class",
}
"""What `nasframe` has besides names of `nasframe.core`, and how it is documented."""


def make() -> Iterator[tuple[str, str]]:
    """Path and text of each page."""
    core = [name for name in nasframe.__all__ if name in nasframe.core.__all__]
    rows = [[f"{{py:obj}}`{name} <nasframe.core.{name}>`", _what(name)] for name in core]
    directives = "\n\n".join(_directive(name, sort) for name, sort in _OWN.items())
    yield (
        "reference/python",
        f"""# Python: `nasframe`

`nasframe.registries` maps names to registries: `nasframe.registries["algorithms"]["darts_bilevel"]` is
a class. [A search by hand](../python.md) uses all of this.

{directives}

## Names from `nasframe.core`

{table(["name", "what"], rows)}""",
    )
    for module in ("nasframe.core", "nasframe.testing"):
        yield (
            f"reference/{module.removeprefix('nasframe.')}",
            f"# Python: `{module}`\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :imported-members:\n```",
        )


def _what(name: str) -> str:
    return first_line(getattr(nasframe, name).__doc__)


def _directive(name: str, sort: str) -> str:
    shown = f"{name}()" if name == "Recipe" else name  # its keys have a page of their own
    options = "   :members:\n" if sort == "class" else ""
    return f"```{{eval-rst}}\n.. auto{sort}:: nasframe.{shown}\n{options}```"
