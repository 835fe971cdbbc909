"""Options and fixtures that several tests share."""

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cifar10",
        metavar="PATH",
        default=os.environ.get("NASFRAME_TEST_CIFAR10"),
        help="folder of CIFAR-10's Parquet files (default: the environment variable NASFRAME_TEST_CIFAR10)",
    )


@pytest.fixture
def cifar10_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the real CIFAR-10."""
    path = request.config.getoption("--cifar10")
    if not path:
        pytest.skip("needs the real CIFAR-10: give --cifar10 PATH or NASFRAME_TEST_CIFAR10")
    return Path(path).resolve()
