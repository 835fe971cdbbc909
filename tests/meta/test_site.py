"""The site builds strictly, says what the code says, and what stands on it runs."""

import importlib
import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nasframe
from nasframe.cli.shipped import header_of
from nasframe.errors import RecipeError
from nasframe.problem_kinds import KINDS
from nasframe.recipe import recipe_to_mapping
from nasframe.recipe.discovery import shipped_recipes, shipped_studies
from nasframe.registry import BUILT_IN, registries

DOCS = Path(__file__).parents[2] / "docs"
RUN_PAGES = Path(__file__).with_name("run_pages.py")
WRITTEN = sorted(DOCS.glob("*.md"))


@pytest.fixture(scope="module")
def pages() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("pages")
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def made(pages: ModuleType) -> dict[str, str]:
    texts: dict[str, str] = pages.pages()
    return texts


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    options = ["-W", "--keep-going", "-q", "-b", "dummy", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path / "site")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    notebook = DOCS / "notebooks" / "tutorial.ipynb"  # which was run
    shown = notebook.with_suffix(".md").read_text(encoding="utf-8")
    assert shown.count("```python\n") == notebook.read_text(encoding="utf-8").count('"cell_type": "code"')
    assert len(re.findall(r"!\[.*\]\(tutorial-\d\.svg\)", shown)) == 3


def run_pages(pages: list[Path], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN_PAGES), *map(str, pages)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


FAILING = {
    "raises": "```python\nraise ValueError('this')\n```\n",
    "exits": "<!-- file: x.py -->\n```python\nraise SystemExit(3)\n```\n\n```sh\npython x.py\n```\n",
    "prints": "```console\n$ nasframe --version\nnasframe 0\n```\n",
    "removes": "```sh\nrm x\n```\n",
}


@pytest.mark.slow
def test_the_blocks_of_all_pages_run_and_a_page_whose_blocks_fail_is_named(tmp_path: Path) -> None:
    for name, text in FAILING.items():
        (tmp_path / f"{name}.md").write_text(text, encoding="utf-8")
    done = run_pages([*WRITTEN, *(Path(f"{name}.md") for name in FAILING)], tmp_path)
    told = dict(re.findall(r"^(\S+)\.md\n(.*?)(?=^\S+\.md\n|\Z)", done.stderr, re.DOTALL | re.MULTILINE))
    assert (done.returncode, told.keys()) == (1, FAILING.keys()), done.stderr
    assert (tmp_path / "tutorial" / "runs" / "first" / "report.html").exists()
    assert "ValueError: this" in told["raises"]
    assert "ended with 3" in told["exits"]
    assert "printed:\nnasframe " in told["prints"]
    assert "no command that the pages may have" in told["removes"]


@pytest.mark.parametrize(
    "page", [*WRITTEN, *sorted((DOCS / "decisions").glob("*.md"))], ids=lambda page: page.stem
)
def test_a_page_has_only_blocks_that_are_run_or_only_read(page: Path) -> None:
    languages = set(re.findall(r"^```([\w{}]+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    run = {"python", "sh", "console"} if page in WRITTEN else set()
    assert languages <= run | {"yaml", "toml", "text", "{toctree}"}


def test_every_component_has_a_section_with_all_its_settings(made: dict[str, str]) -> None:
    for registry in registries.values():
        page = made[f"reference/{registry.name}.md"]
        parts = re.split(r"^## `(\w+)`$", page, flags=re.MULTILINE)
        sections = dict(zip(parts[1::2], parts[2::2], strict=True))
        assert list(sections) == [name for name in registry.names() if registry.origin(name) == BUILT_IN]
        for name, section in sections.items():
            settings = registry.signature(name).settings.values()
            assert re.findall(r"^`(\w+)` .*\n: ", section, re.MULTILINE) == [each.name for each in settings]
            assert all(each.doc.split()[-1].strip("`") in section for each in settings if each.doc)
        assert f"extending/{registry.name}.md" in made


def test_every_kind_of_problem_has_its_examples(made: dict[str, str]) -> None:
    page = made["reference/problems.md"]
    assert re.findall(r"^### (NF\d+)$", page, re.MULTILINE) == list(KINDS)
    for kind in KINDS.values():
        last = (kind.right.recipe or "").splitlines()[-1]
        assert last in page


def test_every_verb_has_its_help(made: dict[str, str]) -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "nasframe", "--help"], capture_output=True, text=True, check=True
    ).stdout
    verbs = re.findall(r"^  (\w+) {2,}\w", helped[helped.index("Commands:") :], re.MULTILINE)
    page = made["reference/verbs.md"]
    assert verbs
    for verb in verbs:
        assert f"Usage: nasframe {verb} " in page


