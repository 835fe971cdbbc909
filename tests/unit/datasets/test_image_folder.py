import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from nasframe.core import Preview, preview_of
from nasframe.datasets.image_folder import image_folder
from nasframe.errors import DataError, FaultWarning

LEVELS = {"cat": 40, "dog": 80, "owl": 120}


def write(path: Path, level: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    """An image of one level everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level,) * 3).convert(mode).save(path)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Ten images of each of three classes; image i of a class has the class's level + i."""
    for name, level in LEVELS.items():
        for index in range(10):
            write(tmp_path / name / f"{index}.png", level + index)
    return tmp_path


@pytest.fixture
def with_splits(tmp_path: Path) -> Path:
    """Four images to train on, two to validate, three to test on, of each of three classes."""
    for split, indices in {"train": range(4), "valid": range(4, 6), "test": range(6, 9)}.items():
        for name, level in LEVELS.items():
            for index in indices:
                write(tmp_path / split / name / f"{index}.png", level + index)
    return tmp_path


def found(split: object) -> list[tuple[int, int]]:
    """Level and label of each image, sorted."""
    batch = split.batch(torch.arange(len(split)))  # type: ignore[attr-defined]
    return sorted(zip(batch.inputs[:, 0, 0, 0].tolist(), batch.targets.tolist(), strict=True))


def every(indices: range) -> list[tuple[int, int]]:
    return [(level + index, label) for label, level in enumerate(LEVELS.values()) for index in indices]


def test_every_image_is_there_once_with_its_class(plain: Path) -> None:
    data = image_folder(path=plain, size=8)
    assert data.class_names == ("cat", "dog", "owl")
    assert sorted(found(data.train) + found(data.test)) == every(range(10))


def test_each_class_has_its_share_of_the_test_images(plain: Path) -> None:
    for fraction, count in ((None, 2), (0.3, 3), (0.0, 1)):
        labels = [label for _, label in found(image_folder(path=plain, test_fraction=fraction).test)]
        assert labels == [0] * count + [1] * count + [2] * count


def test_more_images_of_one_class_do_not_move_those_of_another(plain: Path) -> None:
    before = [pair for pair in found(image_folder(path=plain).test) if pair[1] != 1]
    write(plain / "dog" / "another.png", 99)
    assert [pair for pair in found(image_folder(path=plain).test) if pair[1] != 1] == before


def test_folders_of_splits_are_kept_and_those_to_validate_on_are_trained_on(with_splits: Path) -> None:
    data = image_folder(path=with_splits)
    assert found(data.train) == every(range(6))
    assert found(data.test) == every(range(6, 9))


def test_a_class_may_be_called_train(plain: Path) -> None:
    write(plain / "train" / "0.png", 200)
    write(plain / "train" / "1.png", 201)
    assert image_folder(path=plain).class_names == ("cat", "dog", "owl", "train")


def test_the_shorter_side_is_scaled_and_the_middle_is_cut_out(plain: Path) -> None:
    # 24 x 8: the left and right thirds are black, the middle is white
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 255
    for index in range(10):
        Image.fromarray(wide).save(plain / "cat" / f"{index}.png")
    batch = image_folder(path=plain, size=4).train.batch(torch.arange(24))
    assert batch.inputs.shape == (24, 3, 4, 4)
    cats = batch.inputs[batch.targets == 0]
    assert (cats[..., 1:3] == 255).all()
    assert (cats[..., 0] > 200).all()  # a little of what was cut off, since scaling smooths
    assert torch.equal(cats, cats.flip(-1))


def test_an_image_is_turned_as_its_exif_data_says(plain: Path) -> None:
    # the upper half is white as it is stored; orientation 3 says that it was taken upside down
    stored = np.zeros((8, 8, 3), dtype=np.uint8)
    stored[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    for index in range(10):
        Image.fromarray(stored).save(plain / "cat" / f"{index}.png", exif=exif)
    batch = image_folder(path=plain, size=8).train.batch(torch.arange(24))
    cats = batch.inputs[batch.targets == 0].float().mean((0, 1, 3))
    assert cats.tolist() == [0] * 4 + [255] * 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_images_of_other_modes_become_rgb(plain: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    (plain / "cat" / "0.png").unlink()
    write(plain / "cat" / f"0.{suffix}", 255, mode=mode)
    data = image_folder(path=plain, test_fraction=0)
    assert {pair for pair in found(data.train) + found(data.test) if pair[0] > 200} == {(255, 0)}


def test_transparency_is_dropped_without_a_warning(plain: Path) -> None:
    image = Image.new("RGB", (8, 8), (255,) * 3).convert("P")
    image.save(plain / "cat" / "0.png", transparency=bytes([128] * 256))
    data = image_folder(path=plain, test_fraction=0)
    assert (255, 0) in found(data.train) + found(data.test)


def test_a_preview_is_what_reading_gives(plain: Path, tmp_path: Path) -> None:
    settings = {"path": plain, "size": 5, "test_fraction": 0.3}
    data = image_folder(path=plain, size=5, test_fraction=0.3)
    assert preview_of(image_folder, **settings) == Preview(data.task, len(data.train))
    assert preview_of(image_folder, **{**settings, "path": tmp_path / "absent"}) is None


def test_statistics_are_of_the_training_images_alone(with_splits: Path) -> None:
    data = image_folder(path=with_splits)
    expected = np.mean([level / 255 for level, _ in every(range(6))])
    assert data.preprocess.mean == pytest.approx([expected] * 3)  # type: ignore[attr-defined]


def test_hidden_files_and_what_is_no_image_beside_the_classes_are_passed_over(plain: Path) -> None:
    (plain / "labels.csv").write_text("x")
    (plain / ".thumbnails").mkdir()
    (plain / "cat" / ".DS_Store").write_bytes(b"x")
    assert sorted(found(image_folder(path=plain).train) + found(image_folder(path=plain).test)) == every(
        range(10)
    )


def _cut_short(folder: Path) -> Path:
    file = folder / "dog" / "3.png"
    file.write_bytes(file.read_bytes()[:40])
    return file


def _no_image(folder: Path) -> Path:
    file = folder / "dog" / "3.png"
    file.write_text("no image")
    return file


def _sixteen_bits(folder: Path) -> Path:
    file = folder / "dog" / "3.png"
    Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(file)
    return file


def _text_in_a_class(folder: Path) -> Path:
    file = folder / "dog" / "notes.txt"
    file.write_text("x")
    return file


def _folder_in_a_class(folder: Path) -> Path:
    write(folder / "dog" / "small" / "0.png", 1)
    return folder / "dog" / "small"


def _image_beside_the_classes(folder: Path) -> Path:
    write(folder / "0.png", 1)
    return folder / "0.png"


def _empty_class(folder: Path) -> Path:
    (folder / "ant").mkdir()
    return folder / "ant"


def _class_of_one(folder: Path) -> Path:
    write(folder / "ant" / "0.png", 1)
    return folder / "ant"


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (_cut_short, "cannot be decoded"),
        (_no_image, "cannot be decoded"),
        (_sixteen_bits, "must have 8 bits a channel"),
        (_text_in_a_class, "must be an image"),
        (_folder_in_a_class, "must be an image, .* but is a folder; .* give path: .*dog"),
        (_image_beside_the_classes, "must lie in the folder of a class"),
        (_empty_class, "must hold images of the class `ant`, but is empty"),
        (_class_of_one, "must leave images of the class `ant` to train on, but it has 1 in all"),
    ],
)
def test_what_is_wrong_is_named(plain: Path, spoil: Callable[[Path], Path], rule: str) -> None:
    culprit = spoil(plain)
    with pytest.raises(DataError, match=rule) as caught:
        image_folder(path=plain)
    assert str(caught.value).startswith(f"{culprit}: ")


def test_images_without_folders_of_classes_are_told_where_to_lie(tmp_path: Path) -> None:
    write(tmp_path / "0.png", 1)
    with pytest.raises(DataError, match=r"has images \(1\) and no folder; make them, such as .*cat"):
        image_folder(path=tmp_path)


def test_a_folder_one_level_too_high_or_too_low_is_asked_for_the_right_one(plain: Path) -> None:
    photos = plain.rename(plain.with_name("photos"))
    above = plain
    above.mkdir()
    photos = photos.rename(above / "photos")
    for wrong in (above, photos / "cat"):
        with pytest.raises(DataError, match=rf"did you mean path: {photos}\?"):
            image_folder(path=wrong)


def test_all_that_cannot_be_used_is_counted_at_once_and_what_to_do_is_told(plain: Path) -> None:
    for name in ("7.png", "8.png"):
        (plain / "dog" / name).write_text("no image")
    with pytest.raises(DataError, match=r"decoded.*with 1 more \(dog/8\.png\), or set unreadable: skip"):
        image_folder(path=plain, test_fraction=0)
    for name in ("cat/a.txt", "owl/b.heic"):
        (plain / name).write_text("no image")
    (plain / "ant").mkdir()
    write(plain / "0.png", 1)
    with pytest.raises(DataError) as caught:
        image_folder(path=plain)
    loose, odd, empty = str(caught.value).splitlines()
    assert loose.startswith(f"{plain / '0.png'}: must lie in the folder of a class")
    assert "a.txt: must be an image" in odd
    assert "and so must 1 more (owl/b.heic); convert it" in odd
    assert "the class `ant`, but is empty" in empty


def test_files_of_other_kinds_can_be_left_out_too(plain: Path) -> None:
    before = found(image_folder(path=plain, test_fraction=0).train)
    (plain / "cat" / "z.heic").write_text("no image")
    with pytest.warns(FaultWarning, match=r"1 of 28 images are left out, the first: .*z\.heic"):
        assert len(image_folder(path=plain, test_fraction=0, unreadable="skip").train) == len(before)


def test_what_systems_leave_in_folders_is_passed_over(plain: Path) -> None:
    before = found(image_folder(path=plain).train)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (plain / "cat" / name).write_bytes(b"")
    write(plain / "__MACOSX" / "0.png", 1)
    assert found(image_folder(path=plain).train) == before


@pytest.mark.parametrize(("has", "lacks"), [("train", "test"), ("test", "train"), ("valid", "train")])
def test_a_class_that_one_split_has_and_another_has_not_is_named(
    with_splits: Path, has: str, lacks: str
) -> None:
    write(with_splits / has / "ant" / "0.png", 1)
    rule = f"{with_splits / lacks}: must have the same classes as .*, but has no `ant`"
    with pytest.raises(DataError, match=rule):
        image_folder(path=with_splits)


def test_a_share_beside_a_folder_of_test_images_is_refused(with_splits: Path) -> None:
    with pytest.raises(DataError, match=r"test_fraction must not be given.*got 0\.3"):
        image_folder(path=with_splits, test_fraction=0.3)


@pytest.mark.parametrize(
    ("folders", "rule"),
    [
        ([], "must have folders of at least two classes, but has none"),
        (["train", "valid"], "has no test"),
        (["test"], "has no train"),
        (["cat"], "at least two classes, but has only `cat`"),
    ],
)
def test_a_folder_of_another_form_is_told_what_to_have(tmp_path: Path, folders: list[str], rule: str) -> None:
    for folder in folders:
        write(tmp_path / folder / "0.png", 1)
    with pytest.raises(DataError, match=rule):
        image_folder(path=tmp_path)


def test_a_recipe_knows_the_folder_before_it_runs(
    plain: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import nasframe
    from nasframe.errors import RecipeError

    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(
        f"name: mine\ndata: {{type: image_folder, path: {plain}, size: 8}}\n"
        "space: {type: darts, channels: 4, cells: 3, nodes: 2}\n"
    )
    assert len(nasframe.load_recipe(path).data().train) == 24
    (plain / "ant").mkdir()
    with pytest.raises(RecipeError, match="`ant`, but is empty") as caught:
        nasframe.load_recipe(path)
    assert [problem.path for problem in caught.value.problems] == ["data"]


def test_no_program_is_started_for_an_image(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = plain.parent / "programs"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {programs}/ran\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow looks for the program once
    file = plain / "cat" / "0.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n")
    with pytest.raises(DataError, match=r"0\.png: the image cannot be decoded"):
        image_folder(path=plain, size=8)
    assert not (programs / "ran").exists()
