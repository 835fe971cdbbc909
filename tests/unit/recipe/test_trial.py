"""What a run would refuse at its start is found before it, with the place where it is written."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nasframe import Genotype, load_recipe
from nasframe.errors import Problem, RecipeError

TEXT = """\
name: x
data: {type: digits}
space: {type: darts, channels: 4, cells: 4, nodes: 2}
search:
  algorithm: {type: darts_bilevel, order: 1}
  trainer: {optimizer: {type: sgd}}
retrain:
  trainer: {optimizer: {type: sgd}}
"""


@pytest.fixture
def problems_of(tmp_path: Path) -> Callable[..., list[Problem]]:
    path = tmp_path / "x.yaml"

    def problems_of(*changes: tuple[str, str], check: bool = True) -> list[Problem]:
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path.write_text(text)
        try:
            load_recipe(path, check=check)
        except RecipeError as error:
            return error.problems
        return []

    return problems_of


def test_a_recipe_that_can_be_run_has_no_problem(problems_of: Callable[..., list[Problem]]) -> None:
    assert problems_of() == []


@pytest.mark.parametrize(
    ("old", "new", "where", "path", "rule"),
    [
        (
            "nodes: 2}",
            "nodes: 2, operations: [none, skip_conect]}",
            (3, 74),
            "space.operations.1",
            "must be one of the ops",
        ),
        (
            "nodes: 2}",
            "nodes: 2, operations: [none]}",
            (3, 1),
            "space",
            "space darts: operations must be distinct, and one of them not `none`",
        ),
        ("nodes: 2}", "nodes: 2, stem: imagenet}", (3, 1), "space", "of at least 32x32"),
        ("optimizer: {type: sgd}", "optimizer: {type: adam}", (5, 3), "search.algorithm", None),
        (
            "optimizer: {type: sgd}",
            "optimizer: {type: sgd, nesterov: true, momentum: 0}",
            (6, 13),
            "search.trainer.optimizer",
            "sgd: nesterov must have momentum and no dampening",
        ),
        (
            "retrain:\n",
            "retrain:\n  space: {nodes: 3}\n",
            (8, 3),
            "retrain.space",
            "must build what a search of `space` finds",
        ),
        (
            "retrain:\n",
            "  valid_fraction: 0\nretrain:\n",
            (7, 3),
            "search.valid_fraction",
            "must be above 0, because `darts_bilevel` learns from held-out examples",
        ),
        (
            "retrain:\n",
            "retrain:\n  valid_fraction: 0.0001\n",
            (8, 3),
            "retrain.valid_fraction",
            "must leave examples on both sides of a split of 1438",
        ),
        ("digits}", "digits, test_fraction: 0}", (2, 1), "data", "digits: test_fraction must leave images"),
        (
            "{type: digits}",
            "{type: cifar10, path: nowhere}",
            (2, 29),
            "data.path",
            "must be a folder that exists",
        ),
        ("name: x", "name: x\ngenotype: g.json", (2, 11), "genotype", "must be a file that exists"),
        pytest.param(
            "name: x",
            "name: x\ndevice: cuda",
            (2, 1),
            "device",
            "must be one that this machine has, got cuda",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA"),
        ),
    ],
)
def test_what_a_run_would_refuse_is_told_with_its_place(
    problems_of: Callable[..., list[Problem]],
    old: str,
    new: str,
    where: tuple[int, int],
    path: str,
    rule: str | None,
) -> None:
    if rule is None:  # the optimizer is only wrong where its step is differentiated
        assert problems_of((old, new)) == []
        (problem,) = problems_of((old, new), ("order: 1", "order: 2"))
        rule = "the optimizer must be sgd (torch.optim.SGD itself), got Adam"
    else:
        (problem,) = problems_of((old, new))
    assert (problem.path, problem.position[1:]) == (path, where)
    assert rule in problem.rule


def test_all_of_it_is_told_at_once_with_what_is_wrong_in_itself(
    problems_of: Callable[..., list[Problem]],
) -> None:
    found = problems_of(
        ("name: x", "name: .x\nsead: 1"),
        ("{type: digits}", "{type: cifar10, path: nowhere}"),
        ("nodes: 2}", "nodes: 2, stem: imagenet, operations: [skip_connect, skip_connect]}"),
        ("order: 1", "order: 3"),
        ("{type: sgd}", "{type: sgd, nesterov: true, dampening: 0.5}"),
        ("retrain:\n", "  valid_fraction: 1.5\nretrain:\n"),
    )
    assert [problem.path for problem in found] == [
        "name",
        "sead",
        "data.path",
        "space",
        "search.algorithm.order",
        "search.trainer.optimizer",
        "search.valid_fraction",
    ]


def test_what_depends_on_the_machine_is_left_alone_where_nothing_is_to_be_run(
    problems_of: Callable[..., list[Problem]],
) -> None:
    absent = ("name: x", "name: x\ngenotype: g.json")
    assert problems_of(absent, check=False) == []
    assert len(problems_of(absent)) == 1


def test_a_genotype_that_the_space_cannot_build_is_refused_and_the_search_left_alone(
    tmp_path: Path, problems_of: Callable[..., list[Problem]]
) -> None:
    genotype = {"normal_2": ("0", "1"), "normal_2_0": ("sep_conv_9x9",)}
    Genotype(genotype).save(tmp_path / "g.json")
    given = ("name: x", "name: x\ngenotype: g.json")
    (problem,) = problems_of(given)
    assert (problem.path, problem.position[1:]) == ("genotype", (2, 1))
    assert "must keep" in problem.rule
    (tmp_path / "g.json").write_text("[]")
    (problem,) = problems_of(given, ("order: 1", "order: 2"), ("{type: sgd}", "{type: adam}"))
    assert (problem.path, "must be an object with format" in problem.rule) == ("genotype", True)


BROKEN_SPACE = """
    from nasframe.core import Space
    class Broken(Space):
        def __init__(self, task) -> None: ...
        def build(self, filler): raise KeyError("stem")
        def graphs(self, genotype): return {}
