import numpy as np
import pytest
import torch
from PIL import Image

from nasframe.core import datasets, readers
from nasframe.errors import DataError


def _saved(path, pixels, **options):
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path, **options)
    return path


def test_an_image_of_the_right_size_is_read_pixel_by_pixel(tmp_path):
    pixels_HWC = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    read = readers["image"](height=2, width=3).read(_saved(tmp_path / "a.png", pixels_HWC))
    assert read.dtype == torch.uint8
    assert read.tolist() == pixels_HWC.transpose(2, 0, 1).tolist()


def test_a_gray_network_sees_the_brightness_of_colors(tmp_path):
    path = _saved(tmp_path / "a.png", np.full((4, 4, 3), (200, 100, 50)))
    read = readers["image"](height=4, width=4, channels=1).read(path)
    assert read.shape == (1, 4, 4)
    assert read.unique().tolist() == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]


def test_a_wide_image_keeps_its_middle(tmp_path):
    pixels = np.zeros((2, 6, 3))
    pixels[:, 2:4] = 255
    read = readers["image"](height=2, width=2).read(_saved(tmp_path / "wide.png", pixels))
    assert read.unique().tolist() == [255]


def test_a_file_is_read_as_the_data_set_reads_it(tmp_path):
    drawn = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            _saved(tmp_path / name / f"{index}.png", drawn.integers(0, 256, (11, 7 + index, 3)))
    data = datasets["image_folder"](path=tmp_path, size=5)
    reader = data.reader()
    known = {tuple(image.flatten().tolist()) for image in data.train.batch(torch.arange(4)).inputs}
    known |= {tuple(image.flatten().tolist()) for image in data.test.batch(torch.arange(2)).inputs}
    assert known == {tuple(reader.read(file).flatten().tolist()) for file in tmp_path.glob("*/*.png")}


@pytest.mark.parametrize("content", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_image_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: the image cannot be decoded"):
        readers["image"](height=2, width=2).read(tmp_path / "a.png")