def test_every_recipe_has_a_page_with_its_text(made: dict[str, str]) -> None:
    for name, path in shipped_recipes().items():
        said = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("#", "")]
        assert "\n".join(said) in made[f"recipes/{name}.md"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "cifar_pdarts" else name
        for name in shipped_recipes()
    ],
)
def test_the_changes_that_a_recipe_proposes_work(pages: ModuleType, made: dict[str, str], name: str) -> None:
    unchanged = recipe_to_mapping(nasframe.load_recipe(name, check=False))
    proposed = pages.recipes.changes(header_of(shipped_recipes()[name].read_text(encoding="utf-8")))
    assert len(proposed) == 3
    for override, _ in proposed:
        changed = nasframe.load_recipe(name, shlex.split(override), check=False)
        assert recipe_to_mapping(changed) != unchanged
        assert f"nasframe run {name} {override}" in made[f"recipes/{name}.md"]
    changes = [shlex.split(override) for override, _ in proposed]
    try:  # building takes long, and most changes go together
        nasframe.load_recipe(name, list(itertools.chain(*changes)))
    except RecipeError:
        for change in changes:
            nasframe.load_recipe(name, change)


def keys_of(mapping: Any, path: str = "") -> set[str]:
    """Every path of keys in nested mappings."""
    if not isinstance(mapping, dict):
        return set()
    below = {key: keys_of(value, f"{path}{key}.") for key, value in mapping.items()}
    return {f"{path}{key}" for key in mapping} | set().union(*below.values())


def test_the_keys_that_others_names_are_moved_to_exist() -> None:
    recipes = ["cifar_darts", "cifar_proxyless"]
    known = set().union(
        *(keys_of(recipe_to_mapping(nasframe.load_recipe(name, check=False))) for name in recipes)
    )
    text = (DOCS / "moving.md").read_text(encoding="utf-8")
    right = [row.rsplit(" | ", 1)[1] for row in text.splitlines() if row.startswith("| ")]
    named = set(re.findall(r"`((?:search|retrain|space|data|objective)\.[\w.]+)(?:=\S+)?`", "\n".join(right)))
    assert len(named) > 30
    assert named <= known


