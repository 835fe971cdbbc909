"""The races of `steps.py`: who runs against whom, from the same weights on the same batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch

import networks
import paths
import supernets
from measuring import relative_error
from peers import archai, darts, pt_darts

AGREEMENT = 1e-9

Fault = Callable[[Any], list[torch.Tensor]]


@dataclass(frozen=True)
class Race:
    """Contenders that take turns.

    Attributes:
        title: What is raced.
        goal: What is aimed at, in words.
        contenders: How each is built from a setting; the first is the one that the others are compared with.
        settings: By the size of the benchmark; `check` is what gradients are compared at.
        faults: What a contender's gradient exceeds the first one's by.
        unit: The contender in whose steps the others' are counted.
        memory_of: The method whose memory is measured.
        known_peaks: Bytes that were measured of the original itself, at the size `target`.
        stepped: Whether gradients are compared after a step, when there is momentum, or at the start.
        repeats: Timed rounds.
    """

    title: str
    goal: str
    contenders: Mapping[str, Callable[[Any], Any]]
    settings: Mapping[str, Any]
    faults: Mapping[str, Fault] = field(default_factory=dict)
    unit: str | None = None
    memory_of: Literal["step", "alpha_step"] = "step"
    known_peaks: Mapping[str, float] = field(default_factory=dict)
    stepped: bool = True
    repeats: int = 5

    def check(self) -> dict[str, float]:
        """Relative error of each contender's gradient against the first one's, its fault taken out."""
        setting, want, errors = self.settings["check"], None, {}
        for name, build in self.contenders.items():
            contender = build(setting)
            if not hasattr(contender, "gradients"):
                continue
            if self.stepped:
                contender.step()
            got = contender.gradients()
            if want is None:
                want = got
                continue
            fault = self.faults[name](setting) if name in self.faults else [torch.zeros(())] * len(want)
            right = [one - other for one, other in zip(got, fault, strict=True)]
            errors[name] = relative_error(right, want)
        return errors


def _sizes(target: Any, small: Any) -> dict[str, Any]:
    return {"target": target, "small": small, "check": target.check()}


_DARTS = _sizes(supernets.Setting(), supernets.Setting(channels=8, cells=5, batch=8))
_PATHS = _sizes(paths.Setting(), paths.Setting(depth=2, features=320, batch=8))


def _of_original(fault: Callable[..., list[torch.Tensor]], setting: supernets.Setting) -> list[torch.Tensor]:
    peer = supernets.Peer(setting, second_order=True)
    return fault(peer.search, peer.train, peer.valid)


RACES: Mapping[str, Race] = {
    "first_order": Race(
        "DARTS, first order: a step of alphas and a step of weights",
        "3.3 times faster, stretch 4.5; 1.7 times less memory",
        {
            "original": partial(supernets.Peer, second_order=False),
            "nasframe": partial(supernets.Nasframe, order=1),
            "nasframe, not fused": partial(supernets.Nasframe, order=1, fused=False),
        },
        _DARTS,
        known_peaks={"original": 2.2 * 2**30},
    ),
    "checkpointed": Race(
        "DARTS, first order, with the activations of each cell computed again in the backward pass",
        "3.5 times less memory than the original, stretch 5; at most 1.6 times the time of the fast step",
        {
            "original": partial(supernets.Peer, second_order=False),
            "nasframe": partial(supernets.Nasframe, order=1, recomputed=True),
            "nasframe, all kept": partial(supernets.Nasframe, order=1),
        },
        _DARTS,
        unit="nasframe, all kept",
    ),
    "second_order": Race(
        "DARTS, second order by central difference, in the paper's order of updates",
        "2.7 times faster, stretch 4; 2.2 times less memory, stretch 3",
        {
            "original": partial(supernets.Peer, second_order=True),
            "nasframe": partial(supernets.Nasframe, order=2),
            "nasframe, not fused": partial(supernets.Nasframe, order=2, fused=False),
        },
        _DARTS,
        known_peaks={"original": 3.0 * 2**30},
        repeats=3,
    ),
    "exact": Race(
        "DARTS, second order by the exact product, against the original's central difference",
        "no slower, stretch 1.6 times faster; 1.2 times the memory, stretch no more",
        {
            "original": partial(supernets.Peer, second_order=True),
            "nasframe": partial(supernets.Nasframe, order=2, hessian="exact"),
        },
        _DARTS,
        faults={"nasframe": partial(_of_original, darts.kinks)},
        stepped=False,
        repeats=2,
    ),
    "others": Race(
        "DARTS, second order by the optimizers of others, each with its known fault",
        "",
        {
            "original": partial(supernets.Peer, second_order=True),
            "pt.darts": partial(supernets.Peer, search=pt_darts.Search),
            "Archai": partial(supernets.Peer, search=archai.Search),
        },
        _DARTS,
        faults={
            "pt.darts": partial(_of_original, pt_darts.fault),
            "Archai": partial(_of_original, archai.fault),
        },
        stepped=False,
        repeats=2,
    ),
    "all_paths": Race(
        "ProxylessNAS on all paths: a step of weights and a step of alphas",
        "2.8 times faster than NNI, stretch 4; at most 2.9 steps of plain training, stretch 2.2; "
        "at most 0.9 of NNI's memory in the alpha step",
        {
            "NNI 3.0": paths.Nni,
            "original (full_v2)": partial(paths.Authors, mode="full_v2"),
            "nasframe": partial(paths.Nasframe, update="all_paths"),
            "plain": partial(paths.OnePath, channels_last=True),
            "plain, NCHW": partial(paths.OnePath, channels_last=False),
        },
        _PATHS,
        unit="plain",
        memory_of="alpha_step",
        stepped=False,
        repeats=20,
    ),
    "two_paths": Race(
        "ProxylessNAS on two paths: a step of weights and a step of alphas",
        "2.2 times faster than the original; at most 1.8 steps of plain training, stretch 1.5",
        {
            "original (two)": partial(paths.Authors, mode="two"),
            "nasframe": partial(paths.Nasframe, update="two_paths"),
            "plain": partial(paths.OnePath, channels_last=True),
        },
        _PATHS,
        unit="plain",
        memory_of="alpha_step",
        stepped=False,
        repeats=20,
    ),
    "derived": Race(
        "the DARTS paper's network: a training step, against the same network written plainly",
        "no slower, no more memory",
        {
            "plain, channels last": partial(networks.Plain, channels_last=True),
            "nasframe": partial(networks.Nasframe, channels_last=True),
            "plain, NCHW": partial(networks.Plain, channels_last=False),
            "nasframe, NCHW": partial(networks.Nasframe, channels_last=False),
        },
        _DARTS,
        repeats=10,
    ),
}
