"""Image files."""

from pathlib import Path
from typing import ClassVar, Final, Literal, final

import numpy as np
import torch

from nasframe.core import Reader, readers
from nasframe.errors import DataError
from nasframe.types import PositiveInt

_FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow starts programs for others


@readers.register("image")
@final
class Image(Reader):
    """An image (uint8, C H W) of one size, whatever size and colors its file has.

    It is turned as its EXIF data says, made RGB (transparency is dropped) or gray, scaled so that it covers
    the size, and its middle is cut out.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        channels: 3 for RGB, 1 for gray.
    """

    suffixes: ClassVar[tuple[str, ...]] = (
        ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
    )  # fmt: skip

    def __init__(self, *, height: PositiveInt, width: PositiveInt, channels: Literal[1, 3] = 3) -> None:
        self._size, self._mode = (width, height), "RGB" if channels == 3 else "L"

    def read(self, path: Path) -> torch.Tensor:
        from PIL import Image as Pillow
        from PIL import ImageOps

        try:
            with Pillow.open(path, formats=_FORMATS) as image:
                mode, upright = image.mode, ImageOps.exif_transpose(image)
                # a palette with transparency goes by way of RGBA, which is what Pillow asks for
                colored = (upright.convert("RGBA") if mode == "P" else upright).convert(self._mode)
                fitted = ImageOps.fit(colored, self._size, Pillow.Resampling.BILINEAR)
        except Exception as error:  # a broken file may raise almost anything
            raise DataError(f"{path}: the image cannot be decoded: {error}; replace or remove it") from error
        if mode.startswith(("I", "F")):
            raise DataError(f"{path}: the image must have 8 bits a channel, got mode {mode}; convert it")
        pixels_HWC = np.array(fitted).reshape(self._size[1], self._size[0], -1)
        return torch.from_numpy(pixels_HWC).permute(2, 0, 1).contiguous()
