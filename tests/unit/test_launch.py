import pytest

from nasframe.launch import Launch, launch

TWO = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29400"}


def test_without_a_launcher_a_process_is_alone_and_the_first() -> None:
    assert launch({}) == Launch()
    assert launch({}).is_first


def test_the_variables_of_a_launcher_are_read() -> None:
    torchrun = {"LOCAL_RANK": "1", "TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_MAX_RESTARTS": "3"}
    found = launch(TWO | torchrun)
    assert found == Launch(rank=1, num_ranks=2, local_rank=1, restarts=2, max_restarts=3)
    assert not found.is_first


@pytest.mark.parametrize("missing", TWO)
def test_what_no_launcher_has_set_whole_means_nothing(missing: str) -> None:
    assert launch({name: value for name, value in TWO.items() if name != missing}) == Launch()


def test_a_process_that_was_launched_alone_is_alone() -> None:
    assert launch(TWO | {"RANK": "0", "WORLD_SIZE": "1"}) == Launch()
