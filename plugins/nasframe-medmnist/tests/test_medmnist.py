"""A MedMNIST file is read as it is, or refused with a message that says what to do."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import nasframe
from nasframe import testing
from nasframe.core import Preview, preview_of
from nasframe.errors import DataError, RecipeError
from nasframe_medmnist.medmnist import medmnist

RECIPE = Path(__file__).parents[1] / "recipes" / "medmnist_darts.yaml"
SIZES = {"train": 24, "val": 6, "test": 8}
TINY = {
    "trackers": "[jsonl]", "space.nodes": 2, "space.operations": "[none, skip_connect, sep_conv_3x3]",
    "search.trainer.max_steps": 2, "search.trainer.batch_size": 4,
    "retrain.space.channels": 8, "retrain.trainer.max_steps": 1, "retrain.trainer.batch_size": 4,
}  # fmt: skip


def arrays(*, colors=(3,), size=(8, 8), num_classes=3):
    """The arrays of a file, with random pixels; classes in turn."""
    generator = np.random.default_rng(0)
    found = {}
    for split, count in SIZES.items():
        found[f"{split}_images"] = generator.integers(0, 256, (count, *size, *colors), dtype=np.uint8)
        found[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % num_classes)[:, None]
    return found


@pytest.fixture
def write(tmp_path):
    """Writes arrays as the file that MedMNIST ships."""

    def write(**found):
        path = tmp_path / "set.npz"
        np.savez_compressed(path, **found)
        return path

    return write


def whole(split):
    return split.batch(torch.arange(len(split)))


@pytest.mark.parametrize("colors", [(), (3,)])
@pytest.mark.parametrize("join_val", [False, True])
def test_images_and_labels_are_those_of_the_file(write, colors, join_val):
    given = arrays(colors=colors, size=(8, 10))
    data = medmnist(path=write(**given), join_val=join_val)
    used = ["train", "val"] if join_val else ["train"]
    assert data.task == nasframe.Task(((len(colors) and 3) or 1, 8, 10), 3)
    for split, parts in ((data.train, used), (data.test, ["test"])):
        batch = whole(split)
        images = np.concatenate([given[f"{part}_images"] for part in parts])
        images = images[:, None] if not colors else np.moveaxis(images, 3, 1)
        assert batch.inputs.dtype == torch.uint8
        assert np.array_equal(batch.inputs.numpy(), images)
        labels = np.concatenate([given[f"{part}_labels"] for part in parts])[:, 0]
        assert batch.targets.tolist() == labels.tolist()


def test_statistics_come_from_the_training_images_alone(write):
    given = arrays()
    given["test_images"][:] = 255
    data = medmnist(path=write(**given), join_val=False)
    levels = given["train_images"].astype(np.float64) / 255
    assert data.preprocess.mean == pytest.approx(levels.mean((0, 1, 2)).tolist())
    assert data.preprocess.std == pytest.approx(levels.std((0, 1, 2)).tolist())


def test_flat_labels_and_wide_integers_are_read_too(write):
    given = arrays()
    given |= {f"{split}_labels": given[f"{split}_labels"][:, 0].astype(np.int64) for split in SIZES}
    assert whole(medmnist(path=write(**given)).test).targets.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("join_val", [False, True])
def test_the_preview_is_what_reading_gives(write, join_val):
    path = write(**arrays(colors=()))
    data = medmnist(path=path, join_val=join_val)
    assert preview_of(medmnist, path=path, join_val=join_val) == Preview(data.task, len(data.train))


def test_a_file_that_is_not_there_has_no_preview(tmp_path):
    assert preview_of(medmnist, path=tmp_path / "none.npz", join_val=True) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"val_labels": None}, r"lacks \['val_labels'\]"),
        ({"train_images": np.zeros((24, 8, 8, 8), np.uint8)}, "3D sets are not for this plugin"),
        ({"train_images": np.zeros((24, 8, 8, 3), np.float32)}, "must be uint8.*got float32"),
        ({"test_images": np.zeros((8, 9, 9, 3), np.uint8)}, "all splits must have one shape"),
        ({"test_images": np.zeros((7, 8, 8, 3), np.uint8)}, "got 7 images and 8 labels"),
        (
            {"val_images": np.zeros((0, 8, 8, 3), np.uint8), "val_labels": np.zeros((0, 1), np.uint8)},
            "val must have images",
        ),
        ({"train_labels": np.zeros((24, 14), np.uint8)}, "sets with several labels an image"),
        ({"train_labels": np.full((24, 1), -1)}, "whole numbers from 0"),
        ({"train_labels": np.full((24, 1), 0.5)}, "whole numbers from 0"),
    ],
)
@pytest.mark.parametrize("read", [medmnist, partial(preview_of, medmnist)], ids=["read", "preview"])
def test_what_is_wrong_is_told_by_reading_and_by_the_preview(write, change, said, read):
    given = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    with pytest.raises(DataError, match=said) as caught:
        read(path=write(**given), join_val=True)
    assert "set.npz" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"must be an \.npz file that can be read"):
        medmnist(path=path)


def test_pickled_objects_are_never_loaded(write):
    given = arrays()
    given["train_labels"] = np.array([{"class": 0}] * 24, dtype=object)[:, None]
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        medmnist(path=write(**given))


def test_a_damaged_image_array_is_refused(write):
    path = write(**arrays())
    content = bytearray(path.read_bytes())
    content[300:400] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"must be an \.npz file that can be read"):
        medmnist(path=path)


def test_the_dataset_fulfils_its_contract(write):
    path = write(**arrays())
    testing.check_component("datasets", "medmnist")
    testing.check_dataset(partial(medmnist, path=path))


def test_problems_of_the_data_and_of_its_space_are_found_before_a_run(write, tmp_path):
    small = f"data.path={write(**arrays(size=(2, 2)))}"
    with pytest.raises(RecipeError, match="of at least 4x4"):
        nasframe.load_recipe(RECIPE, [small])
    with pytest.raises(RecipeError) as caught:
        nasframe.load_recipe(RECIPE, [f"data.path={tmp_path / 'none.npz'}"])
    assert [problem.path for problem in caught.value.problems] == ["data.path"]


def test_the_recipe_runs_from_end_to_end(write, tmp_path):
    overrides = {"data.path": write(**arrays()), **TINY}
    recipe = nasframe.load_recipe(RECIPE, [f"{key}={value}" for key, value in overrides.items()])
    done = nasframe.run(recipe, tmp_path / "run")
    assert json.loads((done.folder / "status.json").read_text())["ended"] == "done"
    assert done.metrics["test_accuracy"] * SIZES["test"] == pytest.approx(
        round(done.metrics["test_accuracy"] * SIZES["test"]), abs=1e-3
    )
