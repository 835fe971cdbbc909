"""Run the blocks of pages from top to bottom, each in a folder of its own:  python run_pages.py PAGE...

A block after `<!-- file: NAME -->` is written to that file. Other blocks of Python share the page's names.
Commands run in processes of their own, searches and retrainings small and of two steps; in a `console` block
they must print what is shown. A page may say by `<!-- short: KEY=VALUE ... -->` what makes its runs small.
Commands that install something or start a server are left out.
"""

import importlib
import os
import pkgutil
import re
import runpy
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import nasframe
from nasframe.cli import main

BLOCK = re.compile(r"(?:<!-- file: (\S+) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXECUTED = ("python", "sh", "console")
LEFT_OUT = ("pip", "make", "tensorboard")
SHORT = [
    f"{stage}.trainer.{key}" for stage in ("search", "retrain") for key in ("max_steps=2", "batch_size=16")
]
SHORT += [
    "space.channels=4",
    "retrain.space.channels=4",
    "search.valid_fraction=0.05",
    "search.evaluations=3",
]


IMPORTED = (
    "jinja2", "matplotlib.backends.backend_agg", "matplotlib.textpath", "rich.progress", "rich.table",
    "torch._dynamo", "torch.utils.tensorboard",
)  # fmt: skip


def import_once() -> None:
    """Import what runs need, before pages and commands branch off."""
    found = pkgutil.walk_packages(nasframe.__path__, "nasframe.")
    modules = (module.name for module in found if module.name != "nasframe.__main__")
    for name in (*IMPORTED, *modules):
        importlib.import_module(name)


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """File (or empty), language and code of each block that is written or run."""
    for file, language, code in BLOCK.findall(text):
        if file or language in EXECUTED:
            yield file, language, code


def run(text: str) -> None:
    if said := re.search(r"^<!-- short: (.+) -->$", text, re.MULTILINE):
        SHORT[:] = said[1].split()  # of this page, which has a process of its own
    names: dict[str, object] = {"__name__": "__main__"}
    for file, language, code in blocks(text):
        if file:
            Path(file).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, "block", "exec"), names)
        elif language == "sh":
            for line in code.splitlines():
                status, printed = command(line)
                if status:
                    sys.exit(f"`{line}` ended with {status}:\n{printed}")
        else:
            for line, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE):
                _, printed = command(line)
                if printed != shown:
                    sys.exit(f"`{line}` printed:\n{printed}\nnot:\n{shown}")


def command(line: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    words = shlex.split(line)
    return (0, "") if words[0] in LEFT_OUT else branched(lambda: call(words))


def branched(work: Callable[[], None]) -> tuple[int, str]:
    """Exit code and output of some work in a process of its own."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as captured:
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            os.dup2(captured.fileno(), 1)
            os.dup2(captured.fileno(), 2)
            os._exit(status_of(work))
        _, ended = os.waitpid(child, 0)
        captured.seek(0)
        return os.waitstatus_to_exitcode(ended), captured.read()


def status_of(work: Callable[[], None]) -> int:
    try:
        work()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def call(words: list[str]) -> None:
    if words[0] == "python":
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")
    elif words[0] == "nasframe":
        shortened = words[1] in ("run", "sweep") and "--dry-run" not in words
        main([*words[1:], *(SHORT if shortened else [])])
    else:
        sys.exit(f"{words[0]}: no command that the pages may have")


def run_page(page: Path) -> None:
    """Run a page in a new folder that is called as it is."""
    text = page.read_text(encoding="utf-8")
    Path(page.stem).mkdir()
    os.chdir(page.stem)
    sys.path.insert(0, os.getcwd())
    run(text)


if __name__ == "__main__":
    import_once()
    ended = {page: branched(lambda page=page: run_page(Path(page))) for page in sys.argv[1:]}
    failed = {page: printed for page, (status, printed) in ended.items() if status}
    sys.exit("\n\n".join(f"{page}\n{printed}" for page, printed in failed.items()) or 0)
