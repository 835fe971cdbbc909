"""The precision of forward passes: what a device is fast in, found by trying."""

import functools
import time
from typing import Final

import torch

_WORTH: Final = 1.5
"""How many times faster fewer digits must be, to be taken by themselves."""

_ROUNDS: Final = 3
_SIZES: Final = {"cpu": (4, 16, 16)}
_SIZE: Final = (64, 128, 32)  # what occupies an accelerator


def fast_precision(device: torch.device) -> torch.dtype | None:
    """What autocast is worth having on a device: bfloat16, if that is at least 1.5 times faster; or None.

    A CPU keeps the type of the weights: what it computes is the same each time, and a measurement is not.
    float16 is never among them: its small gradients would be zero without a scaled loss.
    """
    if device.type == "cpu":
        return None
    return torch.bfloat16 if bfloat16_speedup(device) >= _WORTH else None


@functools.cache
def bfloat16_speedup(device: torch.device) -> float:
    """How many times faster a convolution and its gradients are under autocast to bfloat16.

    Measured once in a process (about 0.1 s), at its first call; the fastest of three rounds each.
    """
    batch, channels, size = _SIZES.get(device.type, _SIZE)
    generator = torch.Generator().manual_seed(0)  # no draw from the global state
    images = torch.randn(batch, channels, size, size, generator=generator).to(device)
    kernel = torch.randn(channels, channels, 3, 3, generator=generator).to(device).requires_grad_()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for round_ in range(1 + _ROUNDS):
        for lower, times in seconds.items():
            started = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=lower):
                loss = torch.nn.functional.conv2d(images, kernel, padding=1).float().sum()
            torch.autograd.grad(loss, kernel)
            _wait_for(device)
            if round_:  # the first one chooses kernels
                times.append(time.perf_counter() - started)
    return min(seconds[False]) / min(seconds[True])


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
