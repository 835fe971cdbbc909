"""Files of tensors from somebody who means harm."""

import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nasframe.core.tensor_file import load_checkpoint, load_weights
from nasframe.errors import FormatError

STATE = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "shared": [torch.zeros(2, dtype=torch.int64)] * 2,
    "random": torch.get_rng_state(),
    "plain": {"lr": 0.1, "betas": (0.9, 0.99), "names": ["a", None, True], "size": torch.Size([2])},
}


def _saved(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


def _with(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> Path:
    """The same archive, with the pickled part changed."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(content) if name.endswith("data.pkl") else content)
    return path


def test_tensors_and_plain_data_come_back(tmp_path: Path) -> None:
    found = load_checkpoint(_saved(STATE, tmp_path / "a.pt"))
    assert found["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert torch.equal(found["random"], STATE["random"])
    assert found["plain"] == STATE["plain"]


class _Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._called = function, arguments

    def __reduce__(self) -> Any:
        return self._called


@pytest.mark.parametrize("how", ["torch", "torch, as it once was", "pickle"])
def test_nothing_that_a_file_names_is_called(tmp_path: Path, how: str) -> None:
    witness, path = tmp_path / "witness", tmp_path / "a.pt"
    hostile = {"state": _Call(os.mkdir, str(witness))}
    if how == "pickle":
        path.write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(FormatError, match=r"a\.pt: must be a checkpoint"):
        load_checkpoint(path)
    assert not witness.exists()


def _peak_of_refusal(path: Path) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"a\.pt: must be a checkpoint"):
            load_checkpoint(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_object_that_asks_for_memory_gets_none(tmp_path: Path) -> None:
    # PyTorch's own unpickler makes a bytearray of any length that a file says
    path = _saved({"state": _Call(bytearray, 2**32)}, tmp_path / "a.pt")
    assert path.stat().st_size < 2000
    assert _peak_of_refusal(path) < 5_000_000


def test_what_is_compressed_is_not_unpacked(tmp_path: Path) -> None:
    path = _saved({"state": torch.zeros(2**22)}, tmp_path / "a.pt")
    _with(path, lambda content: content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000 < 2**24
    assert _peak_of_refusal(path) < 5_000_000


def test_entries_that_lie_in_each_other_are_refused(tmp_path: Path) -> None:
    path = _saved(STATE, tmp_path / "a.pt")
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # the first of the central directory says how large it is
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(content)
    assert _peak_of_refusal(path) < 5_000_000


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"garbage",
        b"\x80\x02" + b"(" * 100_000,
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02\x8a\xff" + b"\xff" * 255 + b".",
        b"\x80\x02]r\xff\xff\xff\xff.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00x\x85R.",
    ],
    ids=[
        "empty", "garbage", "marks", "nested", "a long number", "a far memo", "a long text",
        "os.system", "os.system as protocol 4 says it", "torch.load",
    ],
)  # fmt: skip
def test_a_pickle_that_is_none_of_ours_is_refused_in_little(tmp_path: Path, pickled: bytes) -> None:
    path = _with(_saved(STATE, tmp_path / "a.pt"), lambda content: pickled)
    tracemalloc.start()
    try:
        with contextlib.suppress(FormatError):
            assert isinstance(load_checkpoint(path), (list, int)), "only data may come of it"
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path: Path) -> None:
    path = _saved({"weight": torch.zeros(3)}, tmp_path / "a.pt")
    three = b"K\x03\x85"  # its size: the number 3 in a tuple
    _with(path, lambda content: content.replace(three, b"J\xff\xff\xff\x7f\x85"))
    assert _peak_of_refusal(path) < 5_000_000


def test_two_pickles_in_one_file_are_refused(tmp_path: Path) -> None:
    path = _saved(STATE, tmp_path / "a.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b"\x80\x02N.")
    with pytest.raises(FormatError, match=r"must have one data\.pkl, got 2"):
        load_checkpoint(path)


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("../escaped", "a/../../escaped", f"{tmp_path}/escaped"):
        path = _saved(STATE, tmp_path / "folder" / "a.pt")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"x")
        with contextlib.suppress(FormatError):
            load_checkpoint(path)
        assert not list(tmp_path.rglob("escaped*"))


def _safetensors(header: bytes, data: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 7,
        _safetensors(b"{"),
        _safetensors(b"{}", size=2**62),
        _safetensors(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"1234"),
        _safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2147483648]}}', b"1234"),
        _safetensors(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
        _safetensors(b'{"a":{"dtype":"F9","shape":[1],"data_offsets":[0,4]}}', b"1234"),
        _safetensors(b'{"a":' + b"[" * 10_000),
    ],
)
def test_weights_that_are_none_are_refused_and_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"model\.safetensors: must be a safetensors file"):
        load_weights(path)


def test_weights_come_back_and_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(FormatError, match=r"model\.safetensors: must be a safetensors file"):
        load_weights(path)
    save_file({"a": torch.ones(2)}, path)
    assert load_weights(path)["a"].tolist() == [1, 1]


def test_an_archive_with_no_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    for end in range(0, len(buffer.getvalue()), 97):
        path.write_bytes(buffer.getvalue()[:end])
        with pytest.raises(FormatError, match=r"a\.pt: must be a checkpoint"):
            load_checkpoint(path)
