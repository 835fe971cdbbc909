"""The auxiliary head."""

import pytest
import torch
from torch import nn

from nasframe.errors import UnsupportedError
from nasframe.ops.auxiliary_head import AuxiliaryHead


def pool_of(head: AuxiliaryHead) -> nn.AvgPool2d:
    return next(part for part in head.modules() if isinstance(part, nn.AvgPool2d))


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


@pytest.mark.parametrize(("size", "stride"), [(8, 3), (7, 2)])
def test_it_pools_the_authors_map_sizes_as_they_do(size: int, stride: int) -> None:
    pool = pool_of(AuxiliaryHead(4, 10, (size, size), final_norm=True))
    assert (pair(pool.kernel_size), pair(pool.stride)) == ((5, 5), (stride, stride))


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (4, 4), (5, 6), (7, 14), (8, 8), (16, 9), (31, 2)])
def test_it_takes_maps_of_any_size_and_looks_at_all_of_them(size: tuple[int, int]) -> None:
    head = AuxiliaryHead(4, 10, size, final_norm=True)
    assert head(torch.randn(2, 4, *size)).shape == (2, 10)
    x = torch.randn(1, 4, *size, requires_grad=True)
    pool_of(head)(x).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_it_refuses_a_map_that_it_cannot_pool_to_2x2() -> None:
    with pytest.raises(UnsupportedError, match="must be at least 2x2, got 4x1"):
        AuxiliaryHead(4, 10, (4, 1), final_norm=True)


@pytest.mark.parametrize("final_norm", [True, False])
def test_it_has_the_authors_layers(final_norm: bool) -> None:
    head = AuxiliaryHead(20, 10, (8, 8), final_norm=final_norm)
    convolutions = 128 * 20 + 768 * 128 * 2 * 2
    norms = 2 * 128 + (2 * 768 if final_norm else 0)
    assert sum(p.numel() for p in head.parameters()) == convolutions + norms + 768 * 10 + 10


def test_its_input_stays_as_it_was() -> None:
    x = torch.randn(2, 4, 8, 8)
    kept = x.clone()
    AuxiliaryHead(4, 10, (8, 8), final_norm=True)(x)
    assert torch.equal(x, kept)
