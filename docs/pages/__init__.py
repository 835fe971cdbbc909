"""Pages of the site that are made from the code; everything in `FOLDERS` is, and git ignores it."""

from pathlib import Path
from typing import Final

from pages import components, extending, problems, python, recipe_keys, recipes, steps, studies, verbs

FOLDERS: Final = ("recipes", "reference", "extending", "study_results")
_PARTS: Final = (recipes, studies, components, recipe_keys, problems, verbs, python, extending, steps)


def write(docs: Path) -> None:
    """Write every page below `docs` that differs from what is there, and remove those that are no more."""
    made = {docs / path: text for path, text in pages().items()}
    for folder in FOLDERS:
        for old in (docs / folder).rglob("*.md"):
            if old not in made:
                old.unlink()
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The text of every page by its path."""
    return {f"{path}.md": f"{text.strip()}\n" for part in _PARTS for path, text in part.make()}
