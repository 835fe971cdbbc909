"""Contenders of training a derived network: nasframe's, and the same one written plainly."""

import torch
from torch import nn
from torch.nn import functional

import nasframe
from nasframe.core import Batch, Genotype, Model, Task
from peers import derived
from supernets import Setting, batches

_PARTS = nasframe.registries


def network(setting: Setting) -> Model:
    """The network that nasframe derives, the same for equal settings; everyone starts from its weights."""
    torch.manual_seed(0)
    space = _PARTS["spaces"]["darts"](Task(), channels=setting.channels, cells=setting.cells)
    return nasframe.derived(space, Genotype.from_darts(derived.GENOTYPE)).to(setting.dtype)


class Nasframe:
    """The weight step of nasframe's trainer.

    Args:
        setting: Channels, cells and batch.
        channels_last: The trainer's setting of this name.
    """

    def __init__(self, setting: Setting, *, channels_last: bool) -> None:
        self.model, self.objective = network(setting), _PARTS["objectives"]["cross_entropy"]()
        self.batch = laid_out(self.model, setting, channels_last=channels_last)
        self.weights = list(self.model.parameters_of("weight"))
        optimizer = _PARTS["optimizers"]["sgd"](self.weights)
        self.update = nasframe.WeightUpdate(self.model, self.objective, optimizer, max_grad_norm=setting.clip)

    def step(self) -> object:
        return self.update(self.batch)

    def gradients(self) -> list[torch.Tensor]:
        loss = self.objective.loss(self.model(self.batch.inputs), self.batch.targets)
        return list(torch.autograd.grad(loss, self.weights))


class Plain:
    """A training step as a script has it.

    Args:
        setting: Channels, cells and batch.
        channels_last: Memory format.
    """

    def __init__(self, setting: Setting, *, channels_last: bool) -> None:
        self.network, self.clip = (
            derived.Network(setting.channels, setting.cells).to(setting.dtype),
            setting.clip,
        )
        self.weights = list(self.network.parameters())
        for own, value in zip(self.weights, network(setting).parameters_of("weight"), strict=True):
            if own.shape != value.shape:
                raise ValueError(f"peers.derived: weight must have shape {own.shape}, got {value.shape}")
            own.data.copy_(value.detach())
        self.batch = laid_out(self.network, setting, channels_last=channels_last)
        self.optimizer = torch.optim.SGD(self.weights, 0.025, momentum=0.9, weight_decay=3e-4)

    def step(self) -> object:
        self.optimizer.zero_grad()
        functional.cross_entropy(self.network(self.batch.inputs), self.batch.targets).backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.weights, self.clip)
        return self.optimizer.step()

    def gradients(self) -> list[torch.Tensor]:
        loss = functional.cross_entropy(self.network(self.batch.inputs), self.batch.targets)
        return list(torch.autograd.grad(loss, self.weights))


def laid_out(module: nn.Module, setting: Setting, *, channels_last: bool) -> Batch:
    """The training batch, once both it and the module are in a memory format."""
    batch, _ = batches(setting)
    if not channels_last:
        return batch
    module.to(memory_format=torch.channels_last)
    return Batch(batch.inputs.contiguous(memory_format=torch.channels_last), batch.targets)
