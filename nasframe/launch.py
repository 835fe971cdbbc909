"""How a launcher such as torchrun started this process: what its environment variables say."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

_NEEDED: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@final
@dataclass(frozen=True)
class Launch:
    """The place of this process among those that were started together.

    Attributes:
        rank: Counts from 0.
        num_ranks: How many were started; 1 without a launcher.
        local_rank: Counts those of this machine.
        restarts: How often all of them have been started again.
        max_restarts: How often they may be.
    """

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    restarts: int = 0
    max_restarts: int = 0

    @property
    def is_first(self) -> bool:
        """Whether it is the one that prints and writes."""
        return self.rank == 0


def launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """What the variables say that PyTorch's ``env://`` reads, and those of torchrun."""

    def number(name: str) -> int:
        text = environment.get(name, "")
        return int(text) if text.isdecimal() else 0

    if not all(environment.get(name) for name in _NEEDED) or number("WORLD_SIZE") < 2:
        return Launch()
    return Launch(
        number("RANK"),
        number("WORLD_SIZE"),
        number("LOCAL_RANK"),
        number("TORCHELASTIC_RESTART_COUNT"),
        number("TORCHELASTIC_MAX_RESTARTS"),
    )
