"""Loading: files, includes, overrides, references."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nasframe.errors import Problem, RecipeError
from nasframe.recipe import Recipe, load_recipe, recipe_to_mapping

TINY = "name: tiny\ndata: digits\nspace: darts\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test stands in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str, *overrides: str) -> Recipe:
    Path("x.yaml").write_text(text)
    return load_recipe("x.yaml", overrides, check=False)


def mapping(text: str, *overrides: str) -> dict[str, Any]:
    return recipe_to_mapping(load(text, *overrides))


def problems(text: str, *overrides: str) -> Sequence[Problem]:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides)
    return caught.value.problems


def problem(text: str, *overrides: str) -> Problem:
    (only,) = problems(text, *overrides)
    return only


def test_a_shipped_recipe_is_found_by_name() -> None:
    assert load_recipe("digits_darts").name == "digits_darts"


@pytest.mark.parametrize("name", ["digits_datrs", "digits_datrs.yaml"])
def test_a_name_nearly_that_of_a_shipped_recipe_is_answered_with_it(name: str) -> None:
    with pytest.raises(RecipeError, match="did you mean the shipped recipe `digits_darts`"):
        load_recipe(name)


@pytest.mark.parametrize("name", ["mine", "mine.yml", "mien.yaml", "{}/mine", "{}/run"])
def test_a_name_nearly_that_of_a_file_is_answered_with_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(TINY)
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text(TINY)
    name = name.format(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    meant = Path(name) / "recipe.yaml" if name.endswith("run") else Path(name).with_name("mine.yaml")
    assert caught.value.problems[0].advice == f"did you mean `{meant}`?"


def test_an_include_nearly_that_of_a_file_is_answered_with_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(TINY)
    (tmp_path / "mine.yaml").write_text("include: bsae.yaml\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(tmp_path / "mine.yaml"))
    assert caught.value.problems[0].advice == "did you mean `base.yaml`?"


@pytest.mark.parametrize("name", ["", "not/there.yaml", "\0", "x" * 5000, "."])
def test_what_is_no_file_is_a_problem_of_the_command_line(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert caught.value.problems[0].where == "command line"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "a recipe must be a mapping"),
        (b"- a\n- b", "a recipe must be a mapping"),
        (b"just text", "a recipe must be a mapping"),
        (b"\xff\xfe\x00", "must be a text file that can be read"),
        (b"a: [", "must be YAML"),
        (b"a: 1\n" * 10**6, "must have at most"),
    ],
)
def test_a_file_that_is_no_recipe_is_a_problem(content: bytes, rule: str) -> None:
    Path("x.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe("x.yaml")
    (problem,) = caught.value.problems
    assert problem.rule.startswith(rule)
    assert problem.where.startswith("x.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
def test_a_file_that_may_not_be_read_is_a_problem() -> None:
    Path("x.yaml").touch(0o000)
    with pytest.raises(RecipeError, match="must be a text file that can be read"):
        load_recipe("x.yaml")


def test_a_byte_order_mark_and_windows_line_ends_are_read() -> None:
    Path("x.yaml").write_bytes(b"\xef\xbb\xbf" + TINY.replace("\n", "\r\n").encode())
    assert load_recipe("x.yaml").name == "tiny"


# includes


def test_an_include_lies_below_the_file_that_includes_it() -> None:
    Path("sub").mkdir()
    Path("sub/base.yaml").write_text(TINY + "seed: 1\nsearch: {trainer: {epochs: 2, batch_size: 4}}\n")
    found = mapping("include: sub/base.yaml\nname: own\nsearch: {trainer: {epochs: 7}}\n")
    assert (found["name"], found["seed"]) == ("own", 1)
    assert (found["search"]["trainer"]["epochs"], found["search"]["trainer"]["batch_size"]) == (7, 4)


def test_later_includes_lie_over_earlier_ones_and_each_is_relative_to_its_file() -> None:
    Path("sub").mkdir()
    Path("sub/a.yaml").write_text("include: b.yaml\nseed: 1\n")
    Path("sub/b.yaml").write_text(TINY + "seed: 0\ndevice: cpu\n")
    Path("c.yaml").write_text("seed: 2\n")
    recipe = load("include: [sub/a.yaml, c.yaml]\n")
    assert (recipe.seed, recipe.device) == (2, "cpu")


def test_a_shipped_recipe_is_included_by_name() -> None:
    assert load("include: digits_darts\nname: own\n").search == load_recipe("digits_darts").search


def test_a_recipe_that_includes_itself_is_a_problem() -> None:
    Path("y.yaml").write_text("include: x.yaml\n")
    found = problem("include: y.yaml\n")
    assert (found.path, found.rule) == ("include", "a recipe must not include itself")
    assert found.given == "x.yaml → y.yaml → x.yaml"
    assert found.where.endswith("y.yaml:1:10")


@pytest.mark.parametrize("include", ["missing.yaml", "3", "{a: b}", "[3]", "."])
def test_an_include_that_is_no_file_is_a_problem_at_its_place(include: str) -> None:
    found = problem(TINY + f"include: {include}\n")
    assert found.where.startswith("x.yaml:4:")
    assert found.path == "include"


def test_wrong_overrides_are_told_beside_an_include_that_is_no_file() -> None:
    Path("x.yaml").write_text("include: missing.yaml\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("x.yaml", ["seed", "search.trainer.epochs=[1"])
    assert [each.where.partition(":")[0] for each in caught.value.problems] == [
        "command line", "command line", "x.yaml",
    ]  # fmt: skip


def test_a_tab_is_answered_with_spaces() -> None:
    assert problem(TINY + "search:\n\ttrainer: standard\n").advice == "indent with spaces: YAML takes no tabs"


def test_problems_of_an_included_file_are_told_with_its_lines() -> None:
    Path("base.yaml").write_text(TINY + "seed: -1\n")
    found = problems("include: base.yaml\nsede: 3\n")
    assert [each.where for each in found] == ["base.yaml:4:7", "x.yaml:2:1"]


def test_all_files_together_may_be_as_large_as_one() -> None:
    Path("half.yaml").write_text(TINY + "#" * 120_000)
    assert load("include: half.yaml\n").name == "tiny"
    found = problem("include: [half.yaml, half.yaml]\n")
    assert found.rule.startswith("must have at most 200000 characters, together with what includes it")


# overrides


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=7", "seed", 7),
        ("search.trainer.epochs=1e3", "search.trainer.epochs", 1000),
        ("search.trainer.max_steps=5", "search.trainer.max_steps", 5),
        ("search.trainer.max_steps=null", "search.trainer.max_steps", None),
        ("search.trainer.optimizer.lr=0.5", "search.trainer.optimizer.lr", 0.5),
        ("search.trainer.optimizer=adam", "search.trainer.optimizer.type", "adam"),
        ("search.trainer.optimizer.type=adam", "search.trainer.optimizer.type", "adam"),
        ("search.augment=[flip, {type: crop, padding: 2}]", "search.augment.1.padding", 2),
        ("search.augment=[]", "search.augment", []),
        ("data.test_fraction=0.5", "data.test_fraction", 0.5),
        ("name=a=b", None, None),
    ],
)
def test_an_override_is_typed_by_its_slot(override: str, path: str | None, value: Any) -> None:
    if path is None:
        assert problem(TINY, override).path == "name"
        return
    found: Any = mapping(TINY, override)
    for key in path.split("."):
        found = found[int(key)] if isinstance(found, list) else found[key]
    assert found == value
    assert type(found) is type(value)


def test_an_override_of_another_type_replaces_the_component_with_its_settings() -> None:
    text = TINY + "search: {trainer: {optimizer: {type: sgd, momentum: 0.5, lr: 0.5}}}\n"
    optimizer = mapping(text, "search.trainer.optimizer.type=adam")["search"]["trainer"]["optimizer"]
    assert "momentum" not in optimizer
    assert optimizer["lr"] == 1e-3


def test_the_order_of_type_and_settings_on_the_command_line_does_not_matter() -> None:
    text = TINY + "search: {trainer: {optimizer: {type: sgd, momentum: 0.5}}}\n"
    overrides = ["search.trainer.optimizer.type=adam", "search.trainer.optimizer.eps=0.5"]
    assert load(text, *overrides) == load(text, *reversed(overrides))


def test_an_item_of_a_list_is_overridden_by_its_index() -> None:
    text = TINY + "search: {augment: [{type: crop, padding: 3}, flip]}\n"
    assert mapping(text, "search.augment.0.padding=1")["search"]["augment"][0]["padding"] == 1
    found = problem(text, "search.augment.5.padding=1")
    assert (found.where, found.given) == ("command line", "`5`")


def test_a_key_is_deleted() -> None:
    text = TINY + "seed: 3\nsearch: {augment: [crop, flip], valid_fraction: 0.1}\n"
    recipe = load(text, "~seed", "~search.augment.0", "~search.valid_fraction")
    assert (recipe.seed, recipe.search.valid_fraction) == (0, 0.5)
    assert [component.name for component in recipe.search.augment] == ["flip"]


def test_several_items_are_deleted_by_their_indices_in_the_file() -> None:
    text = TINY + "search: {augment: [crop, flip, cutout]}\n"
    recipe = load(text, "~search.augment.0", "~search.augment.1")
    assert [component.name for component in recipe.search.augment] == ["cutout"]


@pytest.mark.parametrize(
    "override", ["~seed", "~", "~search.trainer", "foo", "=3", "a..b=3", ".=1", f"{'a.' * 1000}a=3"]
)
def test_an_override_that_does_nothing_is_a_problem(override: str) -> None:
    assert problem(TINY, override).where == "command line"


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("~search.trainer.epohcs", "did you mean `search.trainer.epochs`?"),
        ("~serach.trainer.epochs", "did you mean `search.trainer.epochs`?"),
        ("~retrain", ""),
        ("seed=${serach.trainer.epochs}", "did you mean `search.trainer.epochs`?"),
        ("seed=${search.trainer.lr}", ""),
    ],
)
def test_a_path_that_is_not_there_is_answered_with_the_nearest(override: str, advice: str) -> None:
    assert problem(TINY + "search: {trainer: {epochs: 3}}\n", override).advice == advice


def test_an_unknown_key_on_the_command_line_is_a_problem_with_the_nearest() -> None:
    found = problem(TINY, "search.trainer.epoch=3")
    assert (found.where, found.path) == ("command line", "search.trainer.epoch")
    assert found.advice == "did you mean `epochs`?"


@pytest.mark.parametrize("value", ["[1", "!!python/object/apply:os.getcwd []", "1\n2: 3", "a: b: c"])
def test_an_override_that_is_no_value_is_a_problem_of_its_key(value: str) -> None:
    found = problem(TINY, f"seed={value}")
    assert found.where == "command line"
    assert found.path.startswith("seed")


def test_files_are_not_included_from_the_command_line() -> None:
    assert problem(TINY, "include=digits_darts").path == "include"


# references


def test_a_reference_is_replaced_by_what_stands_there() -> None:
    text = TINY + (
        "search: {trainer: {epochs: 3, batch_size: '${search.trainer.epochs}', optimizer: {lr: 0.5}}}\n"
        "retrain: {trainer: {optimizer: '${search.trainer.optimizer}', epochs: '${.batch_size}',"
        " batch_size: '${search.trainer.batch_size}'}}\n"
    )
    found = mapping(text.replace("name: tiny", "name: run-${seed}-${retrain.trainer.epochs}\nseed: 4"))
    assert found["name"] == "run-4-3"
    assert found["retrain"]["trainer"]["optimizer"]["lr"] == 0.5
    assert found["retrain"]["trainer"]["epochs"] == 3


def test_a_reference_sees_what_was_overridden_and_may_come_from_the_command_line() -> None:
    assert load(TINY + "seed: '${search.trainer.epochs}'\n", "search.trainer.epochs=9").seed == 9
    assert load(TINY + "search: {trainer: {epochs: 9}}\n", "seed=${search.trainer.epochs}").seed == 9


def test_a_reference_into_a_list_or_through_a_reference_is_followed() -> None:
    text = TINY + "search: {augment: [{type: crop, padding: 3}]}\nretrain: {augment: '${search.augment}'}\n"
    assert load(text + "seed: '${retrain.augment.0.padding}'\n").seed == 3


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("${seed}", "must end at a value"),
        ("${nothing.there}", "must refer to what the recipe says"),
        ("${oc.env:HOME}", "a reference must be"),
        ("${oc.create:{a: 1}}", "a reference must be"),
        ("${a", "a reference must be"),
        ("${}", "a reference must be"),
        ("\\\\${name}", "a reference must be"),
        ("${a${b}}", "a reference must be"),
        ("x${data}${space}${search}", "must refer to what the recipe says"),
        ("x${trackers}", "inside a text a reference must be to a scalar"),
        ("${..........name}", "must refer to what the recipe says"),
    ],
)
def test_a_reference_to_nothing_or_a_call_is_a_problem(value: str, rule: str) -> None:
    found = problem(TINY + f'trackers: [jsonl]\nseed: "{value}"\n')
    assert (found.where, found.path) == ("x.yaml:5:7", "seed")
    assert found.rule.startswith(rule)


def test_references_in_a_circle_are_problems() -> None:
    found = problems(TINY + "seed: '${device}'\ndevice: '${seed}'\nreport: {a: '${report}'}\n")
    assert {each.path for each in found} == {"seed", "device", "report.a"}


def test_references_cannot_multiply_without_end() -> None:
    levels = ["a0: [x, x, x, x, x, x, x, x, x, x]"]
    levels += [
        f"a{n}: [{', '.join(['${' + f'a{n - 1}' + '}'] * 10)}]".replace("$", "\\$") for n in range(1, 9)
    ]
    text = "\n".join(levels).replace("\\$", "$").replace("${", "'${").replace("}", "}'")
    with pytest.raises(RecipeError, match="with its references a recipe must have at most"):
        load(text)


@pytest.mark.parametrize("text", ["${name}", "a${name}"])
def test_references_are_counted(text: str) -> None:
    with pytest.raises(RecipeError, match="must have at most 1000 references"):
        load(TINY + f"export: [{', '.join([repr(text)] * 1001)}]\n")
    found = problems(TINY + f"export: [{', '.join([repr(text)] * 1000)}]\n")
    assert {each.rule for each in found} == {"must be one of the exporters"}


def test_a_text_spells_out_each_sort_of_scalar_and_no_other_value() -> None:
    text = "name: t-${seed}-${search.valid_fraction}-${search.trainer.channels_last}-${.device}\n"
    values = "seed: 3\ndevice: cpu\nsearch: {valid_fraction: 0.25, trainer: {channels_last: true}}\n"
    assert load(TINY.replace("name: tiny\n", text) + values).name == "t-3-0.25-True-cpu"
    found = problem(TINY.replace("tiny", "t-${trackers}") + "trackers: []\n")
    assert found.rule.startswith("inside a text a reference must be to a scalar")


def test_a_text_cannot_grow_without_end_by_references() -> None:
    levels = ["a0: 'xxxxxxxxxx'"]
    levels += [f"a{n}: '{('${a' + str(n - 1) + '}') * 10}'" for n in range(1, 12)]
    with pytest.raises(RecipeError, match="at most 10000 characters"):
        load("\n".join(levels))


# paths


def test_a_relative_path_starts_from_the_file_that_says_it(third_party: Callable[..., Path]) -> None:
    third_party("stranger", PATHS, datasets="unit_paths = Paths")
    Path("sub").mkdir()
    Path("sub/base.yaml").write_text(
        TINY.replace("digits", "{type: unit_paths, path: here, more: [a, ../b]}")
    )
    here = Path.cwd()
    recipe = load("include: sub/base.yaml\n")
    assert recipe.data.settings["path"] == here / "sub" / "here"
    assert recipe.data.settings["more"] == (here / "sub" / "a", here / "b")
    recipe = load("include: sub/base.yaml\n", "data.path=there")
    assert recipe.data.settings["path"] == here / "there"
    Path("sub/here").touch()
    recipe = load("include: sub/base.yaml\ngenotype: '${data.path}'\n")
    assert recipe.genotype == here / "sub" / "here"


def test_absolute_and_home_paths_stay(third_party: Callable[..., Path]) -> None:
    third_party("stranger", PATHS, datasets="unit_paths = Paths")
    text = TINY.replace("digits", "{type: unit_paths, path: /abs/x, more: [~/y]}")
    settings = load(text).data.settings
    assert settings["path"] == Path("/abs/x")
    assert settings["more"] == (Path.home() / "y",)


PATHS = """
    from pathlib import Path
    def Paths(*, path: Path | None = None, more: tuple[Path, ...] = ()) -> None: ...
"""


@pytest.mark.parametrize("override", ["search.trainer.optimizer.type=adam", "search.trainer.optimizer=adam"])
def test_an_override_of_a_type_that_was_only_implied_replaces_the_component_too(tmp_path, override):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: r\ndata: digits\nspace: darts\nsearch: {trainer: {optimizer: {lr: 0.5, momentum: 0.1}}}\n",
        encoding="utf-8",
    )
    kept = load_recipe(recipe, ["search.trainer.optimizer.type=sgd"], check=False).search.trainer.settings[
        "optimizer"
    ]
    assert (kept.settings["lr"], kept.settings["momentum"]) == (0.5, 0.1)
    other = load_recipe(recipe, [override], check=False).search.trainer.settings["optimizer"]
    assert (other.name, other.settings["lr"]) == ("adam", 1e-3)
    both = load_recipe(recipe, ["search.trainer.optimizer.lr=0.2", override], check=False).search.trainer
    assert both.settings["optimizer"].settings["lr"] == 0.2
