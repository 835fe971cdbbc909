"""Examples that cannot be used are named, in the middle of an epoch too, or skipped and counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasframe.algorithms.weights_only import WeightsOnly
from nasframe.core import (
    AsGiven,
    Batch,
    BatchStream,
    Checkpoints,
    Dataset,
    Job,
    Model,
    Subset,
    Task,
    TensorSplit,
)
from nasframe.core.dataset import checked
from nasframe.datasets.image_folder import image_folder
from nasframe.errors import DataError, FaultWarning
from nasframe.objectives.cross_entropy import CrossEntropy
from nasframe.trainers.standard import Standard

CPU = torch.device("cpu")


class _Files:
    """Examples that are read from their files when they are wanted."""

    def __init__(self, folder, count):
        self._paths = [folder / f"{index}.npy" for index in range(count)]
        for index, path in enumerate(self._paths):
            np.save(path, np.full((1, 4, 4), index, dtype=np.float32))

    def __len__(self):
        return len(self._paths)

    def batch(self, indices):
        images = [torch.from_numpy(np.load(self._paths[index])) for index in indices.tolist()]
        return Batch(torch.stack(images), indices % 2)


def _epoch(split, **settings):
    stream = BatchStream(
        split, AsGiven(), batch_size=3, device=CPU, training=True, seed=1, purpose=("x",), **settings
    )
    return list(stream.epoch(0))


@pytest.mark.parametrize("held_back", [0, 2])
def test_a_file_that_vanishes_is_named_by_the_data_set_s_count(tmp_path, held_back):
    files = _Files(tmp_path, 11)
    split = Subset(files, torch.arange(held_back, 11)) if held_back else files
    assert len(_epoch(split)) == 3
    for path in tmp_path.iterdir():
        if path.name != "0.npy":
            path.unlink()
    (tmp_path / "5.npy").write_bytes(b"")  # empty, so that NumPy says that it has no data
    with pytest.raises(DataError, match=r"data: example \d+ must be readable, but .*; restore or remove it"):
        _epoch(split)


def test_the_one_example_that_cannot_be_read_is_the_one_that_is_named(tmp_path):
    files = _Files(tmp_path, 9)
    (tmp_path / "7.npy").unlink()
    with pytest.raises(DataError, match=r"example 7 must be readable, but .*No such file.*7\.npy"):
        _epoch(files)


def test_files_that_vanish_or_are_cut_off_are_left_out_where_that_is_allowed_and_each_is_told(tmp_path):
    files = _Files(tmp_path, 12)
    whole = _epoch(files)
    (tmp_path / "4.npy").unlink()
    (tmp_path / "7.npy").write_bytes(b"")
    with pytest.warns(FaultWarning, match="left out") as told:
        left = _epoch(files, skip_unreadable=True)
    assert sorted(str(each.message).split(" must")[0] for each in told) == [
        "data: example 4",
        "data: example 7",
    ]
    read = [batch.inputs[:, 0, 0, 0].tolist() for batch in left]
    assert read == [
        [each for each in batch.inputs[:, 0, 0, 0].tolist() if each not in (4, 7)] for batch in whole
    ]


def test_a_batch_of_which_nothing_can_be_read_ends_the_run(tmp_path):
    files = _Files(tmp_path, 6)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"data: example \d must be readable"):
        _epoch(files, skip_unreadable=True)


class _Vanishes(CrossEntropy):
    """Loses a file in the first training step, and another after it."""

    def __init__(self, *paths):
        super().__init__()
        self.paths, self.steps = paths, 0

    def loss(self, outputs, targets):
        if torch.is_grad_enabled():
            self.steps += 1
            if self.steps == 2:
                for path in self.paths:
                    path.unlink(missing_ok=True)
        return super().loss(outputs, targets)


def _trained(tmp_path, files, **settings):
    torch.manual_seed(0)
    records = []
    job = Job(
        stage="retrain", seed=1, device=CPU,
        model=Model(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))),
        objective=_Vanishes(tmp_path / "1.npy", tmp_path / "10.npy"), make_algorithm=WeightsOnly,
        train=Subset(files, torch.arange(9)), valid=Subset(files, torch.arange(9, 12)),
        preprocess=AsGiven(), augment=(), describe=lambda record: record,
        start_tracking=lambda start: records.append, checkpoints=Checkpoints(tmp_path / "checkpoints"),
        progress=lambda *told: None,
    )  # fmt: skip
    Standard(epochs=3, batch_size=3, eval_batch_size=3, **settings).fit(job)
    return job, records


def test_files_that_vanish_in_an_epoch_are_left_out_and_counted_where_the_recipe_says_so(tmp_path):
    files = _Files(tmp_path, 12)
    with pytest.warns(FaultWarning, match=r"example (1|10) must be readable.*it is left out"):
        job, records = _trained(tmp_path, files, on_unreadable="skip")
    assert [record.scalars["retrain/unreadable_examples"] for record in records][1:] == [1.0, 1.0]
    with torch.no_grad():  # of the held-out examples two are left
        examples = files.batch(torch.tensor([9, 11]))
        expected = torch.nn.functional.cross_entropy(job.model(examples.inputs), examples.targets)
    assert records[-1].scalars["retrain/valid_loss"] == pytest.approx(float(expected), rel=1e-6)


def test_files_that_vanish_in_an_epoch_end_the_run_by_default(tmp_path):
    with pytest.raises(DataError, match=r"data: example (1|10) must be readable.*No such file"):
        _trained(tmp_path, _Files(tmp_path, 12))


def _data(**changes):
    images, labels = torch.zeros(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    split = TensorSplit(images, labels)
    return replace(Dataset(split, split, Task((3, 8, 8), 3), AsGiven(), ("a", "b", "c")), **changes)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_that_no_class_has_is_named_when_it_is_read(label):
    labels = torch.tensor([0, 1, 2, 0, label, 2])
    data = checked(_data(train=TensorSplit(torch.zeros(6, 3, 8, 8), labels)))
    with pytest.raises(DataError, match=rf"label of train example 4 must be from 0 to 2, got {label}"):
        _epoch(data.train)


def test_labels_of_the_right_range_and_other_targets_pass():
    assert len(_epoch(checked(_data()).train)) == 2
    numbers = TensorSplit(torch.zeros(6, 3, 8, 8), torch.full((6,), 7))
    assert len(_epoch(checked(_data(train=numbers, class_names=())).train)) == 2


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 8), (3, 8)])
def test_inputs_of_another_shape_are_refused_before_any_step(shape):
    wrong = TensorSplit(torch.zeros(6, *shape), torch.zeros(6, dtype=torch.int64))
    with pytest.raises(DataError, match=r"shape \(3, 8, 8\).*but test example 0 has"):
        checked(_data(test=wrong))


@pytest.fixture
def images(tmp_path) -> Path:
    """Six images of each of two classes, of which one is no image."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(6):
            Image.new("RGB", (8, 8), (40 * index,) * 3).save(tmp_path / name / f"{index}.png")
    (tmp_path / "dog" / "3.png").write_bytes(b"no image")
    return tmp_path


def test_a_corrupt_image_is_named_by_default(images):
    with pytest.raises(DataError, match=r"dog/3\.png: the image cannot be decoded"):
        image_folder(path=images, size=8)


def test_corrupt_images_are_skipped_and_counted_where_that_is_asked_for(images):
    with pytest.warns(FaultWarning, match=r"1 of \d+ images are left out, the first: .*3\.png"):
        data = image_folder(path=images, size=8, unreadable="skip")
    labels = [
        data_split.batch(torch.arange(len(data_split))).targets for data_split in (data.train, data.test)
    ]
    assert torch.cat(labels).bincount().tolist() == [6, 5]


def test_a_class_without_any_image_that_can_be_read_is_named(images):
    for path in (images / "dog").iterdir():
        path.write_bytes(b"no image")
    with (
        pytest.warns(FaultWarning, match="images are left out"),
        pytest.raises(DataError, match="no image of the class `dog` can be decoded"),
    ):
        image_folder(path=images, size=8, unreadable="skip")
