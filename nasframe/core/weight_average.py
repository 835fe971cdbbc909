"""The moving average of a network's weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch

from nasframe.core.model import Model


@final
class WeightAverage:
    """The exponential moving average of lower-level parameters, and of what batch norms have seen.

    After the t-th step it is d a + (1 − d) w, d = min(decay, (1 + t) / (10 + t)), so that little is left of
    the first weights, as in TensorFlow's ``ExponentialMovingAverage``. Buffers of floats, such as running
    statistics, are averaged alike, for they describe the maps of weights that are averaged; those of
    integers, which count, and upper-level parameters stay the model's.

    Args:
        model: Its weights now are where the average begins.
        decay: d, from 0 to below 1.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self._decay, self._step = decay, 0
        self._parameters: dict[str, torch.Tensor] = dict(model.named_parameters_at("lower"))
        self._places = {
            f"{prefix}.{name}": (module._buffers, name)
            for prefix, module in model.named_modules()
            for name, buffer in module._buffers.items()
            if buffer is not None and buffer.is_floating_point()
        }
        self._means = {name: tensor.detach().clone() for name, tensor in self._live().items()}

    def _live(self) -> dict[str, torch.Tensor]:
        """The tensors of the model that are averaged; buffers may be others than before."""
        buffers = {key: held[name] for key, (held, name) in self._places.items()}
        return self._parameters | {key: each for key, each in buffers.items() if each is not None}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._step += 1
        decay = min(self._decay, (1 + self._step) / (10 + self._step))
        live = self._live()
        torch._foreach_lerp_([self._means[name] for name in live], list(live.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model has the averages; then what it had, bit for bit."""
        before = {name: tensor.detach().clone() for name, tensor in self._live().items()}
        self.take()
        try:
            yield
        finally:
            self._copy(before)

    def take(self) -> None:
        """Give the model the averages for good."""
        self._copy(self._means)

    @torch.no_grad()
    def _copy(self, values: dict[str, torch.Tensor]) -> None:
        for name, tensor in self._live().items():
            tensor.copy_(values[name])

    def state_dict(self) -> dict[str, Any]:
        """Steps so far, and the averages by name."""
        return {"step": self._step, "means": self._means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` returned."""
        self._step = state["step"]
        for name, mean in self._means.items():
            mean.copy_(state["means"][name])
