"""The four ImageNet networks that the authors of ProxylessNAS published (arXiv 1812.00332)."""

import pytest
import torch

from nasframe.core import Task, costs, derived
from nasframe.errors import UnsupportedError
from nasframe.spaces.mobile import Mobile

TASK = Task((3, 224, 224), 1000)


def _read(folder, name):
    return Mobile.from_config((folder / f"{name}.config").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "parameters", "mega_flops"),
    [
        ("mobile", 4_080_512, 320.43),
        ("mobile_14", 6_857_568, 580.88),
        ("cpu", 4_361_648, 439.24),
        ("gpu", 7_119_848, 465.26),
    ],
)
def test_published_network_has_its_parameters_and_multiply_adds(
    proxyless_folder, name, parameters, mega_flops
):
    space, genotype = _read(proxyless_folder, name)
    with torch.device("meta"):
        network = derived(space, genotype)
    assert costs["parameters"]().of(network, TASK) == parameters
    assert round(costs["flops"]().of(network, TASK) / 1e6, 2) == mega_flops


def test_the_published_cifar_network_is_read_and_refused_with_the_reason(proxyless_folder):
    with pytest.raises(UnsupportedError, match="PyramidNet whose blocks are trees"):
        _read(proxyless_folder, "cifar")
