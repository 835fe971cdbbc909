"""The verbs: what they print where, and exit codes."""

import json
import platform
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

import nasframe
from nasframe.cli import main
from nasframe.cli.run import _resumable
from nasframe.core import Task
from nasframe.errors import NasframeError
from nasframe.problem_kinds import KINDS
from nasframe.recipe import discovery, dump_recipe, load_recipe
from nasframe.recipe.discovery import shipped_recipes

TINY = """\
name: tiny
data: {type: synthetic, num_train: 32, num_test: 16, height: 8, width: 8}
space: {type: darts, channels: 2, cells: 3, nodes: 1}
search: {trainer: {epochs: 2, batch_size: 8}}
retrain: {trainer: {epochs: 1, batch_size: 8, max_steps: 1}}
"""
GOOD = """
    from nasframe.core import Schedule
    class Mine(Schedule):
        '''Falls by itself.

        Args:
            speed: How fast.
        '''
        def __init__(self, *, speed: float) -> None: ...
        def __call__(self, base_lr, epoch, num_epochs): return base_lr
"""


class Result(NamedTuple):
    code: Any
    out: str
    err: str


Verb = Callable[..., Result]


@pytest.fixture
def nas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs the command line in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)

    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        return Result(caught.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def probed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins are imported in this process to see whether they can be: those of the tests harm none."""

    def failure(registry: str, name: str, time_limit: float) -> str | None:
        try:
            nasframe.registries[registry][name]
        except NasframeError as error:
            return str(error)
        return None

    monkeypatch.setattr(discovery, "_failure", failure)


def test_the_version_is_told(nas: Verb) -> None:
    assert nas("--version") == (0, f"nasframe {nasframe.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["nonsense"], ["validate"], ["run", "tiny.yaml", "--nonsense"]])
def test_wrong_arguments_exit_with_2(nas: Verb, arguments: list[str]) -> None:
    code, out, err = nas(*arguments)
    assert (code, out) == (2, "")
    assert err


# validate


def test_a_valid_recipe_is_told_so(nas: Verb) -> None:
    assert nas("validate", "tiny.yaml") == (0, "tiny.yaml is valid\n", "")
    assert nas("validate", "digits_darts").code == 0


def test_problems_are_shown_with_their_line_and_a_caret(nas: Verb) -> None:
    Path("bad.yaml").write_text("name: bad\ndata: digits\nspace: darts\nsearch:\n  trainer: {epoch: 3}\n")
    code, out, err = nas("validate", "bad.yaml", "seed=-1")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "command line: NF062 seed: must be at least 0, got -1",
        "bad.yaml:5:13: NF051 search.trainer.epoch: `standard` has no such setting",
        "    5 |   trainer: {epoch: 3}",
        "      |             ^",
        "      = did you mean `epochs`?",
        "2 problems; more about it: nasframe explain NF051 NF062",
    ]


def test_problems_are_told_as_json(nas: Verb) -> None:
    Path("bad.yaml").write_text("name: bad\ndata: digit\nspace: darts\n")
    code, out, err = nas("validate", "bad.yaml", "--json")
    assert (code, err) == (2, "")
    told = json.loads(out)
    assert told["valid"] is False
    (problem,) = told["problems"]
    assert (problem["file"], problem["line"], problem["column"]) == ("bad.yaml", 2, 7)
    assert (problem["code"], problem["path"], problem["given"]) == ("NF072", "data.type", "`digit`")
    assert json.loads(nas("validate", "tiny.yaml", "--json").out) == {"valid": True, "problems": []}


def test_of_very_many_problems_the_first_are_shown(nas: Verb) -> None:
    Path("bad.yaml").write_text(TINY + "".join(f"k{index}: 1\n" for index in range(300)))
    lines = nas("validate", "bad.yaml").err.splitlines()
    assert sum("NF051" in line for line in lines) == 101  # and the line that says how to read about it
    assert lines[-2:] == [
        "… and 200 more; nasframe validate --json has all",
        "300 problems; more about it: nasframe explain NF051",
    ]
    assert len(json.loads(nas("validate", "bad.yaml", "--json").out)["problems"]) == 300


def test_no_character_of_a_recipe_reaches_the_terminal_as_a_command(nas: Verb) -> None:
    Path("bad.yaml").write_text('name: x\n"\\e[31mkey\\a": "\\e[2J"\n')
    err = nas("validate", "bad.yaml").err
    assert "\x1b" not in err
    assert "\x07" not in err


@pytest.mark.parametrize("verb", ["validate", "run", "config"])
def test_a_recipe_that_is_not_there_exits_with_2(nas: Verb, verb: str) -> None:
    code, _, err = nas(verb, "missing.yaml")
    assert code == 2
    assert "must be a file or a shipped recipe's name" in err


# explain


def test_a_code_is_explained_with_a_wrong_and_a_right_recipe(nas: Verb) -> None:
    code, out, err = nas("explain", "nf012")
    assert (code, err) == (0, "")
    assert nas("explain", "12").out == out
    assert out.startswith("NF012 A key stands twice in one mapping.\n")
    wrong, right = out.partition("wrong:\n")[2].split("\nright:\n")
    Path("wrong.yaml").write_text(textwrap.dedent(wrong))
    Path("right.yaml").write_text(textwrap.dedent(right))
    assert "NF012" in nas("validate", "wrong.yaml").err
    assert nas("validate", "right.yaml", "--json").code == 0


def test_all_codes_are_listed_and_told_as_json(nas: Verb) -> None:
    listed = nas("explain").out
    told = json.loads(nas("explain", "--json").out)
    assert [kind["code"] for kind in told] == list(KINDS)
    assert all(code in listed for code in KINDS)
    assert set(told[0]) == {"code", "means", "why", "wrong", "right"}
    assert all(kind["right"]["recipe"] for kind in told)


def test_what_is_long_or_no_text_in_an_example_is_shown_short_and_readable(nas: Verb) -> None:
    assert max(map(len, nas("explain", "NF024").out.splitlines())) <= 210
    assert r"caf\xe9" in nas("explain", "NF002").out


def test_several_codes_and_the_arguments_of_examples_are_shown(nas: Verb) -> None:
    out = nas("explain", "NF032", "NF005").out
    assert "$ nasframe validate recipe.yaml ~search.valid_fracton" in out
    assert "$ nasframe validate recipe.yaml --plugin mine.py" in out
    assert "# mine.py" in out


# config


def test_the_complete_recipe_is_printed(nas: Verb) -> None:
    code, out, err = nas("config", "tiny.yaml", "seed=5")
    assert (code, err) == (0, "")
    assert out == dump_recipe(load_recipe("tiny.yaml", ["seed=5"]))
    assert json.loads(nas("config", "tiny.yaml", "seed=5", "--json").out) == yaml.safe_load(out)


def test_every_value_is_told_with_where_it_is_from_and_the_text_is_still_a_recipe(nas: Verb) -> None:
    Path("own.yaml").write_text("include: digits_darts\nname: own\n")
    out = nas("config", "own.yaml", "seed=5", "--provenance").out
    told = {line.partition("#")[0].strip(): line.partition("#")[2].strip() for line in out.splitlines()}
    line = Path(shipped_recipes()["digits_darts"]).read_text().splitlines().index("data: digits") + 1
    assert told["name: own"] == "own.yaml:2"
    assert told["seed: 5"] == "command line"
    assert told["type: digits"] == f"digits_darts:{line}"
    assert told["version: 1"] == "default"
    assert all(told[text] for text in told if text[-1] != ":" and text[0] != "-")
    Path("dump.yaml").write_text(out)
    assert load_recipe("dump.yaml") == load_recipe("own.yaml", ["seed=5"])
    rows = {row["path"]: row for row in json.loads(nas("config", "own.yaml", "--provenance", "--json").out)}
    assert rows["name"] == {
        "path": "name", "value": "own", "origin": "file", "file": "own.yaml", "line": 2, "column": 7
    }  # fmt: skip
    assert rows["seed"] == {"path": "seed", "value": 0, "origin": "default"}


def test_a_minimal_recipe_is_printed_also_with_places(nas: Verb) -> None:
    minimal = yaml.safe_load(TINY)
    minimal["retrain"]["trainer"] = {"epochs": 1, "batch_size": 8, "max_steps": 1}
    assert yaml.safe_load(nas("config", "tiny.yaml", "--minimal").out) == minimal
    assert json.loads(nas("config", "tiny.yaml", "--minimal", "--json").out) == minimal
    out = nas("config", "tiny.yaml", "--minimal", "--provenance").out
    assert out.splitlines()[0].split() == ["name:", "tiny", "#", "tiny.yaml:1"]
    assert "default" not in out


def test_what_differs_from_another_recipe_is_printed_with_places(nas: Verb) -> None:
    code, out, _ = nas("config", "--diff", "tiny.yaml", "tiny.yaml", "search.trainer.epochs=13", "seed=0")
    assert code == 0
    assert out.splitlines() == ["search.trainer.epochs", "  - 2   # tiny.yaml:4", "  + 13  # command line"]
    (difference,) = json.loads(nas("config", "tiny.yaml", "seed=3", "--diff", "tiny.yaml", "--json").out)
    assert difference["path"] == "seed"
    assert difference["left"] == {"value": 0, "origin": "default"}
    assert difference["right"] == {"value": 3, "origin": "command line"}
    assert nas("config", "tiny.yaml", "--diff", "tiny.yaml").out == "the same\n"
    assert nas("config", "tiny.yaml", "--diff", "tiny.yaml", "--minimal").code == 2
    assert nas("config", "tiny.yaml", "--diff", "missing.yaml").code == 2


# schema


def test_the_schema_is_printed_or_written_over_an_older_one_and_nothing_else(nas: Verb) -> None:
    code, out, err = nas("schema")
    assert (code, err) == (0, "")
    assert nas("schema", "--out", "s.json") == (0, "s.json\n", "")
    assert json.loads(Path("s.json").read_text()) == json.loads(out)
    assert nas("schema", "--out", "s.json").code == 0
    code, _, err = nas("schema", "--out", "tiny.yaml")
    assert code == 2
    assert "is no schema of recipes" in " ".join(err.split())
    assert Path("tiny.yaml").read_text() == TINY
    assert nas("schema", "--out", "not/there.json").code == 2


@pytest.mark.usefixtures("probed_here")
def test_a_plugin_that_cannot_be_imported_is_left_out_of_the_schema(
    nas: Verb, third_party: Callable[..., Path]
) -> None:
    third_party("stranger", GOOD, schedules="unit_mine = Mine")
    third_party("stranger2", "raise RuntimeError('no fuel')", schedules="unit_broken = X")
    out = nas("schema").out
    assert "unit_mine" in out
    assert "unit_broken" not in out


# list and show


def test_components_are_listed_with_their_package(nas: Verb) -> None:
    code, out, err = nas("list", "schedules", "--json")
    assert (code, err) == (0, "")
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["cosine"]["from"] == "nasframe"
    assert rows["cosine"]["summary"].startswith("Half a cosine")
    assert "cosine" in nas("list", "schedules").out


def test_every_registry_is_listed_without_a_name(nas: Verb) -> None:
    rows = json.loads(nas("list", "--json").out)
    assert {"algorithms", "datasets", "mixed_ops", "spaces"} <= {row["registry"] for row in rows}


@pytest.mark.usefixtures("probed_here")
def test_a_broken_plugin_is_listed_with_its_reason(nas: Verb, third_party: Callable[..., Path]) -> None:
    third_party("stranger", "raise RuntimeError('no fuel')", schedules="unit_broken = X")
    code, out, _ = nas("list", "schedules")
    assert code == 0
    assert "no fuel" in out
    assert "cosine" in out


def test_a_component_is_shown_with_its_settings_and_a_fragment(nas: Verb) -> None:
    code, out, _ = nas("show", "optimizers", "sgd")
    assert code == 0
    assert "positive float" in out
    told = json.loads(nas("show", "algorithms", "darts_bilevel", "--json").out)
    settings = {setting["name"]: setting for setting in told["settings"]}
    assert settings["order"]["type"] == "one of 1, 2"
    assert told["given"] == ["model", "objective"]
    assert yaml.safe_load(told["fragment"])["search"]["algorithm"]["type"] == "darts_bilevel"


@pytest.mark.parametrize(
    ("registry", "name"),
    [("algorithms", "darts_bilevel"), ("trackers", "jsonl"), ("trainers", "standard"), ("reports", "html")],
)
def test_a_fragment_may_be_pasted_into_a_recipe(nas: Verb, registry: str, name: str) -> None:
    fragment = json.loads(nas("show", registry, name, "--json").out)["fragment"]
    Path("x.yaml").write_text(f"{fragment}\n" + TINY[: TINY.index("search")])
    assert nas("validate", "x.yaml").code == 0


def test_a_component_is_shown_with_its_paper_and_what_it_works_with(nas: Verb) -> None:
    out = nas("show", "algorithms", "proxyless").out
    assert "Cai et al. 2019, arXiv 1812.00332 <https://arxiv.org/abs/1812.00332>" in out
    assert "parameters of kind alpha" in out
    assert "parameters of the upper level" in nas("show", "algorithms", "darts_bilevel").out
    assert "mixed_ops binary_gate (not " in out
    told = json.loads(nas("show", "mixed_ops", "softmax", "--json").out)
    assert told["papers"] == ["Liu et al. 2019, arXiv 1806.09055, eq. 2"]
    assert told["makes"] == {"alpha": "upper"}
    assert told["slots"] == ["search.mixed_op"]
    algorithms = next(each for each in told["works_with"] if each["registry"] == "algorithms")
    assert "darts_bilevel" in algorithms["fitting"]
    assert "proxyless" in algorithms["unfitting"]


def test_papers_are_found_in_the_first_line_or_else_below(nas: Verb) -> None:
    rows = {(row["registry"], row["name"]): row["papers"] for row in json.loads(nas("list", "--json").out)}
    assert rows["datasets", "cifar10"] == ["Krizhevsky 2009"]
    assert rows["explorers", "random_search"] == ["Li and Talwalkar 2019", "Yu et al. 2020"]
    assert rows["trainers", "standard"] == ["Liu et al. 2019, section A.1.1"]
    assert rows["schedules", "constant"] == []


def test_a_component_that_no_recipe_takes_is_shown_without_fragment(nas: Verb) -> None:
    assert "rules of space surgery" in nas("show", "layers", "gated").out
    assert json.loads(nas("show", "layers", "gated", "--json").out)["fragment"] is None


@pytest.mark.usefixtures("probed_here")
def test_a_setting_that_must_be_given_is_shown_so(nas: Verb, third_party: Callable[..., Path]) -> None:
    third_party("stranger", GOOD, schedules="unit_mine = Mine")
    out = nas("show", "schedules", "unit_mine").out
    assert "stranger 1.0" in out
    assert "(must be given)" in out
    assert "How fast." in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "algorithm", "x"], "did you mean `algorithms`?"),
        (["show", "algorithms", "darts_bilevl"], "did you mean `darts_bilevel`?"),
        (["list", "nothing"], "no registry is called `nothing`"),
        (["copy", "digits_dart"], "did you mean `digits_darts`?"),
        (["explain", "NF0l2"], "no problem has the code `NF0l2`"),
        (["resume", "."], "must be a run directory"),
    ],
)
def test_an_unknown_name_exits_with_2_and_the_nearest(nas: Verb, arguments: list[str], words: str) -> None:
    code, _, err = nas(*arguments)
    assert code == 2
    assert words in " ".join(err.split())


def test_a_module_of_the_users_is_imported(nas: Verb) -> None:
    Path("mine.py").write_text(
        "from nasframe.core import Schedule, schedules\n"
        "@schedules.register('unit_cli_mine')\n"
        "class Mine(Schedule):\n    def __call__(self, base_lr, epoch, num_epochs): return base_lr\n"
    )
    override = "search.trainer.schedule=unit_cli_mine"
    assert nas("validate", "tiny.yaml", override).code == 2
    for arguments in (
        ["validate", "tiny.yaml", override],
        ["config", "tiny.yaml", override],
        ["run", "tiny.yaml", override, "--dry-run"],
        ["list", "schedules"],
        ["show", "schedules", "unit_cli_mine"],
    ):
        assert nas(*arguments, "--plugin", "mine.py").code == 0
    assert nas("validate", "tiny.yaml", "--plugin", "missing.py").code == 2


# recipes and copy


def test_shipped_recipes_are_listed_with_what_they_do(nas: Verb) -> None:
    rows = {row["name"]: row for row in json.loads(nas("recipes", "--json").out)}
    assert "digits" in rows["digits_darts"]["what"]
    assert "digits_darts" in nas("recipes").out


def test_a_shipped_recipe_is_copied_and_never_over_another_file(nas: Verb) -> None:
    assert nas("copy", "digits_darts") == (
        0, "digits_darts.yaml\n", "nasframe.schema.json, for your editor\n"
    )  # fmt: skip
    assert json.loads(Path("nasframe.schema.json").read_text())["title"] == "nasframe recipe"
    assert nas("validate", "digits_darts.yaml").code == 0
    Path("own.yaml").write_text("mine")
    code, _, err = nas("copy", "digits_darts", "own.yaml")
    assert code == 2
    assert "--force" in err
    assert Path("own.yaml").read_text() == "mine"
    assert nas("copy", "digits_darts", "own.yaml", "--force") == (0, "own.yaml\n", "")
    assert Path("own.yaml").read_text() == Path("digits_darts.yaml").read_text()
    assert nas("copy", "digits_darts", "not/there.yaml").code == 2


# run


def test_a_dry_run_prints_the_complete_recipe_and_does_nothing(nas: Verb) -> None:
    before = set(Path.cwd().iterdir())
    assert nas("run", "tiny.yaml", "--dry-run").out == nas("config", "tiny.yaml").out
    assert set(Path.cwd().iterdir()) == before


def test_a_run_tells_where_its_results_are_and_its_progress_line_by_line(nas: Verb) -> None:
    code, out, err = nas("run", "tiny.yaml", "--out", "there")
    assert code == 0
    for words in ("test accuracy", "parameters", "  there\n", "tensorboard --logdir there"):
        assert words in out
    lines = [line.split(",")[0] for line in err.splitlines()]
    assert [line for line in lines if not line.startswith("  ")] == [
        "search: step 2/4",
        "search: step 4/4",
        "retrain: step 1/1",
    ]
    assert any(line.startswith("  normal: ") for line in lines)
    assert "\x1b" not in err
    code, _, err = nas("run", "tiny.yaml", "--out", "there")
    assert code == 2
    assert "must be a new or empty folder" in err
    assert nas("resume", "there", "--quiet") == (0, f"{Path('there').resolve()}\n", "")
    code, _, err = nas("resume", "there", "seed=3")
    assert code == 2
    assert "begin another: `nasframe run there/recipe.yaml seed=3`" in " ".join(err.split())
    told = json.loads(nas("resume", "there", "--json").out)
    assert told["folder"] == str(Path("there").resolve())
    assert told["metrics"]["parameters"] > 0
    assert told["architecture"] is None


def test_a_run_tells_the_architecture_as_its_space_writes_it_on_a_line_to_copy(nas: Verb) -> None:
    key = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"
    space = {"type": "nas_bench_201", "channels": 2, "cells": 1}
    nasframe.registries["spaces"]["nas_bench_201"](Task()).genotype(key).save(Path("known.json"))
    code, out, _ = nas(
        "run", "tiny.yaml", f"space={json.dumps(space)}", "genotype=known.json", "--out", "there"
    )
    assert code == 0
    assert out.splitlines()[-2:] == ["architecture", key]
    assert json.loads(nas("resume", "there", "--json").out)["architecture"] == key
    for file in ("status.json", "report.json"):
        assert json.loads((Path("there") / file).read_text())["architecture"] == key
    assert key in Path("there/report.html").read_text()


def test_what_fails_in_a_run_exits_with_1_and_its_message(nas: Verb) -> None:
    code, _, err = nas(
        "run", "tiny.yaml", "search.trainer.optimizer.lr=1e30", "search.trainer.max_grad_norm=null"
    )
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("error: search: step ")
    assert "loss, gradients and alphas must be finite, but not: train_loss" in last
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("space.operations=[none,sep_conv_3x4]", "did you mean `sep_conv_3x3`?"),
        ("search.trainer.optimizer={nesterov: true, momentum: 0}", "nesterov must have momentum"),
        ("search.valid_fraction=0.001", "must leave examples on both sides"),
    ],
)
def test_what_the_recipe_must_change_exits_with_2_and_without_traceback(
    nas: Verb, override: str, said: str
) -> None:
    code, _, err = nas("run", "tiny.yaml", override)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_no_character_of_a_file_reaches_the_terminal_as_a_command(nas: Verb) -> None:
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text(TINY)
    Path("run/status.json").write_text(json.dumps({"version": "\x1b]0;owned\x07\u202e"}))
    code, _, err = nas("resume", "run")
    assert code == 1
    assert err.startswith("error: ")
    assert not {"\x1b", "\x07", "\u202e"} & set(err)


def test_a_recipe_reaches_out_of_its_folder_by_an_option_alone(nas: Verb) -> None:
    Path("sub").mkdir()
    Path("sub/x.yaml").write_text("include: ../tiny.yaml\n")
    for verb in ("validate", "config", "run", "plan"):
        code, _, err = nas(verb, "sub/x.yaml")
        assert code == 2
        assert "NF025 include: must lie in sub or below" in err
        assert "allow it by --outside" in err
    for verb in ("validate", "config"):
        assert nas(verb, "sub/x.yaml", "--outside").code == 0
    assert nas("run", "sub/x.yaml", "--outside", "--dry-run").code == 0


@pytest.mark.parametrize(
    ("table", "option"), [("latency.json", ""), ("sub/latency.json", ""), ("../latency.json", " --outside")]
)
def test_an_interrupted_run_that_writes_outside_is_resumed_by_the_option(
    nas: Verb, table: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = nas("config", "tiny.yaml", "search.cost.type=latency", f"search.cost.table={table}")
    assert code == 0
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text(out)
    Path("run/status.json").write_text("{}")
    with pytest.raises(typer.Exit), _resumable(Path("run"), ()):
        raise KeyboardInterrupt
    assert capsys.readouterr().err.endswith(f"go on with: nasframe resume run{option}\n")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
@pytest.mark.parametrize(("wish", "kept"), [("keep", True), ("system", False)])
def test_a_run_keeps_freed_memory_unless_the_user_does_not_want_it(
    nas: Verb, monkeypatch: pytest.MonkeyPatch, wish: str, kept: bool
) -> None:
    for name in ("MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("NASFRAME_ALLOCATOR", wish)
    assert nas("run", "tiny.yaml", "--out", "here")[0] == 0
    environment = json.loads(Path("here/environment.json").read_text())
    assert ("MALLOC_MMAP_MAX_" in environment["allocator"]) is kept
