import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasframe.core import generator_for, kept_random_state, seed_for

_PURPOSES = st.lists(st.one_of(st.integers(0, 99), st.text("abc", min_size=1)), max_size=3).map(tuple)


@given(seed=st.integers(0, 2**63 - 1), purpose=_PURPOSES)
def test_a_seed_is_one_that_torch_takes(seed, purpose):
    assert 0 <= seed_for(seed, *purpose) < 2**63
    torch.Generator().manual_seed(seed_for(seed, *purpose))


@given(one=st.tuples(st.integers(0, 9), _PURPOSES), other=st.tuples(st.integers(0, 9), _PURPOSES))
def test_each_purpose_has_a_seed_of_its_own(one, other):
    same = tuple(map(str, (one[0], *one[1]))) == tuple(map(str, (other[0], *other[1])))
    assert (seed_for(one[0], *one[1]) == seed_for(other[0], *other[1])) is same


def test_generators_of_one_purpose_draw_alike_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    first, again, other = (torch.rand(5, generator=generator_for(1, name)) for name in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_drawn_inside_does_not_move_the_random_state():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with kept_random_state(torch.device("cpu")):
        torch.rand(7)
        torch.manual_seed(99)
    assert torch.equal(torch.rand(3), expected)


def test_the_random_state_is_kept_through_an_exception():
    @kept_random_state(torch.device("cpu"))
    def draw_and_fail():
        torch.rand(7)
        raise ValueError("inside")

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="inside"):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_random_state_of_a_gpu_is_kept():
    device = torch.device("cuda")
    before = torch.cuda.get_rng_state(device)
    with kept_random_state(device):
        torch.rand(7, device=device)
    assert torch.equal(torch.cuda.get_rng_state(device), before)
