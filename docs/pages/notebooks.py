"""Notebooks as pages, with what they give when they are run now; none of it is in git."""

import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

from pages.markdown import block

_SECONDS = 300  # that a cell may take


def write(docs: Path) -> None:
    """Run every notebook below `docs`, and write its page and pictures beside it."""
    for path in sorted((docs / "notebooks").glob("*.ipynb")):
        text, pictures = page(executed(path), path.stem)
        for name, content in {f"{path.stem}.md": text, **pictures}.items():
            path.with_name(name).write_text(content, encoding="utf-8")


def executed(path: Path) -> Any:
    """A notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raises.
    """
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    with tempfile.TemporaryDirectory() as folder:
        # sockets of the file system, since those of the network could be listened to
        kernel = {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}
        config = Config({"KernelManager": kernel})
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, config=config, timeout=_SECONDS, resources=resources).execute()
    return notebook


def page(notebook: Any, name: str) -> tuple[str, dict[str, str]]:
    """A notebook's text as Markdown, and its pictures by the names of their files."""
    parts: list[str] = []
    pictures: dict[str, str] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(block("python", cell.source))
        printed = ""
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/svg+xml" in data:
                file = f"{name}-{len(pictures) + 1}.svg"
                pictures[file] = data["image/svg+xml"]
                parts.append(f"![What the cell above shows]({file})")
            elif "text/html" in data:
                parts.append(f"```{{raw}} html\n{data['text/html']}\n```")
            else:
                printed += output.get("text", "") + data.get("text/plain", "")
        if printed:
            parts.append(block("text", printed.rstrip()))
    return "\n\n".join(parts) + "\n", pictures
