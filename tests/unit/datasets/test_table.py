"""Tables and texts are read as they are written, and what is wrong is told with its line."""

import pytest
import torch

from nasframe.core import datasets
from nasframe.errors import DataError


def _table(tmp_path, content, **settings):
    path = tmp_path / "table.csv"
    path.write_text(content, encoding="utf-8")
    return datasets["table"](path=path, **{"target": "kind", **settings})


def _all(split):
    batch = split.batch(torch.arange(len(split)))
    return batch.inputs, batch.targets


ROWS = "height,color,kind\n" + "".join(
    f"{height},{color},{kind}\n"
    for height, color, kind in [
        (1, "red", "a"), (2, "blue", "b"), (3, "red", "a"), (4, "blue", "b"), ("", "red", "a"),
        (6, "blue", "b"), (7, "red", "a"), (8, "blue", "b"), (9, "red", "a"), (10, "blue", "b"),
    ]
)  # fmt: skip


def test_numbers_are_scaled_by_the_training_rows_and_other_columns_are_told_apart(tmp_path):
    data = _table(tmp_path, ROWS)
    inputs, targets = _all(data.train)
    assert data.class_names == ("a", "b")
    assert data.task.input_shape == (3,)
    assert (len(data.train), len(data.test)) == (8, 2)
    heights = inputs[:, 0]
    known = heights[heights != 0] if (heights == 0).any() else heights
    assert known.mean().item() == pytest.approx(0, abs=1e-6)
    assert known.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    # columns of the colors are in the order of their names: blue, red; b is blue
    assert torch.equal(inputs[:, 1], (targets == 1).float())
    assert torch.equal(inputs[:, 2], (targets == 0).float())


def test_a_target_may_be_a_number(tmp_path):
    data = _table(
        tmp_path, ROWS.replace("\n,", "\n5,").replace("\n5,red", "\n5,red"), target="height", kind="number"
    )
    _, targets = _all(data.train)
    assert targets.shape == (8, 1)
    assert data.task.num_outputs == 1
    assert data.class_names == ()


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("a,b\n1,2\n1\n", {"target": "a"}, "line 3: must have 2 fields as line 1 has, got 1"),
        ("a,a\n1,2\n", {"target": "a"}, "column names must be given, each once"),
        ("", {}, "column names must be given"),
        ("a,b\n1,2\n", {}, "target must be a column of table.csv, beside others, got `kind`; it has a, b"),
        ("a,kind\n1,x\n", {}, "test_fraction must leave rows on both sides, got 0.2 of 1 rows"),
        (ROWS, {"target": "color", "kind": "number"}, "column `color`: must be numbers, got `red`"),
        ('a,kind\n"1,x\n', {}, "must be a CSV file in UTF-8"),
    ],
)
def test_what_is_no_table_is_told(tmp_path, content, settings, message):
    with pytest.raises(DataError) as caught:
        _table(tmp_path, content, **settings)
    assert message in str(caught.value)


def _text(tmp_path, content, **settings):
    path = tmp_path / "texts.tsv"
    path.write_bytes(content)
    return datasets["text"](path=path, **settings)


def test_tokens_are_the_bytes_of_a_text(tmp_path):
    data = _text(tmp_path, "de\tgrün\nen\tgreen\n\nen\t\n".encode(), length=6, test_fraction=0.3)
    tokens, targets = (torch.cat(parts) for parts in zip(_all(data.train), _all(data.test), strict=True))
    found = {
        (int(label), bytes(int(t) - 1 for t in row if t)) for row, label in zip(tokens, targets, strict=True)
    }
    assert found == {(0, "grün".encode()), (1, b"green"), (1, b"")}
    assert data.class_names == ("de", "en")
    assert data.task.vocabulary == 257


def test_a_text_that_is_too_long_is_cut(tmp_path):
    data = _text(tmp_path, b"a\t12345\nb\t12345\n", length=3, test_fraction=0.5)
    assert _all(data.train)[0].tolist() == [[50, 51, 52]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"de\tx\nno tab\n", "texts.tsv, line 2: must be a class, a tab and a text, got `no tab`"),
        (b"de\t\xff\n", "must be in UTF-8"),
        (b"de\tx\n", "test_fraction must leave rows on both sides"),
    ],
)
def test_what_is_no_text_is_told(tmp_path, content, message):
    with pytest.raises(DataError) as caught:
        _text(tmp_path, content)
    assert message in str(caught.value)
