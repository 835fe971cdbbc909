"""The policies that AutoAugment found."""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Part(NamedTuple):
    """An operation of a sub-policy.

    Attributes:
        operation: Its name.
        probability: How likely an image goes through it.
        level: Its strength, of 9; 0 where it has none.
    """

    operation: str
    probability: float
    level: int


POLICIES: Final[Mapping[str, tuple[tuple[Part, Part], ...]]] = {
    "cifar10": (
        (Part("invert", 0.1, 0), Part("contrast", 0.2, 6)),
        (Part("rotate", 0.7, 2), Part("translate_x", 0.3, 9)),
        (Part("sharpness", 0.8, 1), Part("sharpness", 0.9, 3)),
        (Part("shear_y", 0.5, 8), Part("translate_y", 0.7, 9)),
        (Part("autocontrast", 0.5, 0), Part("equalize", 0.9, 0)),
        (Part("shear_y", 0.2, 7), Part("posterize", 0.3, 7)),
        (Part("color", 0.4, 3), Part("brightness", 0.6, 7)),
        (Part("sharpness", 0.3, 9), Part("brightness", 0.7, 9)),
        (Part("equalize", 0.6, 0), Part("equalize", 0.5, 0)),
        (Part("contrast", 0.6, 7), Part("sharpness", 0.6, 5)),
        (Part("color", 0.7, 7), Part("translate_x", 0.5, 8)),
        (Part("equalize", 0.3, 0), Part("autocontrast", 0.4, 0)),
        (Part("translate_y", 0.4, 3), Part("sharpness", 0.2, 6)),
        (Part("brightness", 0.9, 6), Part("color", 0.2, 8)),
        (Part("solarize", 0.5, 2), Part("invert", 0.0, 0)),
        (Part("equalize", 0.2, 0), Part("autocontrast", 0.6, 0)),
        (Part("equalize", 0.2, 0), Part("equalize", 0.6, 0)),
        (Part("color", 0.9, 9), Part("equalize", 0.6, 0)),
        (Part("autocontrast", 0.8, 0), Part("solarize", 0.2, 8)),
        (Part("brightness", 0.1, 3), Part("color", 0.7, 0)),
        (Part("solarize", 0.4, 5), Part("autocontrast", 0.9, 0)),
        (Part("translate_y", 0.9, 9), Part("translate_y", 0.7, 9)),
        (Part("autocontrast", 0.9, 0), Part("solarize", 0.8, 3)),
        (Part("equalize", 0.8, 0), Part("invert", 0.1, 0)),
        (Part("translate_y", 0.7, 9), Part("autocontrast", 0.9, 0)),
    ),
    "imagenet": (
        (Part("posterize", 0.4, 8), Part("rotate", 0.6, 9)),
        (Part("solarize", 0.6, 5), Part("autocontrast", 0.6, 0)),
        (Part("equalize", 0.8, 0), Part("equalize", 0.6, 0)),
        (Part("posterize", 0.6, 7), Part("posterize", 0.6, 6)),
        (Part("equalize", 0.4, 0), Part("solarize", 0.2, 4)),
        (Part("equalize", 0.4, 0), Part("rotate", 0.8, 8)),
        (Part("solarize", 0.6, 3), Part("equalize", 0.6, 0)),
        (Part("posterize", 0.8, 5), Part("equalize", 1.0, 0)),
        (Part("rotate", 0.2, 3), Part("solarize", 0.6, 8)),
        (Part("equalize", 0.6, 0), Part("posterize", 0.4, 6)),
        (Part("rotate", 0.8, 8), Part("color", 0.4, 0)),
        (Part("rotate", 0.4, 9), Part("equalize", 0.6, 0)),
        (Part("equalize", 0.0, 0), Part("equalize", 0.8, 0)),
        (Part("invert", 0.6, 0), Part("equalize", 1.0, 0)),
        (Part("color", 0.6, 4), Part("contrast", 1.0, 8)),
        (Part("rotate", 0.8, 8), Part("color", 1.0, 2)),
        (Part("color", 0.8, 8), Part("solarize", 0.8, 7)),
        (Part("sharpness", 0.4, 7), Part("invert", 0.6, 0)),
        (Part("shear_x", 0.6, 5), Part("equalize", 1.0, 0)),
        (Part("color", 0.4, 0), Part("equalize", 0.6, 0)),
        (Part("equalize", 0.4, 0), Part("solarize", 0.2, 4)),
        (Part("solarize", 0.6, 5), Part("autocontrast", 0.6, 0)),
        (Part("invert", 0.6, 0), Part("equalize", 1.0, 0)),
        (Part("color", 0.6, 4), Part("contrast", 1.0, 8)),
        (Part("equalize", 0.8, 0), Part("equalize", 0.6, 0)),
    ),
    "svhn": (
        (Part("shear_x", 0.9, 4), Part("invert", 0.2, 0)),
        (Part("shear_y", 0.9, 8), Part("invert", 0.7, 0)),
        (Part("equalize", 0.6, 0), Part("solarize", 0.6, 6)),
        (Part("invert", 0.9, 0), Part("equalize", 0.6, 0)),
        (Part("equalize", 0.6, 0), Part("rotate", 0.9, 3)),
        (Part("shear_x", 0.9, 4), Part("autocontrast", 0.8, 0)),
        (Part("shear_y", 0.9, 8), Part("invert", 0.4, 0)),
        (Part("shear_y", 0.9, 5), Part("solarize", 0.2, 6)),
        (Part("invert", 0.9, 0), Part("autocontrast", 0.8, 0)),
        (Part("equalize", 0.6, 0), Part("rotate", 0.9, 3)),
        (Part("shear_x", 0.9, 4), Part("solarize", 0.3, 3)),
        (Part("shear_y", 0.8, 8), Part("invert", 0.7, 0)),
        (Part("equalize", 0.9, 0), Part("translate_y", 0.6, 6)),
        (Part("invert", 0.9, 0), Part("equalize", 0.6, 0)),
        (Part("contrast", 0.3, 3), Part("rotate", 0.8, 4)),
        (Part("invert", 0.8, 0), Part("translate_y", 0.0, 2)),
        (Part("shear_y", 0.7, 6), Part("solarize", 0.4, 8)),
        (Part("invert", 0.6, 0), Part("rotate", 0.8, 4)),
        (Part("shear_y", 0.3, 7), Part("translate_x", 0.9, 3)),
        (Part("shear_x", 0.1, 6), Part("invert", 0.6, 0)),
        (Part("solarize", 0.7, 2), Part("translate_y", 0.6, 7)),
        (Part("shear_y", 0.8, 4), Part("invert", 0.8, 0)),
        (Part("shear_x", 0.7, 9), Part("translate_y", 0.8, 3)),
        (Part("shear_y", 0.8, 5), Part("autocontrast", 0.7, 0)),
        (Part("shear_x", 0.7, 2), Part("invert", 0.1, 0)),
    ),
}
"""The 25 sub-policies of each data set, as in the authors' appendix (Cubuk et al. 2019, tables 7 to 9)."""