"""


def test_a_third_partys_part_that_cannot_be_built_is_a_problem_and_no_traceback(
    third_party: Callable[..., Path], problems_of: Callable[..., list[Problem]]
) -> None:
    third_party("broken_space", BROKEN_SPACE, spaces="unit_broken = Broken")
    (problem,) = problems_of(("{type: darts, channels: 4, cells: 4, nodes: 2}", "unit_broken"))
    assert problem.path == "space"
    assert "KeyError: 'stem'" in problem.rule


NUMBERS = """
    import torch
    from nasframe.core import Algorithm, Space
    from nasframe.spaces.macro import Macro
    class Rates(Space):
        def __init__(self, task):
            self.rates, self.macro = torch.linspace(0, 1, 3).tolist(), Macro(task, channels=2, stages=(1,))
        def build(self, filler):
            return self.macro.build(filler)
        def graphs(self, genotype): return {}
    class Summing(Algorithm):
        def __init__(self, model, objective):
            self.start = sum(alpha.sum().item() for alpha in model.parameters_at("upper"))
        def step(self, train, valid, update_weights): return update_weights(train)
"""


def test_parts_that_need_numbers_to_be_built_are_no_problem(
    third_party: Callable[..., Path], problems_of: Callable[..., list[Problem]]
) -> None:
    third_party("numbers", NUMBERS, spaces="unit_rates = Rates", algorithms="unit_summing = Summing")
    before = torch.get_rng_state()
    space = ("{type: darts, channels: 4, cells: 4, nodes: 2}", "unit_rates")
    assert problems_of(space, ("{type: darts_bilevel, order: 1}", "unit_summing")) == []
    assert torch.equal(before, torch.get_rng_state())
    assert [
        problem.path
        for problem in problems_of(space, ("{type: sgd}", "{type: sgd, nesterov: true, momentum: 0}"))
    ] == ["search.trainer.optimizer"]


def test_checking_a_recipe_draws_nothing_from_the_random_state(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(TEXT)
    before = torch.get_rng_state()
    load_recipe(path)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.zeros(1).device.type == "cpu"
