"""Marks of settings."""

from pathlib import Path

import pytest

from nasframe.types import MustExist


@pytest.mark.parametrize(
    ("what", "given", "meant"),
    [
        ("folder", "photo", "photos"),
        ("folder", "Photos/train", "photos/train"),
        ("folder", "Photos/valid", "photos"),
        ("file", "photos/lables.csv", "photos/labels.csv"),
        ("folder", "photos/lables.csv", None),  # what there is, is a file
        ("folder", "somewhere/else", None),
    ],
)
def test_a_path_that_is_not_there_is_told_with_what_lies_beside(
    tmp_path: Path, what: str, given: str, meant: str | None
) -> None:
    (tmp_path / "photos" / "train").mkdir(parents=True)
    (tmp_path / "photos" / "labels.csv").write_text("")
    rule, advice = MustExist(what).wrong(tmp_path / given)
    assert rule == f"must be a {what} that exists"
    asked = f"; did you mean `{tmp_path / meant}`?" if meant else ""
    assert advice == f"there is nothing at {tmp_path / given}{asked}"


def test_a_path_that_is_there_is_no_problem_and_one_of_the_other_sort_is(tmp_path: Path) -> None:
    assert MustExist("folder").wrong(tmp_path) is None
    assert MustExist("file").wrong(tmp_path)[1] == f"there is something else at {tmp_path}"
