"""Heat maps: the larger, the darker."""

import numpy as np
import pytest

from nasframe.core import HeatMap
from nasframe.core.heat_map import paint

WHITE = (255, 255, 255)


def _corner_of_cells(pixels, shape, size):
    """The cells of a picture whose names are empty, as a grid of colors of their upper left pixels."""
    top = next(row for row in range(24, 40) if tuple(pixels[row, 20]) != WHITE)
    left = next(column for column in range(40) if tuple(pixels[top, column]) != WHITE)
    return pixels[top :: size[0], left :: size[1]][: shape[0], : shape[1]]


def test_larger_values_are_darker_and_absent_ones_gray():
    values = np.array([[0.0, 0.5, 1.0], [np.nan, 0.25, 0.75]])
    pixels = paint(HeatMap("", ("", ""), ("",) * 3, values))
    cells = _corner_of_cells(pixels, (2, 3), (18, 44))
    brightness = cells.astype(int).sum(-1)
    order = [brightness[0, 0], brightness[1, 1], brightness[0, 1], brightness[1, 2], brightness[0, 2]]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == 5
    assert len(set(cells[1, 0].tolist())) == 1


def test_the_darkest_color_is_that_of_the_highest_value():
    one, ten = (
        paint(HeatMap("", ("", ""), ("", ""), np.eye(2) * scale, highest=scale)) for scale in (1.0, 10.0)
    )
    assert (one == ten).all()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (8, 3), (8, 600), (300, 300)])
def test_a_picture_has_room_for_names_and_stays_within_a_page(rows, columns):
    names = [f"number {index}" for index in range(max(rows, columns))]
    pixels = paint(HeatMap("title", names[:rows], names[:columns], np.full((rows, columns), 0.5)))
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert pixels.shape[0] <= 640
    assert columns <= pixels.shape[1] <= max(640, columns + 160)
