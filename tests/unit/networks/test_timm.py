"""Networks of timm: built for the task, never downloaded."""

import sys

import pytest

from nasframe.core import Task, networks
from nasframe.errors import UnsupportedError

IMAGES = Task((2, 32, 32), 5)


def _timm(**settings):
    return networks.component("timm", **settings)(IMAGES)


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UnsupportedError, match=r"pip install nasframe\[timm\]"):
        _timm(architecture="resnet10t")


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm", reason="needs nasframe[timm]")


def test_a_classifier_takes_the_channels_and_returns_a_row_of_logits(timm):
    assert _timm(architecture="resnet10t").eval()(IMAGES.blank(2)).shape == (2, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "resnet10"}, "did you mean"),
        ({"architecture": "resnet10t", "config": {"pretrained": True}}, "must leave pretrained to the data"),
        ({"architecture": "resnet10t", "config": {"no_such": 1}}, "must be a network that can be built so"),
    ],
)
def test_what_cannot_be_built_is_refused(timm, settings, message):
    with pytest.raises(UnsupportedError, match=message):
        _timm(**settings)
