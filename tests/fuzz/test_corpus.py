"""What fuzzing found is still refused or read, and nothing else."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corpus import FOLDER, inputs_of
from readers import READERS, read


def test_every_reader_has_inputs_and_none_is_of_a_reader_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_no_input_makes_a_reader_fail(name: str, request: pytest.FixtureRequest) -> None:
    found = inputs_of(name)
    share = request.config.getoption("--fuzz-inputs")
    chosen = [each for each in found if "-" in each] + [each for each in found if "-" not in each][:share]
    assert chosen
    for each in chosen:
        read(name, found[each])
