"""One page a shipped recipe, from its header, its text and the README's table."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import nasframe
from nasframe.cli.shipped import header_of
from nasframe.recipe.discovery import shipped_recipes
from pages.markdown import block, contents, definitions, prose, table

_README: Final = Path(nasframe.__file__).parents[1] / "README.md"
_VALUE: Final = r"(?:'[^']*'|[\w.]*\w)"
_COMMAND_OR_PATH: Final = re.compile(
    rf"(nasframe run \w+(?: [\w.]+={_VALUE})+|\w+(?:\.\w+)+={_VALUE}|\w+={_VALUE}(?=[. ]|$)|docs/\w+\.md)"
)


def make() -> Iterator[tuple[str, str]]:
    """Path and text of each page."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in shipped_recipes().items()}
    found = measured()
    for name, text in texts.items():
        yield f"recipes/{name}", _page(name, text, found.get(name, ""))
    rows = [[f"[`{name}`]({name}.md)", _marked(header_of(text)["what"])] for name, text in texts.items()]
    yield (
        "recipes/index",
        f"""# Recipes

Whole searches that come with nasframe. `nasframe run NAME` runs one, `nasframe copy NAME` gives one to
edit, and any of their values can be changed on the command line.

{table(["recipe", "what"], rows)}

{contents(texts)}""",
    )


def changes(header: Mapping[str, str]) -> list[tuple[str, str]]:
    """The overrides that a recipe's header proposes, each with what it does."""
    proposed = [each.removesuffix(")") for each in header.get("change", "").split("; ") if each]
    return [(override, what) for override, _, what in (each.rpartition(" (") for each in proposed)]


def measured() -> dict[str, str]:
    """What the README's table says was measured, by recipe."""
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", _README.read_text(encoding="utf-8"), re.MULTILINE)
    moved = {"](docs/": "](../", "](benchmarks/": "](../../benchmarks/"}
    return {name: re.sub(r"\]\((?:docs|benchmarks)/", lambda at: moved[at[0]], said) for name, said in rows}


def _page(name: str, text: str, measured: str) -> str:
    header = header_of(text)
    fields = ("source", "hardware", "time", "expected")
    facts = [(f"**{field}**", _marked(header[field])) for field in fields if field in header]
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    proposed = "\n\n".join(
        f"{what[0].upper()}{what[1:]}:\n\n{block('sh', f'nasframe run {name} {override}')}"
        for override, what in changes(header)
    )
    return f"""# `{name}`

{_marked(header["what"])}

{block("sh", f"nasframe run {name}")}

{definitions([*facts, *([("**measured**", measured)] if measured else [])])}

## The recipe

{block("yaml", body)}

What it does not say takes its default; `nasframe config {name}` prints all of it. The
[keys of a recipe](../reference/recipe.md) and the [components](../reference/index.md) say what could
stand there.

## To change it

{proposed}

`nasframe copy {name}` writes it to `{name}.yaml`, and beside it the schema by which an editor completes
and checks it."""


def _marked(text: str) -> str:
    """Prose of a header, its commands and overrides as code, its documents as links."""
    parts = _COMMAND_OR_PATH.split(text)
    return "".join(_code(part) if index % 2 else prose(part) for index, part in enumerate(parts))


def _code(text: str) -> str:
    document = text.removeprefix("docs/")
    return f"`{text}`" if document == text else f"[{document}](../{document})"
