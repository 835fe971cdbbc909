import copy
from typing import Any, final

import pytest
import torch
from torch import nn

from nasframe.core import ArchParam, Batch, Model, Objective, WeightUpdate
from nasframe.errors import ComponentError


@final
class Classes(Objective):
    def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, targets)

    def metrics(self, outputs: Any, targets: Any) -> dict[str, torch.Tensor]:
        return {"accuracy": (outputs.argmax(1) == targets).double().mean()}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alpha = ArchParam(torch.zeros(3))
        self.first, self.second, self.unused = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(2, 2)
        self.first.bias.requires_grad_(False)

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x_BC))) * torch.exp(self.alpha)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(Network()).double()


def batch(size: int = 7) -> Batch:
    return Batch(torch.randn(size, 4, dtype=torch.float64), torch.arange(size) % 3)


def make(model: Model, **settings: Any) -> WeightUpdate:
    optimizer = torch.optim.SGD(model.parameters_at("lower"), lr=0.5, momentum=0.9, weight_decay=0.01)
    return WeightUpdate(model, Classes(), optimizer, **settings)


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
@pytest.mark.parametrize("chunks", [1, 3])
def test_steps_equal_a_plain_training_loop(model: Model, max_grad_norm: float | None, chunks: int) -> None:
    plain = copy.deepcopy(model)
    weights = list(plain.parameters_of("weight"))
    optimizer = torch.optim.SGD(weights, lr=0.5, momentum=0.9, weight_decay=0.01)
    update = make(model, max_grad_norm=max_grad_norm, chunks=chunks)
    for _ in range(3):
        piece = batch()
        update(piece)
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(piece.inputs), piece.targets).backward()
        if max_grad_norm is not None:
            norm = nn.utils.clip_grad_norm_(weights, max_grad_norm)
            assert norm > max_grad_norm, "clipping must matter in this problem"
        optimizer.step()
    for got, want in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("chunks", [1, 3])
def test_metrics_are_means_over_the_batch_before_the_update(model: Model, chunks: int) -> None:
    piece = batch(8)
    outputs = model(piece.inputs).detach()
    metrics = make(model, chunks=chunks)(piece)
    assert set(metrics) == {"train_loss", "train_accuracy"}
    want = nn.functional.cross_entropy(outputs, piece.targets)
    torch.testing.assert_close(torch.as_tensor(metrics["train_loss"]), want)
    share = (outputs.argmax(1) == piece.targets).double().mean()
    torch.testing.assert_close(torch.as_tensor(metrics["train_accuracy"]), share)
    assert not any(isinstance(value, torch.Tensor) and value.requires_grad for value in metrics.values())


def test_alphas_frozen_and_unused_weights_do_not_move(model: Model) -> None:
    network: Any = model.network
    resting = [network.alpha, network.first.bias, *network.unused.parameters()]
    before = [parameter.detach().clone() for parameter in resting]
    update = make(model)
    for _ in range(2):
        update(batch())
    assert all(torch.equal(was, now) for was, now in zip(before, resting, strict=True))


def test_no_gradient_is_left_behind_nor_any_taken_for_alphas(model: Model) -> None:
    seen: list[torch.Tensor] = []
    alpha = next(model.parameters_of("alpha"))
    alpha.register_post_accumulate_grad_hook(lambda parameter: seen.append(parameter))
    make(model)(batch())
    assert not seen
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_gradient_from_elsewhere_does_not_enter_the_step(model: Model) -> None:
    twin, piece = copy.deepcopy(model), batch()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    make(model)(piece)
    make(twin)(piece)
    for got, want in zip(model.parameters_at("lower"), twin.parameters_at("lower"), strict=True):
        assert torch.equal(got, want)


def test_a_pass_holds_no_more_than_a_chunk(model: Model) -> None:
    sizes: list[int] = []
    model.network.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    make(model, chunks=3)(batch(8))
    assert sum(sizes) == 8
    assert max(sizes) == 3


def test_the_optimizer_and_the_clipping_can_be_read(model: Model) -> None:
    optimizer = torch.optim.Adam(model.parameters_at("lower"))
    update = WeightUpdate(model, Classes(), optimizer, max_grad_norm=3.0)
    assert update.optimizer is optimizer
    assert update.max_grad_norm == 3.0


def test_an_optimizer_that_holds_an_alpha_is_refused_by_the_name_of_the_alpha(model: Model) -> None:
    with pytest.raises(ComponentError, match=r"network\.alpha.*parameters_at\(.lower.\)"):
        WeightUpdate(model, Classes(), torch.optim.SGD(model.parameters(), lr=0.1))
