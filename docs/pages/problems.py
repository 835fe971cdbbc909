"""The kinds of problem that a recipe can have, each with its examples."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from nasframe.cli.explain import told
from nasframe.problem_kinds import KINDS
from pages.markdown import block, prose

_GROUPS: Final = {
    "NF00": "The recipe's file",
    "NF01": "YAML",
    "NF02": "Includes",
    "NF03": "Overrides",
    "NF04": "References",
    "NF05": "Keys",
    "NF06": "Values",
    "NF07": "Names",
    "NF08": "Parts that must fit together",
    "NF09": "This machine",
    "NF10": "Parts that cannot be built",
    "NF11": "Explorers, and what they need beside them",
    "NF12": "Parts of a method, and what they need beside them",
    "NF13": "The health of a search",
    "NF14": "The stages of a search",
}


def make() -> Iterator[tuple[str, str]]:
    """Path and text of the page."""
    sections = []
    for code, kind in KINDS.items():
        if (group := f"## {_GROUPS[code[:4]]}") not in sections:
            sections.append(group)
        sections.append(_section(told(kind)))
    listed = "\n\n".join(sections)
    yield (
        "reference/problems",
        f"""# Problems of a recipe

What `nasframe validate` finds, each with its code. `nasframe explain CODE` shows the same. A code never
comes to mean something else.

{listed}""",
    )


def _section(kind: Mapping[str, Any]) -> str:
    return f"""### {kind["code"]}

**{prose(kind["means"])}** {prose(kind["why"])}

Wrong:

{_example(kind["wrong"])}

Right:

{_example(kind["right"])}"""


def _example(example: Mapping[str, Any]) -> str:
    files = [f"# {name}\n{text}" for name, text in example["files"].items()]
    recipe = example["recipe"] or "# there is no such file\n"
    shown = [block("text", "\n".join([*files, f"# recipe.yaml\n{recipe}"]) if files else recipe)]
    if example["arguments"]:
        shown.append(block("text", f"$ nasframe validate recipe.yaml {' '.join(example['arguments'])}"))
    return "\n\n".join(shown)
