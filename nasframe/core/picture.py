"""Pictures that show themselves in a notebook."""

from pathlib import Path
from typing import TYPE_CHECKING, final

from nasframe.core.graph import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@final
class Picture:
    """A figure of matplotlib that a notebook shows as SVG, without a backend to choose.

    Args:
        figure: The figure, to be changed as one likes.

    Attributes:
        figure: Likewise.
    """

    def __init__(self, figure: "Figure") -> None:
        self.figure = figure

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"<Picture of {width:.1f} x {height:.1f} inches: save(path) writes it>"

    def _repr_svg_(self) -> str:
        svg = to_svg(self.figure)
        return svg[svg.index("<svg") :]

    def save(self, path: str | Path) -> Path:
        """Write it, in the format that the file's name ends with, such as ``.svg``, ``.png`` or ``.pdf``.

        Raises:
            ValueError: matplotlib knows no such format.
        """
        path = Path(path)
        if path.suffix == ".svg":
            path.write_text(to_svg(self.figure), encoding="utf-8")
        else:
            self.figure.savefig(path)
        return path
