"""What a dataset says of itself before it is read is what it then is."""

from pathlib import Path

import pytest

from nasframe.core import Dataset, Preview, datasets, preview_of, previewed_by
from nasframe.settings import signature_of


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("digits", {}),
        ("digits", {"test_fraction": 0.5}),
        ("synthetic", {}),
        ("synthetic", {"num_train": 7, "num_classes": 5, "channels": 1, "height": 9, "width": 11}),
        ("cifar10", {"train_limit": 40, "test_limit": 10}),
    ],
)
def test_a_preview_is_what_reading_gives(
    name: str, given: dict[str, object], request: pytest.FixtureRequest
) -> None:
    make = datasets[name]
    settings = {key: setting.default for key, setting in signature_of(make).settings.items()} | given
    if name == "cifar10":
        settings["path"] = request.getfixturevalue("cifar10_folder")
    data = make(**settings)
    assert preview_of(make, **settings) == Preview(data.task, len(data.train))


def test_the_whole_cifar10_has_as_many_training_images_as_its_preview_says(cifar10_folder: Path) -> None:
    from pyarrow import parquet

    rows = sum(parquet.read_metadata(file).num_rows for file in cifar10_folder.glob("train*.parquet"))
    preview = preview_of(datasets["cifar10"], path=None, name="", train_limit=None, test_limit=None)
    assert preview is not None
    assert preview.num_train == rows


def test_a_dataset_without_a_preview_has_none() -> None:
    def plain() -> Dataset:
        raise AssertionError("must not be read")

    assert preview_of(plain) is None
    task = datasets["digits"]().task
    assert preview_of(previewed_by(lambda: Preview(task))(plain)) == Preview(task)
