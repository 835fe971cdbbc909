"""Curves: mappings that draw themselves."""

import math

import pytest

from nasframe.core import Alphas, Curves

LOSSES = {"train_loss": [3.0, 2.0, 1.0], "valid_loss": [4.0, None, 2.0], "lr": [0.5, 0.25, 0.125]}
WEIGHTS = {
    "normal_2_0": {"none": [0.5, 0.25], "skip_connect": [0.5, 0.75]},
    "normal_2_1": {"none": [0.5, 0.625], "skip_connect": [0.5, 0.375]},
}


def _lines(picture):
    """Title, and values by legend, of the visible panels of a figure."""
    shown = [axis for axis in picture.figure.axes if axis.axison]
    return {axis.get_title(loc="left"): [list(line.get_ydata()) for line in axis.lines] for axis in shown}


def test_curves_are_a_mapping():
    curves = Curves(LOSSES)
    assert dict(curves) == LOSSES
    assert len(curves) == 3
    with pytest.raises(KeyError):
        curves["accuracy"]


def test_training_and_validation_share_a_panel_and_a_gap_stays_one():
    panels = _lines(Curves(LOSSES).plot())
    assert list(panels) == ["loss", "lr"]
    train, valid = panels["loss"]
    assert train == [3.0, 2.0, 1.0]
    assert (valid[0], valid[2]) == (4.0, 2.0)
    assert math.isnan(valid[1])
    picture = Curves(LOSSES).plot("lr")
    assert list(_lines(picture)) == ["lr"]
    (loss,) = Curves(LOSSES).plot("loss").figure.legends
    assert [text.get_text() for text in loss.get_texts()] == ["train", "valid"]
    with pytest.raises(KeyError, match="accuracy"):
        Curves(LOSSES).plot("accuracy")


def test_alphas_are_drawn_by_choice_with_the_strongest_candidate_broad():
    picture = Alphas(WEIGHTS).plot()
    assert _lines(picture) == {
        "normal_2_0: skip_connect": [[0.5, 0.25], [0.5, 0.75]],
        "normal_2_1: none": [[0.5, 0.625], [0.5, 0.375]],
    }
    widths = [[line.get_linewidth() for line in axis.lines] for axis in picture.figure.axes]
    assert [each.index(max(each)) for each in widths] == [1, 0]
    assert list(_lines(Alphas(WEIGHTS).plot("normal_2_1"))) == ["normal_2_1: none"]


def test_an_empty_history_is_drawn_as_nothing():
    assert Alphas({}).plot()._repr_svg_().startswith("<svg")


def test_a_picture_shows_itself_and_is_saved_in_the_format_of_its_name(tmp_path):
    picture = Curves(LOSSES).plot("lr")
    svg = picture._repr_svg_()
    assert svg.startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
    assert picture.save(tmp_path / "lr.svg").read_text().rstrip().endswith(svg.rstrip())
    assert picture.save(str(tmp_path / "lr.png")).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="xyz"):
        picture.save(tmp_path / "lr.xyz")