def test_notebooks_are_kept_without_what_they_gave_somewhere() -> None:
    notebooks = sorted((DOCS / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        ran = [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
        assert ran == [], path


def test_a_notebook_s_page_has_its_text_its_code_and_what_it_gave(pages: ModuleType) -> None:
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    importlib.import_module("pages.notebooks")
    svg = new_output("execute_result", {"image/svg+xml": "<svg/>", "text/plain": "<Picture>"})
    told = [new_output("stream", text="a line\n"), new_output("execute_result", {"text/plain": "3"})]
    table = new_output("execute_result", {"text/html": "<table></table>", "text/plain": "Evaluation(…)"})
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("print('a line')\n1 + 2", outputs=told),
        new_code_cell("draw()", outputs=[svg]),
        new_code_cell("evaluate()", outputs=[table]),
    ]
    text, pictures = pages.notebooks.page(new_notebook(cells=cells), "some")
    assert text.startswith("# Title\n\n```python\nprint('a line')\n1 + 2\n```\n\n```text\na line\n3\n```\n")
    assert "```python\ndraw()\n```\n\n![What the cell above shows](some-1.svg)" in text
    assert text.endswith("```python\nevaluate()\n```\n\n```{raw} html\n<table></table>\n```\n")
    assert pictures == {"some-1.svg": "<svg/>"}


@pytest.mark.slow
def test_no_page_is_loaded_with_anything_from_elsewhere(tmp_path: Path) -> None:
    # what the theme adds is looked at on one small page, since the whole site takes long
    (tmp_path / "index.md").write_text("# One page\n", encoding="utf-8")
    options = {"html_static_path": str(DOCS / "_static")}
    conf = (DOCS / "conf.py").read_text(encoding="utf-8").split("def setup")[0]
    conf = conf.replace("HERE = Path(__file__).parent", f"HERE = Path({json.dumps(str(DOCS))})")
    (tmp_path / "conf.py").write_text(conf, encoding="utf-8")
    settings = [f"-D{key}={value}" for key, value in options.items()]
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", *settings, str(tmp_path), str(tmp_path / "site")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert (
        re.findall(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*\"", page) == []
    )
    sheets = [path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.css")]
    assert sheets
    assert not any(re.search(r"@import|url\(\s*[\"']?(?:https?:)?//", sheet) for sheet in sheets)


def test_a_race_is_told_against_its_first_contender(pages: ModuleType) -> None:
    result = {
        "title": "some steps",
        "goal": "2 times faster",
        "unit": "plain",
        "machine": {"processor": "a CPU", "threads": 2, "vector_units": "AVX2", "torch": "9.9"},
        "errors": {"ours": 3e-15},
        "times": {
            "theirs": {"median": 6.0, "lower": 5.5, "upper": 7.0, "count": 5},
            "ours": {"median": 1.5, "lower": 1.25, "upper": 2.0, "count": 5},
            "plain": {"median": 0.5, "lower": 0.25, "upper": 0.75, "count": 5},
        },
        "peak_bytes": {"theirs": 3 * 2**30, "ours": 2**30},
    }
    section = pages.steps.race("some", result)
    assert section.startswith("## some steps\n")
    assert "| ours | 1.50 s (1.25 s to 2.00 s) | 4.00 × | 1,024 MiB | 3.00 × | 3e-15 | 3.00 |" in section
    assert "| plain | 500 ms (250 ms to 750 ms) | 12.00 × |  |  |  | 1.00 |" in section
    assert "a CPU, 2 threads, AVX2,\ntorch 9.9, 5 rounds.\n\nAimed at: 2 times faster." in section


def test_the_page_of_steps_has_every_race_that_was_run_at_full_size(made: dict[str, str]) -> None:
    results = (DOCS.parent / "benchmarks" / "results").glob("steps-target-*.json")
    races = [path for path in results if "times" in json.loads(path.read_text(encoding="utf-8"))]
    assert made["reference/steps.md"].count("\n## ") == len(races)


def test_a_study_that_is_not_complete_shows_no_figures(pages: ModuleType) -> None:
    text = shipped_studies()["nas_bench_201_small"].read_text(encoding="utf-8")
    estimate = {"mean": 0.9375, "low": 0.9275, "high": 0.9475, "count": 3}
    trials = [{"rank": None, "epochs": 24, "evaluations": None}] * 3
    told = {"accuracy": estimate, "over_random_architecture": None, "over_random_search": None}
    method = {"method": "darts", "done": 3, "planned": 3, "trials": trials, "budget": {"epochs": 24}, **told}
    whole = {
        "name": "nas_bench_201_small",
        "complete": True,
        "trials": {"planned": 3, "done": 3, "failed": 0},
        "budget": {"epochs": 24},
        "seeds": [0, 1, 2],
        "level": 0.95,
        "settings": {"digits": {"methods": [method], "facts": {"count": 15625}, "judged_by": "the test"}},
        "failures": [],
        "checklist": [{"question": "Are there ablations?", "answer": "not known", "because": "so it is"}],
    }
    page = pages.studies.page("nas_bench_201_small", text, whole)
    assert "| darts | 93.75% ± 1.00 | 24 epochs |" in page
    part = {**whole, "complete": False, "trials": {"planned": 33, "done": 3, "failed": 0}}
    page = pages.studies.page("nas_bench_201_small", text, part)
    assert "3 of 33 trials are done" in page
    assert "93.75" not in page
    assert "Nothing is told yet" in pages.studies.page("nas_bench_201_small", text, None)
