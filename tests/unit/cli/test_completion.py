"""Completion, through the protocol that shells speak to the command line."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nasframe.cli import completion, main
from nasframe.problem_kinds import KINDS

Complete = Callable[..., list[str]]
HEAVY = {"torch", "omegaconf"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def complete(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Complete:
    """What bash is offered at the end of a command line, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    completion._catalog.cache_clear()

    def offered(line: str) -> list[str]:
        words = line.split()  # bash parts words at `=` too, and gives the count of those before the cursor
        monkeypatch.setenv("_NASFRAME_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - (not line.endswith(" "))))
        with pytest.raises(SystemExit):
            main([])
        return capsys.readouterr().out.split()

    return offered


def test_verbs_are_completed(complete: Complete) -> None:
    assert complete("nasframe sh") == ["show"]
    assert {"run", "validate", "explain", "schema"} <= set(complete("nasframe "))


def test_recipes_are_completed_by_name_and_by_file(complete: Complete) -> None:
    for name in ("digits_mine.yaml", "digits_more.txt", "other.yml", ".hidden.yaml"):
        Path(name).touch()
    Path("digits_folder").mkdir()
    Path("digits_folder/in.yaml").touch()
    for verb in ("run", "validate", "config"):
        offered = complete(f"nasframe {verb} digits_")
        assert {"digits_darts", "digits_mine.yaml", "digits_folder/"} <= set(offered)
        assert "digits_more.txt" not in offered
    assert complete("nasframe run digits_folder/") == ["digits_folder/in.yaml"]
    assert complete(f"nasframe run {Path.cwd()}/o") == [f"{Path.cwd()}/other.yml"]
    assert complete("nasframe run ./.h") == ["./.hidden.yaml"]
    assert "digits_darts" in complete("nasframe config --diff d")
    assert complete("nasframe copy cifar_darts_") == ["cifar_darts_small"]


def test_registries_components_and_codes_are_completed(complete: Complete) -> None:
    assert complete("nasframe show al") == ["algorithms"]
    assert complete("nasframe list mi") == ["mixed_ops"]
    assert complete("nasframe show algorithms dart") == ["darts_bilevel"]
    assert {"sep_conv_3x3", "sep_conv_5x5"} <= set(complete("nasframe show ops sep"))
    assert complete("nasframe show nothing x") == []
    assert complete("nasframe explain NF01") == [code for code in KINDS if code.startswith("NF01")]


def test_keys_are_completed_for_the_components_that_the_recipe_names(complete: Complete) -> None:
    darts = complete("nasframe run digits_darts search.algorithm.")
    assert "search.algorithm.order=" in darts
    assert "search.algorithm.alpha_optimizer.lr=" in darts
    Path("own.yaml").write_text(
        "include: digits_proxyless\nspace: macro\nsearch: {trainer: {optimizer: adam}}\n"
    )
    own = complete("nasframe run own.yaml search.")
    assert "search.algorithm.update=" in own
    assert "search.algorithm.order=" not in own
    assert "search.trainer.optimizer.betas=" in own
    assert "search.trainer.optimizer.momentum=" not in own
    assert "space.stages=" in complete("nasframe run own.yaml space.")
    assert "include=" not in complete("nasframe run digits_darts ")  # only files can say it
    assert complete("nasframe run digits_darts se") == [
        key for key in complete("nasframe run digits_darts ") if key.startswith("se")
    ]


def test_keys_are_completed_for_the_components_that_the_command_line_names(complete: Complete) -> None:
    for words in ("search.algorithm.type = proxyless", "search.algorithm = proxyless seed = 3"):
        offered = complete(f"nasframe run digits_darts {words} search.algorithm.")
        assert "search.algorithm.update=" in offered
        assert "search.algorithm.order=" not in offered


def test_the_only_key_comes_with_its_value_so_that_no_shell_puts_a_space_behind_it(
    complete: Complete,
) -> None:
    assert complete("nasframe run digits_darts search.trainer.epoch") == [
        "search.trainer.epochs=",
        "search.trainer.epochs=8",  # the recipe's
    ]
    assert complete("nasframe run digits_darts search.fuse") == ["search.fused=", "search.fused=true"]


def test_every_name_is_completed_as_a_type(complete: Complete) -> None:
    offered = complete("nasframe run digits_darts search.algorithm.type = ")
    assert {"darts_bilevel", "proxyless"} <= set(offered)
    assert complete("nasframe run digits_darts search.cost.type = fl") == ["flops"]
    assert "null" in complete("nasframe run digits_darts search.cost = ")
    assert "null" not in complete("nasframe run digits_darts search.cost.type = ")


def test_the_values_that_can_be_chosen_are_completed_in_the_words_of_bash(complete: Complete) -> None:
    assert set(complete("nasframe run digits_darts device = ")) == {"auto", "cpu", "cuda", "mps"}
    assert set(complete("nasframe run digits_darts device =")) == {"auto", "cpu", "cuda", "mps"}
    assert set(complete("nasframe run digits_darts device = c")) == {"cpu", "cuda"}
    assert complete("nasframe run digits_darts seed = 3 search.algorithm = darts") == ["darts_bilevel"]
    assert complete("nasframe run digits_darts seed = 3 search.trainer.ep")[0] == "search.trainer.epochs="
    assert complete("nasframe run digits_darts search.trainer.channels_last = t") == ["true"]
    assert complete("nasframe run digits_darts seed = ") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_values_are_completed_as_one_word_for_other_shells(
    complete: Complete, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    monkeypatch.setenv("_NASFRAME_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "nasframe run digits_darts search.algorithm.order=")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit):
        main([])
    out = capsys.readouterr().out
    assert "search.algorithm.order=1" in out
    assert "search.algorithm.order=2" in out


def test_what_a_recipe_says_is_offered_for_deletion(complete: Complete) -> None:
    assert complete("nasframe run digits_darts ~search.trainer.e") == ["~search.trainer.epochs"]


@pytest.mark.parametrize(
    "line",
    [
        "nasframe run missing.yaml search.algorithm.ord",
        "nasframe run bad.yaml search.algorithm.ord",
        "nasframe run circle.yaml search.algorithm.ord",
    ],
)
def test_a_recipe_that_cannot_be_read_breaks_nothing(complete: Complete, line: str) -> None:
    Path("bad.yaml").write_text("a: [")
    Path("circle.yaml").write_text("include: circle.yaml\n")
    assert complete(line) in ([], ["search.algorithm.order=", "search.algorithm.order=1"])


def test_names_come_from_a_cache_that_is_made_anew_when_packages_change(
    complete: Complete, cache: Path, third_party: Callable[..., Path]
) -> None:
    assert "unit_late" not in complete("nasframe show schedules ")
    (kept,) = (cache / "nasframe").glob("completion-*.json")
    stamp = kept.stat().st_mtime_ns
    completion._catalog.cache_clear()
    complete("nasframe show schedules ")
    assert kept.stat().st_mtime_ns == stamp
    third_party(
        "stranger",
        "from nasframe.core import Schedule\nclass Late(Schedule): ...",
        schedules="unit_late = Late",
    )
    completion._catalog.cache_clear()
    assert "unit_late" in complete("nasframe show schedules ")
    (other,) = (cache / "nasframe").glob("completion-*.json")
    assert other != kept


def test_with_a_cache_nothing_heavy_is_imported(complete: Complete, cache: Path) -> None:
    assert complete("nasframe show al") == ["algorithms"]
    code = (
        f"import sys\nsys.path[:] = {sys.path!r}  # the cache is kept by what is found there\n"
        "from nasframe.cli import main\ntry: main([])\nexcept SystemExit: pass\n"
        f"heavy = {HEAVY} & set(sys.modules)\nassert not heavy, heavy"
    )
    words = {"COMP_WORDS": "nasframe run digits_darts search.trainer.ep", "COMP_CWORD": "3"}
    asked = {**os.environ, "_NASFRAME_COMPLETE": "complete_bash", **words, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=asked, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()) == (
        0,
        ["search.trainer.epochs=", "search.trainer.epochs=8"],
    ), done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "include: [x.yaml, x.yaml, x.yaml]\n",
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 35)),
        "a: &a {b: *a}\n",
        "a: " + "[" * 5000,
        "a: !!python/object/apply:os.system ['touch ran']\n",
    ],
    ids=["includes itself", "aliases of aliases", "an alias to itself", "deep", "a tag"],
)
def test_a_hostile_recipe_does_not_hold_up_the_shell(complete: Complete, text: str) -> None:
    Path("x.yaml").write_text(text)
    started = time.process_time()
    complete("nasframe run x.yaml search.al")
    complete("nasframe run x.yaml ~a")
    assert time.process_time() - started < 5
    assert not Path("ran").exists()
