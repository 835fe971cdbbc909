"""Seeds that depend on what they are for, and passes that leave the random state as they found it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_for(seed: int, *purpose: str | int) -> int:
    """A seed for one purpose, such as ``(seed, "search", "augment", epoch)``; others do not move it."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose."""
    return torch.Generator(device=device).manual_seed(seed_for(seed, *purpose))


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, the global random state is afterwards what it was before."""
    host = torch.get_rng_state()
    accelerator = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(host)
        if accelerator is not None:
            torch.cuda.set_rng_state(accelerator, device)
