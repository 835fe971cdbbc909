import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from nasframe.datasets.cifar10 import cifar10
from nasframe.errors import DataError, FaultWarning


def _pixels(value, size=(32, 32), channels=3):
    """An image that tells its number: red is `value`, green the row, blue the column."""
    pixels = np.zeros((size[1], size[0], channels), dtype=np.uint8)
    pixels[..., 0] = value
    if channels == 3:
        pixels[..., 1] = np.arange(size[1])[:, None]
        pixels[..., 2] = np.arange(size[0])
    return pixels.squeeze()


def _png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _header_of_png(width, height):
    """A file that says how large it is, and has no pixel."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT"
    chunks = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (header, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _write(path, images, labels, column="img"):
    structs = [{"bytes": image, "path": None} for image in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    parquet.write_table(pa.table({column: pa.array(structs, kind), "label": labels}), path)


@pytest.fixture
def folder(tmp_path):
    """24 training images in two files and 12 test images; image i has label i % 10."""
    for name, start, stop in (("train-0", 0, 16), ("train-1", 16, 24), ("test-0", 100, 112)):
        numbers = range(start, stop)
        _write(tmp_path / f"{name}.parquet", [_png(_pixels(i)) for i in numbers], [i % 10 for i in numbers])
    return tmp_path


def _all(split):
    return split.batch(torch.arange(len(split)))


def test_a_folder_gives_every_image_of_all_its_files_with_its_label(folder):
    data = cifar10(path=folder)
    for split, numbers in ((data.train, range(24)), (data.test, range(100, 112))):
        batch = _all(split)
        found = batch.inputs[:, 0, 0, 0].tolist()
        assert sorted(found) == list(numbers)
        assert batch.targets.tolist() == [number % 10 for number in found]
        for number, image in zip(found, batch.inputs, strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), _pixels(number))
    assert data.task.input_shape == (3, 32, 32)
    assert data.class_names[3] == "cat"


def test_a_limit_takes_the_first_of_a_fixed_permutation(folder):
    full = _all(cifar10(path=folder).train)
    for limit in (1, 7, 24, 1000):
        some = _all(cifar10(path=folder, train_limit=limit, test_limit=2).train)
        assert torch.equal(some.inputs, full.inputs[:limit])
        assert torch.equal(some.targets, full.targets[:limit])
    assert full.targets[:10].tolist() != list(range(10))
    assert len(cifar10(path=folder, test_limit=5).test) == 5


def test_only_what_the_limit_takes_is_decoded(folder):
    last = _all(cifar10(path=folder).test).inputs[-1, 0, 0, 0].item()
    images = [b"broken" if number == last else _png(_pixels(number)) for number in range(100, 112)]
    _write(folder / "test-0.parquet", images, [number % 10 for number in range(100, 112)])
    assert len(cifar10(path=folder, test_limit=11).test) == 11
    with pytest.raises(DataError, match="cannot be decoded"):
        cifar10(path=folder, test_limit=12)


def test_images_and_labels_that_cannot_be_used_are_left_out_and_counted_where_that_is_asked_for(folder):
    images = [b"broken" if number == 3 else _png(_pixels(number)) for number in range(16)]
    labels = [10 if number == 5 else number % 10 for number in range(16)]
    _write(folder / "train-0.parquet", images, labels)
    with pytest.raises(DataError, match=r"train-0\.parquet, row (3|5): "):
        cifar10(path=folder)
    with pytest.warns(
        FaultWarning, match=r"cifar10: 2 of 24 train images are left out, the first: .*row [35]"
    ):
        data = cifar10(path=folder, unreadable="skip")
    batch = _all(data.train)
    numbers = batch.inputs[:, 0, 0, 0].tolist()
    assert sorted(numbers) == [number for number in range(24) if number not in (3, 5)]
    assert batch.targets.tolist() == [number % 10 for number in numbers]
    _write(folder / "test-0.parquet", [b"broken"] * 2, [0, 1])
    with (
        pytest.warns(FaultWarning, match="2 of 24 train"),
        pytest.raises(DataError, match="2 of 2 test images must be usable, but none is"),
    ):
        cifar10(path=folder, unreadable="skip")


def test_statistics_come_from_the_training_images_that_were_taken(folder):
    data = cifar10(path=folder, train_limit=8)
    images = _all(data.train).inputs.double() / 255
    assert data.preprocess.mean == pytest.approx([images[:, c].mean().item() for c in range(3)])


def test_the_column_may_be_called_image(folder):
    _write(folder / "test-0.parquet", [_png(_pixels(7))], [1], column="image")
    assert _all(cifar10(path=folder).test).inputs[0, 0, 0, 0] == 7


@pytest.mark.parametrize(
    ("image", "label", "rule"),
    [
        (b"no image", 0, "cannot be decoded"),
        (_png(_pixels(0, size=(32, 31))), 0, "must be 32 x 32 RGB, got 32 x 31 RGB"),
        (_png(_pixels(0, channels=1)), 0, "must be 32 x 32 RGB, got 32 x 32 L"),
        (_header_of_png(9000, 9000), 0, "must be 32 x 32 RGB, got 9000 x 9000 RGB"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n", 0, "cannot be decoded"),
        (None, 0, "must be a struct with `bytes`"),
        (_png(_pixels(0)), 10, "label must be from 0 to 9, got 10"),
        (_png(_pixels(0)), -1, "label must be from 0 to 9, got -1"),
        (_png(_pixels(0)), None, "label must be from 0 to 9, got None"),
    ],
)
def test_a_bad_example_is_named_by_file_and_row(folder, image, label, rule):
    good = _png(_pixels(0))
    _write(folder / "test-0.parquet", [good, good, image], [0, 1, label])
    with pytest.raises(DataError, match=rule) as caught:
        cifar10(path=folder)
    assert f"{folder / 'test-0.parquet'}, row 2:" in str(caught.value)


def test_a_file_without_the_columns_is_named_with_what_it_has(folder):
    parquet.write_table(pa.table({"pixels": [1], "fine_label": [2]}), folder / "train-1.parquet")
    with pytest.raises(DataError, match=r"train-1\.parquet: must have the columns.*'pixels', 'fine_label'"):
        cifar10(path=folder)


def test_a_file_that_is_no_parquet_is_named(folder):
    (folder / "train-1.parquet").write_text("no table")
    with pytest.raises(DataError, match=r"train-1\.parquet: must be a Parquet file"):
        cifar10(path=folder)


def test_a_small_file_with_very_many_rows_is_refused(folder):
    parquet.write_table(
        pa.table({"img": pa.nulls(1_000_001), "label": pa.nulls(1_000_001)}), folder / "train-1.parquet"
    )
    assert (folder / "train-1.parquet").stat().st_size < 10_000
    with pytest.raises(DataError, match="must have at most 1,000,000 rows, got 1,000,001"):
        cifar10(path=folder)


def test_names_that_are_no_text_are_refused(folder):
    file = folder / "train-1.parquet"
    content = file.read_bytes()
    assert content.count(b"label") > 1
    file.write_bytes(content.replace(b"label", b"l\x9ebel"))
    with pytest.raises(DataError, match=r"train-1\.parquet: must be a Parquet file"):
        cifar10(path=folder)


def test_an_empty_split_is_refused(folder):
    _write(folder / "test-0.parquet", [], pa.array([], pa.int64()))
    with pytest.raises(DataError, match="test split must have images"):
        cifar10(path=folder)


@pytest.mark.parametrize("state", ["has none", "is no folder"])
def test_a_folder_without_the_files_says_what_it_must_hold(tmp_path, state):
    folder = tmp_path if state == "has none" else tmp_path / "absent"
    with pytest.raises(DataError, match=rf"must hold train\*\.parquet, but {state}"):
        cifar10(path=folder)


def test_a_missing_datasets_package_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install nasframe\[hub\]"):
        cifar10()


def test_the_hub_route_reads_with_the_real_library_and_says_offline_how_to_get_the_data(
    folder, tmp_path_factory
):
    script = """
        import json, sys
        import torch
        from nasframe.datasets.cifar10 import cifar10
        from nasframe.errors import DataError

        batch = cifar10(name=sys.argv[1], train_limit=20).train.batch(torch.arange(20))
        try:
            cifar10(name="nobody/absent")
        except DataError as error:
            message = str(error)
        cifar10(name=sys.argv[1], sha256=sys.argv[2])
        try:
            cifar10(name=sys.argv[1], sha256="0" * 64)
        except DataError as error:
            refusal = str(error)
        found = batch.inputs[:, 0, 0, 0].tolist()
        said = {"message": message, "refusal": refusal}
        print(json.dumps({"found": found, "labels": batch.targets.tolist(), **said}))
    """
    home = {"HF_HOME": str(tmp_path_factory.mktemp("home")), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    lines = b"".join(
        hashlib.sha256(_png(_pixels(i))).digest() + str(i % 10).encode() + b"\n"
        for numbers in (range(24), range(100, 112))
        for i in numbers
    )
    checksum = hashlib.sha256(lines).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(folder), checksum],
        env={**os.environ, **home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["found"] == _all(cifar10(path=folder, train_limit=20).train).inputs[:, 0, 0, 0].tolist()
    assert result["labels"] == [number % 10 for number in result["found"]]
    assert (
        f"data.sha256 must be the checksum of what the hub gives, {'0' * 64}, got {checksum}"
        in result["refusal"]
    )
    assert "nobody/absent" in result["message"]
    assert "data.path=FOLDER" in result["message"]
    assert "https://huggingface.co/datasets/nobody/absent" in result["message"]


def test_the_real_images_have_mixed_classes_and_plausible_statistics(cifar10_folder):
    data = cifar10(path=cifar10_folder, train_limit=2000, test_limit=500)
    counts = torch.bincount(_all(data.train).targets, minlength=10)
    assert counts.min() > 140
    assert counts.max() < 260
    # the published means and deviations of CIFAR-10's training images
    assert data.preprocess.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.02)
    assert data.preprocess.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.02)
    assert len(data.test) == 500
