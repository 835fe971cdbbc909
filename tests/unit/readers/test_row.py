import json
from pathlib import Path

import pytest
import torch

import nasframe
from nasframe.core import (
    Reader,
    datasets,
    derived,
    generator_for,
    networks,
    objectives,
    readers,
    sample,
    spaces,
)
from nasframe.core.tensor_file import save_weights
from nasframe.errors import DataError, UnsupportedError
from nasframe.recipe.model_folder import describe

TRAINED = "height,color,kind\n" + "".join(
    f"{height},{color},{kind}\n"
    for height, color, kind in [
        (1, "red", "a"), (2, "blue", "b"), ("", "red", "a"),
        (4, "blue", "b"), (5, "red", "a"), (9, "blue", "b"),
    ]
)  # fmt: skip


def _reader() -> Reader:
    return readers["row"](
        columns=("height", "color"), values=((), ("blue", "red")), means=(3.0, 0.0), deviations=(2.0, 1.0)
    )


def _write(folder: Path, content: str) -> Path:
    (folder / "rows.csv").write_text(content, encoding="utf-8")
    return folder / "rows.csv"


def test_a_row_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = _write(tmp_path, "kind,color,note,height\na,red,x,7\n\n,green,,\n")
    (first, one_D), (second, other_D) = _reader().inputs(path)
    assert (first, one_D.tolist()) == ("line 2", [2.0, 0.0, 1.0])
    assert (second, other_D.tolist()) == ("line 4", [0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("height\n1\n", "rows.csv, line 1: must have the columns of the training, but lacks color"),
        ("height,color\n1,red\n\nx,red\n", "rows.csv, column `height`, line 4: must be a number, got `x`"),
        ("height,color\n1\n", "rows.csv, line 2: must have 2 fields as line 1 has, got 1"),
    ],
)
def test_what_is_no_row_of_the_table_is_told_with_its_line(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        list(_reader().inputs(_write(tmp_path, content)))
    assert message in str(caught.value)


def test_settings_are_of_the_same_columns() -> None:
    with pytest.raises(UnsupportedError, match="must be as many as columns, which are 1, got 1, 2 and 1"):
        readers["row"](columns=("height",), values=((),), means=(0.0, 0.0), deviations=(1.0,))


def test_a_network_for_a_table_is_asked_about_rows_wherever_its_folder_is(tmp_path: Path) -> None:
    path = _write(tmp_path, TRAINED)
    data = datasets["table"](path=path, target="kind")
    network = networks.component("mlp", features=4)
    space = spaces.component(
        "surgery", network=network, rules=({"match": "hidden*", "choices": ("original", "identity")},)
    )
    genotype = sample(space(data.task), generator_for(0))
    model = derived(space(data.task), genotype).eval()
    described = describe("tiny", data, space, objectives.component("cross_entropy"), genotype)
    (tmp_path / "config.json").write_text(json.dumps(described))
    save_weights(model.state_dict(), tmp_path / "model.safetensors")
    loaded = nasframe.load(tmp_path)
    every = torch.cat([split.batch(torch.arange(len(split))).inputs for split in (data.train, data.test)])
    with torch.no_grad():
        expected = model(every).softmax(1)
    found = loaded.predict([path], top=2)
    assert [each.place for each in found] == [f"line {line}" for line in range(2, 8)]
    assert {each.file for each in found} == {path}
    shares = sorted(dict(each.classes)["a"] for each in found)
    assert shares == pytest.approx(sorted(expected[:, 0].tolist()))
