"""Seeds that depend on what they are for, and passes that leave the random state as they found it."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")


def seed_for(seed: int, *purpose: str | int) -> int:
    """A seed for one purpose, such as ``(seed, "search", "augment", epoch)``; others do not move it."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose."""
    return torch.Generator(device=device).manual_seed(seed_for(seed, *purpose))


def pick(items: Sequence[Item], generator: torch.Generator) -> Item:
    """One of some items, drawn uniformly."""
    return items[int(torch.randint(len(items), (), generator=generator, device="cpu"))]


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, the global random state is afterwards what it was before."""
    state = get_random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)


def get_random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The global random state of the host and of a device, to be saved."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore what `get_random_state` returned; what this device has no part in stays."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])
