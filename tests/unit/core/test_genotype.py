"""Genotypes: round trips, and texts that are none."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasframe.core import Genotype, Graph, cell_graphs, draw
from nasframe.errors import FormatError, UnsupportedError

TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0)], normal_concat=[2],"
    " reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('none', 2)],"
    " reduce_concat=[2, 3])"
)
SAME_CHOICES = {
    "normal_2": ("1", "0"),
    "normal_2_1": ("sep_conv_3x3",),
    "normal_2_0": ("skip_connect",),
    "normal_concat": ("2",),
    "reduce_2": ("0", "1"),
    "reduce_2_0": ("max_pool_3x3",),
    "reduce_2_1": ("max_pool_3x3",),
    "reduce_3": ("2", "2"),
    "reduce_3_2": ("skip_connect", "none"),
    "reduce_concat": ("2", "3"),
}

choices = st.dictionaries(st.text(), st.lists(st.text()).map(tuple), max_size=6)


@st.composite
def cells(draw: st.DrawFn) -> tuple[list[tuple[str, int]], list[int]]:
    num_nodes = draw(st.integers(1, 6))
    pairs = [
        (draw(st.text(max_size=12)), draw(st.integers(0, node - 1)))
        for node in range(2, 2 + num_nodes)
        for _ in range(2)
    ]
    concat = st.lists(st.integers(0, 1 + num_nodes), min_size=1, unique=True)
    return pairs, draw(concat)


def darts_text(normal: Any, normal_concat: Any, reduce: Any, reduce_concat: Any) -> str:
    return (
        f"Genotype(normal={normal!r}, normal_concat={normal_concat!r}, "
        f"reduce={reduce!r}, reduce_concat={reduce_concat!r})"
    )


@settings(deadline=None, max_examples=50)
@given(choices)
def test_json_gives_back_what_was_written(choices: dict[str, tuple[str, ...]]) -> None:
    genotype = Genotype(choices)
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert json.loads(genotype.to_json())["choices"] == {name: list(kept) for name, kept in choices.items()}


@settings(deadline=None, max_examples=50)
@given(cells(), cells())
def test_the_darts_format_gives_back_what_was_written(
    normal: tuple[list[tuple[str, int]], list[int]], reduce: tuple[list[tuple[str, int]], list[int]]
) -> None:
    text = darts_text(*normal, *reduce)
    genotype = Genotype.from_darts(text)
    assert genotype.to_darts() == text
    assert Genotype.from_json(genotype.to_json()).to_darts() == text


def test_the_darts_format_names_choices_as_cell_spaces_do() -> None:
    assert dict(Genotype.from_darts(TEXT).choices) == SAME_CHOICES


@pytest.mark.parametrize("concat", ["range(2, 6)", "range(2,6)", "[2, 3, 4, 5]", "(2, 3, 4, 5)"])
def test_a_concatenation_may_be_a_range_a_list_or_a_tuple(concat: str) -> None:
    pairs = [("a", 0)] * 8
    text = darts_text(pairs, [2], pairs, [2]).replace("normal_concat=[2]", f"normal_concat={concat}")
    assert Genotype.from_darts(text)["normal_concat"] == ("2", "3", "4", "5")


def test_space_and_newlines_around_the_text_do_not_matter() -> None:
    assert Genotype.from_darts(f"\n  {TEXT}\n".replace(", ", ",\n ")) == Genotype.from_darts(TEXT)


def test_fields_may_come_in_any_order_and_pairs_may_be_lists() -> None:
    text = (
        "Genotype(reduce_concat=[2], reduce=[['a', 0], ['b', 1]],"
        " normal_concat=(2,), normal=(('a', 0), ('b', 1)))"
    )
    pairs = [("a", 0), ("b", 1)]
    assert Genotype.from_darts(text).to_darts() == darts_text(pairs, [2], pairs, [2])


@pytest.mark.parametrize(
    "field",
    [
        "__import__('os').abort()",
        "[__import__('os')]",
        "[('a', 0), ('b', __import__('os'))]",
        "(lambda: [])()",
        "[x for x in ()]",
        "open('x')",
        "range(2, __import__('os'))",
        "range(2, 10**9)",
        "range(1000000000)",
        "range(-5)",
        "range('a')",
        "range(0, 8, 2)",
        "range(start=2)",
        "ranges(2, 6)",
        "'abcd'",
        "b'abcd'",
        "f'{1}'",
        "{'a': 0}",
        "{0, 1}",
        "{[]: 1}",
        "None",
        "7",
        "name",
        "[('a', 0)]",
        "[('a', 0), ('b', 2)]",
        "[('a', 0), ('b', -1)]",
        "[('a', 0), ('b', True)]",
        "[('a', 0), ('b', 1.0)]",
        "[('a', 0), (1, 'b')]",
        "[('a', 0), ('b', 0, 0)]",
        "[('a', 0), 'b1']",
        "[('a', 0), None]",
        "[]",
        "[" * 90 + "]" * 90,
        "-" * 900 + "1",
        "[" + "9" * 5000 + "]",
    ],
)
@pytest.mark.parametrize("name", ["normal", "normal_concat"])
def test_a_field_that_is_not_plain_data_of_the_right_form_is_refused(name: str, field: str) -> None:
    fields = {
        "normal": "[('a', 0), ('b', 1)]",
        "normal_concat": "[2]",
        "reduce": "[('a', 0), ('b', 1)]",
        "reduce_concat": "[2]",
    }
    text = ", ".join(f"{key}={value}" for key, value in {**fields, name: field}.items())
    with pytest.raises(FormatError, match=r"^genotype: "):
        Genotype.from_darts(f"Genotype({text})")


@pytest.mark.parametrize(
    "concat", ["[2, 2]", "[3]", "[-1]", "[True]", "[2.0]", "['2']", "range(2, 4)", "[[2]]"]
)
def test_a_concatenation_must_be_distinct_states_that_there_are(concat: str) -> None:
    text = TEXT.replace("normal_concat=[2]", f"normal_concat={concat}")
    with pytest.raises(FormatError, match="`normal_concat` must be distinct states below 3"):
        Genotype.from_darts(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Genotype",
        "Genotype()",
        "[]",
        "__import__('os').abort()",
        "Genotype(__import__('os'))",
        "Genotype(*[[]], **{})",
        "Genotype(**{'normal': []})",
        f"os.{TEXT}",
        f"{TEXT}; {TEXT}",
        f"({TEXT})()",
        f"{TEXT} or 1",
        TEXT.replace("Genotype", "Phenotype"),
        TEXT.replace("normal_concat=", "concat="),
        TEXT.replace("normal_concat=[2],", ""),
        TEXT[:-1] + ", normal=[])",
        TEXT[:-1] + ", extra=[])",
        TEXT[:-1],
        "Genotype(\0)",
        "Genotype('\ud800')",
        "(" * 5000 + ")" * 5000,
        "-" * 50_000 + "1",
        "1+" * 30_000 + "1",
        "a" + ".a" * 30_000,
        " " * 200_000,
        darts_text([("a", 0)] * 40_000, [2], [], [2]),
    ],
    ids=lambda text: text[:30].encode("ascii", "replace").decode().replace("\0", "0"),
)
def test_a_text_that_is_no_genotype_is_refused_and_nothing_of_it_runs(text: str) -> None:
    with pytest.raises(FormatError, match=r"^genotype: "):
        Genotype.from_darts(text)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60))
def test_text_at_random_is_refused(text: str) -> None:
    for read in (Genotype.from_darts, Genotype.from_json):
        with pytest.raises(FormatError):
            read(text)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"format": "other", "version": 1, "choices": {}},
        {"format": "nasframe.genotype", "version": 1},
        {"format": "nasframe.genotype", "version": 1, "choices": []},
        {"format": "nasframe.genotype", "version": 1, "choices": {"a": "skip"}},
        {"format": "nasframe.genotype", "version": 1, "choices": {"a": [1]}},
        {"format": "nasframe.genotype", "version": 1, "choices": {"a": [["x"]]}},
        {"format": "nasframe.genotype", "version": 1, "choices": {"a": None}},
        {"format": "nasframe.genotype", "choices": {}},
        {"format": "nasframe.genotype", "version": True, "choices": {}},
        {"format": "nasframe.genotype", "version": 1.0, "choices": {}},
    ],
)
def test_json_that_is_no_genotype_is_refused(data: Any) -> None:
    with pytest.raises(FormatError, match=r"^genotype: "):
        Genotype.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{", "NaN", "[" * 100_000, "1" * 5000, '{"a": "\\q"}'])
def test_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"^genotype: "):
        Genotype.from_json(text)


def test_a_newer_version_is_refused_by_name() -> None:
    newer = Genotype().to_json().replace('"version": 1', '"version": 2')
    with pytest.raises(
        FormatError, match="version must be 1, got 2; read it with the nasframe that wrote it"
    ):
        Genotype.from_json(newer)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    genotype = Genotype({"größe": ("α", "β")})
    genotype.save(tmp_path / "genotype.json")
    assert Genotype.load(tmp_path / "genotype.json") == genotype


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}", None])
def test_a_file_that_is_no_genotype_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "genotype.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError, match=r"genotype\.json: "):
        Genotype.load(path)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "no `normal` cell"),
        ({"block_1": ("conv",)}, "no `normal` cell"),
        ({**SAME_CHOICES, "block_1": ("conv",)}, "more than two cells"),
        ({**SAME_CHOICES, "normal_4": ("0", "1")}, "more than two cells"),
        ({**SAME_CHOICES, "normal_2": ("0",)}, "`normal` must have two inputs"),
        ({**SAME_CHOICES, "normal_2": ("0", "0")}, "`normal` must have two inputs"),
        ({**SAME_CHOICES, "normal_2_0": ()}, "`normal` must have two inputs"),
        ({**SAME_CHOICES, "normal_concat": ("all",)}, "must be a number in the DARTS format, got `all`"),
        ({**SAME_CHOICES, "normal_concat": ("02",)}, "more than two cells"),
        ({**SAME_CHOICES, "normal_concat": ("7",)}, "must be distinct states below 3"),
    ],
)
def test_what_the_darts_format_cannot_hold_is_not_written(
    choices: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        Genotype(choices).to_darts()


@pytest.mark.parametrize("choices", [{"a": "skip"}, {"a": (1,)}, {1: ("a",)}, {"a": None}, [("a", ("b",))]])
def test_choices_of_another_form_are_refused(choices: Any) -> None:
    with pytest.raises(FormatError, match="must map choice ids to lists of candidate names"):
        Genotype(choices)


def test_it_is_a_value() -> None:
    genotype, same = Genotype(SAME_CHOICES), Genotype(dict(reversed(SAME_CHOICES.items())))
    assert genotype == same
    assert hash(genotype) == hash(same)
    assert genotype != Genotype({**SAME_CHOICES, "normal_concat": ("3",)})
    assert pickle.loads(pickle.dumps(genotype)) == copy.deepcopy(genotype) == genotype
    assert genotype["normal_2"] == ("1", "0")
    with pytest.raises(TypeError):
        genotype.choices["normal_2"] = ("0", "1")  # type: ignore[index]


def test_it_keeps_no_tie_to_what_it_was_made_from() -> None:
    source = {"a": ["x"]}
    genotype = Genotype(source)  # type: ignore[arg-type]
    source["a"].append("y")
    assert genotype["a"] == ("x",)


def test_a_summary_counts_operations_by_cell_or_tells_them_in_order():
    cells = Genotype.from_darts(
        "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 0), "
        "('sep_conv_3x3', 2)], normal_concat=range(2, 4), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)],"
        " reduce_concat=[2])"
    )
    assert cells.summary == "normal: 3 sep_conv_3x3, skip_connect; reduce: 2 max_pool_3x3"
    chain = {f"block_{index}": ("wide" if index < 10 else "narrow",) for index in range(12)}
    assert Genotype(chain).summary == "10 wide, 2 narrow"
    assert Genotype({"a": (), "b": ("x", "y")}).summary == "nothing, x + y"
    stages = {
        "block_0": ("wide",),
        "depth_0": ("2",),
        "block_1": ("wide",),
        "depth_1": ("2",),
        "block_2": ("slim",),
    }
    assert Genotype(stages).summary == "block: 2 wide, slim; depth: 2, 2"


CELLS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1)], reduce_concat=[2])"
)


def test_cells_draw_themselves_and_others_as_their_space_does():
    cells = Genotype.from_darts(CELLS)
    graphs = cell_graphs(cells)
    assert graphs["normal"] == Graph(
        "normal cell",
        ("c_{k-2}", "c_{k-1}", "0", "c_{k}"),
        (("c_{k-2}", "0", "sep_conv_3x3"), ("c_{k-1}", "0", "skip_connect"), ("0", "c_{k}", "")),
    )
    height = {name: draw(graph).get_size_inches()[1] for name, graph in graphs.items()}
    assert cells.draw().figure.get_size_inches()[1] == pytest.approx(sum(height.values()))
    chain = {"layer_0": ("wide",)}
    with pytest.raises(UnsupportedError, match="let its space draw it"):
        Genotype(chain).draw()
    assert Genotype(chain)._repr_svg_() is None
    drawn = Genotype(chain, {"chain": Graph("chain", ("in", "out"), (("in", "out", "wide"),))})
    assert drawn._repr_svg_().startswith("<svg")
    assert drawn == Genotype(chain)
    assert pickle.loads(pickle.dumps(drawn)).graphs == drawn.graphs


def test_cells_that_are_not_whole_are_not_drawn():
    with pytest.raises(FormatError, match="each state of a cell must be decided"):
        Genotype({"normal_2": ("0",), "normal_concat": ("2",)}).draw()
