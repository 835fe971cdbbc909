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


def _write_parts(folder):
    for name, start, stop in (("train-0", 0, 16), ("train-1", 16, 24), ("test-0", 100, 112)):
        numbers = range(start, stop)
        _write(folder / f"{name}.parquet", [_png(_pixels(i)) for i in numbers], [i % 10 for i in numbers])


@pytest.fixture
def folder(tmp_path):
    """24 training images in two files and 12 test images; image i has label i % 10."""
    _write_parts(tmp_path)
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


def test_a_missing_client_of_the_hub_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"`huggingface_hub`: pip install nasframe\[hub\]"):
        cifar10()


@pytest.mark.parametrize("revision", ["main", "0b27149", "../../refs/main"])
def test_what_may_be_other_data_tomorrow_is_no_revision(revision):
    for ask in (cifar10, cifar10.preview):
        with pytest.raises(DataError, match=r"data\.revision must be a commit .*40 hexadecimal"):
            ask(revision=revision, train_limit=None)


_HUB = """
    import hashlib, http.server, json, pathlib, sys, threading, urllib.parse

    import torch

    FOLDER, GOOD, BROKEN, MIXED = pathlib.Path(sys.argv[1]), "a" * 40, "b" * 40, "d" * 40
    KNOWN = "0b2714987fa478483af9968de7c934580d0bb9a2"

    class Hub(http.server.BaseHTTPRequestHandler):
        "What the hub's client asks it for: lists of files with their checksums, and the files."

        def files(self, commit):
            found = {f"data/{file.name}": file.read_bytes() for file in FOLDER.glob("*.parquet")}
            if commit == KNOWN:
                names = {"train": "train-00000-of-00001", "test": "test-00000-of-00001"}
                return {f"data/{names[key]}.parquet": found[f"data/{key}-0.parquet"] for key in names}
            return {**found, "other/train-9.parquet": b""} if commit == MIXED else found

        def do_HEAD(self):
            path = urllib.parse.urlparse(self.path).path
            commit = next((c for c in (GOOD, BROKEN, MIXED, KNOWN) if c in path), None)
            if commit is None:
                return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            files = self.files(commit)
            if path.startswith("/api/"):
                entries = [
                    {"type": "file", "path": name, "oid": "0" * 40, "size": len(content),
                     "lfs": {"oid": self.digest(content), "size": len(content), "pointerSize": 130}}
                    for name, content in files.items()
                ]
                return self.answer(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})
            content = files[path.partition(commit + "/")[2]]
            digest = self.digest(content)
            if commit == BROKEN and "train-1" in path:
                content = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
            told = {"X-Repo-Commit": commit, "X-Linked-Etag": digest, "ETag": digest}
            self.answer(200, content, {**told, "X-Linked-Size": str(len(content))})

        do_GET = do_HEAD

        def digest(self, content):
            return hashlib.sha256(content).hexdigest()

        def answer(self, status, content, headers):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *told):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import os
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"

    from nasframe.datasets.cifar10 import cifar10
    from nasframe.errors import DataError

    def got(name="me/images", revision=GOOD, **others):
        try:
            train = cifar10(name=name, revision=revision, train_limit=20, **others).train
        except DataError as error:
            return str(error)
        batch = train.batch(torch.arange(20))
        return [batch.inputs[:, 0, 0, 0].tolist(), batch.targets.tolist()]

    said = {"good": got(), "broken": got("me/broken", BROKEN), "mixed": got(revision=MIXED)}
    said |= {"unknown": got(revision="c" * 40), "other": got("uoft-cs/cifar10", KNOWN)}
    server.shutdown()
    server.server_close()
    said["offline"] = got()
    import huggingface_hub.constants
    huggingface_hub.constants.HF_HUB_OFFLINE = True  # so that its client does not ask five times more
    said["absent"] = got("nobody/absent")
    said |= {"right": got(sha256=sys.argv[2]), "wrong": got(sha256="0" * 64)}
    home = pathlib.Path(os.environ["HF_HOME"])
    link = next(home.glob(f"hub/datasets--me--images/snapshots/{GOOD}/data/test-0.parquet"))
    content = link.read_bytes()
    link.resolve().write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    said["spoilt"] = got()
    print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the data set says to a hub of this machine, asked by the hub's real client, and without it."""
    folder = tmp_path_factory.mktemp("hub")
    _write_parts(folder)
    home = {"HF_HOME": str(tmp_path_factory.mktemp("home")), "OMP_NUM_THREADS": "1"}
    checksum = hashlib.sha256(_lines_of_all_images()).hexdigest()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_HUB), str(folder), checksum],
        env={**os.environ, **home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"folder": folder, "checksum": checksum, **json.loads(done.stdout.splitlines()[-1])}


def _lines_of_all_images():
    return b"".join(
        hashlib.sha256(_png(_pixels(i))).digest() + str(i % 10).encode() + b"\n"
        for numbers in (range(24), range(100, 112))
        for i in numbers
    )


def test_what_the_hub_gives_is_what_a_folder_of_its_files_gives_also_without_a_network(said):
    batch = _all(cifar10(path=said["folder"], train_limit=20).train)
    expected = [batch.inputs[:, 0, 0, 0].tolist(), batch.targets.tolist()]
    assert said["good"] == said["offline"] == said["right"] == expected


def test_a_file_of_which_a_byte_is_not_the_hub_s_is_refused(said):
    digest = hashlib.sha256((said["folder"] / "train-1.parquet").read_bytes()).hexdigest()
    assert f"train-1.parquet of `me/broken` must have the SHA-256 {digest}, got " in said["broken"]
    assert "to get it anew" in said["broken"]


def test_a_file_that_was_spoilt_in_the_cache_is_refused(said):
    content = (said["folder"] / "test-0.parquet").read_bytes()
    spoilt = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    was, got = hashlib.sha256(content).hexdigest(), hashlib.sha256(spoilt).hexdigest()
    assert f"test-0.parquet of `me/images` must have the SHA-256 {was}, got {got}" in said["spoilt"]


def test_the_known_data_set_has_the_known_checksums_whatever_the_hub_declares(said):
    got = hashlib.sha256((said["folder"] / "test-0.parquet").read_bytes()).hexdigest()
    assert "test-00000-of-00001.parquet of `uoft-cs/cifar10` must have the SHA-256 841389e6" in said["other"]
    assert f"got {got}" in said["other"]


def test_what_cannot_be_had_says_how_to_get_it(said):
    assert "RevisionNotFoundError" in said["unknown"]
    assert "data/train-0.parquet" in said["mixed"]
    assert "other/train-9.parquet" in said["mixed"]
    for part in ("nobody/absent", "data.path=FOLDER", "https://huggingface.co/datasets/nobody/absent"):
        assert part in said["absent"]


def test_a_recipe_may_say_the_checksum_of_all_images(said):
    zeros = "0" * 64
    assert f"checksum of what the hub gives, {zeros}, got {said['checksum']}" in said["wrong"]


def test_the_real_images_have_mixed_classes_and_plausible_statistics(cifar10_folder):
    data = cifar10(path=cifar10_folder, train_limit=2000, test_limit=500)
    counts = torch.bincount(_all(data.train).targets, minlength=10)
    assert counts.min() > 140
    assert counts.max() < 260
    # the published means and deviations of CIFAR-10's training images
    assert data.preprocess.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.02)
    assert data.preprocess.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.02)
    assert len(data.test) == 500
