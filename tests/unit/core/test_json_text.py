"""JSON from outside: what is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasframe.core.json_text import MAX_DEPTH, read_bounded, read_json, read_json_file
from nasframe.errors import FormatError

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**99) + 1, 10**99)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, max_examples=100)
@given(plain)
def test_what_json_can_say_is_read_as_it_was_written(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False).encode()):
        assert read_json(text, "x") == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("{} {}", "Extra data"),
        ("NaN", "NaN is no number"),
        ('{"a": [Infinity]}', "Infinity is no number"),
        ("-Infinity", "-Infinity is no number"),
        ("1e999", "1e999 is too large"),
        ("-1e999", "-1e999 is too large"),
        ("1" * 101, "at most 100 digits, got 101"),
        ("1" * 100_000, "at most 100 digits, got 100000"),
        ('{"a": 1, "b": 2, "a": 1}', "a key occurs twice: 'a'"),
        ('[{"a": {"b": 1, "b": 1}}]', "a key occurs twice: 'b'"),
        ('"\\ud800"', "not valid Unicode"),
        ('{"\\udfff": 1}', "not valid Unicode"),
        ("[" * 1_000_000, "nests too deep"),
        ("[" * 1_000_000 + "]" * 1_000_000, "nests too deep"),
        ('{"a":' * 100_000, "nests too deep"),
        (b"\xff\xfe\x00", "must be JSON"),
        (b"\x80", "must be JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_bounded_json_is_refused_with_where_and_why(text: str | bytes, said: str) -> None:
    with pytest.raises(FormatError, match=r"^the table: must be JSON: ") as caught:
        read_json(text, "the table", "measure anew")
    assert said in str(caught.value)
    assert str(caught.value).endswith("; measure anew")


def test_nesting_is_read_to_its_limit_and_no_further() -> None:
    assert read_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "x")
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = opening * (MAX_DEPTH + 1) + "0" + closing * (MAX_DEPTH + 1)
        with pytest.raises(FormatError, match=f"nests more than {MAX_DEPTH} deep"):
            read_json(deep, "x")


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert read_json('"\\ud835\\udd38"', "x") == "\U0001d538"


def test_a_file_is_read_no_further_than_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text("[1, 2]")
    assert read_json_file(path, max_bytes=6) == [1, 2]
    with pytest.raises(FormatError, match=r"table\.json: must have at most 5 bytes, got more; get another"):
        read_json_file(path, "get another", max_bytes=5)
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole: takes no space
    with pytest.raises(FormatError, match="must have at most 67,108,864 bytes"):
        read_json_file(path)


@pytest.mark.parametrize("name", ["absent", ".", "x" * 5000, "\0"])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError, match="must be a file that can be read"):
        read_bounded(tmp_path / name)


def test_what_never_ends_is_left() -> None:
    with pytest.raises(FormatError, match="must have at most 1,000 bytes"):
        read_bounded(Path("/dev/zero"), max_bytes=1000)
