import pytest
import torch

from nasframe.core import datasets, readers
from nasframe.errors import DataError


def test_a_file_is_the_text_that_a_line_of_the_data_set_is(tmp_path):
    texts = ["grün", "a longer text than fits", "", "x\ty"]
    lines = [f"{'even' if index % 2 else 'odd'}\t{text}" for index, text in enumerate(texts)]
    (tmp_path / "data.txt").write_text("\n".join(lines), encoding="utf-8")
    data = datasets["text"](path=tmp_path / "data.txt", length=9, test_fraction=0.25)
    reader = data.reader()
    read = set()
    for index, text in enumerate(texts):
        (tmp_path / f"{index}.txt").write_text(text + "\n", encoding="utf-8")
        read.add(tuple(reader.read(tmp_path / f"{index}.txt").tolist()))
    inputs = torch.cat([data.train.batch(torch.arange(3)).inputs, data.test.batch(torch.arange(1)).inputs])
    assert read == set(map(tuple, inputs.tolist()))


def test_what_is_not_utf_8_is_refused_by_name(tmp_path):
    (tmp_path / "latin.txt").write_bytes("grün".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt: the text must be in UTF-8"):
        readers["text"](length=8).read(tmp_path / "latin.txt")
