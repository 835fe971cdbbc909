import copy
import inspect

import pytest
import torch

from nasframe.core import optimizers

G = [0.5, -2.0, 0.25]


def _trajectory(name, **settings):
    """A scalar weight that starts at 1, after each step on the gradients `G`."""
    weight = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = optimizers[name]([weight], **settings)
    values = []
    for gradient in G:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        values.append(weight.item())
    return values


@pytest.mark.parametrize(
    ("name", "made"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimizers_are_those_of_torch_with_every_setting_as_given(name, made):
    signature = inspect.signature(optimizers[name])
    settings = {key: each.default for key, each in signature.parameters.items() if key != "params"}
    optimizer = optimizers[name]([torch.nn.Parameter(torch.zeros(1))])
    assert isinstance(optimizer, made)
    assert type(optimizer).__name__ == made.__name__
    assert {key: optimizer.param_groups[0][key] for key in settings} == settings


def test_the_defaults_of_sgd_are_those_of_the_paper():
    (group,) = optimizers["sgd"]([torch.nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.025, 0.9, 3e-4)


def test_sgd_follows_its_recurrence():
    lr, momentum, decay, dampening = 0.1, 0.9, 0.01, 0.25
    weight, buffer, expected = 1.0, None, []
    for gradient in G:
        update = gradient + decay * weight
        buffer = update if buffer is None else momentum * buffer + (1 - dampening) * update
        weight -= lr * buffer
        expected.append(weight)
    ours = _trajectory("sgd", lr=lr, momentum=momentum, weight_decay=decay, dampening=dampening)
    assert ours == pytest.approx(expected, rel=1e-12)


def test_nesterov_looks_ahead():
    weight, buffer, expected = 1.0, 0.0, []
    for gradient in G:
        buffer = 0.5 * buffer + gradient
        weight -= 0.1 * (gradient + 0.5 * buffer)
        expected.append(weight)
    ours = _trajectory("sgd", lr=0.1, momentum=0.5, weight_decay=0.0, nesterov=True)
    assert ours == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_follows_its_recurrence_with_coupled_or_decoupled_decay(name):
    lr, (beta1, beta2), eps, decay = 0.1, (0.5, 0.99), 1e-8, 0.2
    weight, first, second, expected = 1.0, 0.0, 0.0, []
    for step, gradient in enumerate(G, 1):
        if name == "adam":
            gradient += decay * weight
        else:
            weight -= lr * decay * weight
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        weight -= lr * (first / (1 - beta1**step)) / ((second / (1 - beta2**step)) ** 0.5 + eps)
        expected.append(weight)
    ours = _trajectory(name, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay)
    assert ours == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "made"),
    [
        ("sgd", {"momentum": 0.9, "weight_decay": 0.1}, torch.optim.SGD),
        ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, torch.optim.SGD),
        ("sgd", {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.1}, torch.optim.SGD),
        ("adam", {"weight_decay": 0.1}, torch.optim.Adam),
        ("adamw", {"weight_decay": 0.1}, torch.optim.AdamW),
    ],
)
@pytest.mark.parametrize("of_gradients", [torch.contiguous_format, torch.channels_last])
def test_all_parameters_in_one_call_step_bit_for_bit_as_one_after_the_other(
    name, settings, made, of_gradients
):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator) for shape in [(4, 3, 5, 5), (7,), (6, 1, 3, 3), (2, 3)]]
    together, apart = (
        [torch.nn.Parameter(each.clone(memory_format=torch.channels_last)) for each in drawn[::2]]
        + [torch.nn.Parameter(each.clone()) for each in drawn[1::2]]
        for _ in range(2)
    )
    ours = optimizers[name](together, lr=0.1, **settings)
    plain = made(apart, lr=0.1, foreach=False, fused=False, **settings)
    for _ in range(3):
        for one, other in zip(together, apart, strict=True):
            gradient = torch.randn(one.shape, generator=generator)
            if gradient.dim() == 4:  # fused kernels would take another memory format for that of the weight
                gradient = gradient.contiguous(memory_format=of_gradients)
            one.grad, other.grad = gradient.clone(), gradient.clone()
        ours.step()
        plain.step()
        assert all(torch.equal(one, other) for one, other in zip(together, apart, strict=True))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_what_watches_pytorchs_optimizers_sees_these_too(name):
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, heard = optimizers[name]([weight], lr=0.1), []
    optimizer.register_step_pre_hook(lambda *_: heard.append("before"))
    optimizer.register_step_post_hook(lambda *_: heard.append("after"))

    def closure():
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 1.0  # gradients are on in the closure, and off in the step
    assert heard == ["before", "after"]
    assert weight.item() < 1
    copied = copy.deepcopy(optimizer)
    assert type(copied) is type(optimizer)
    assert copied.state_dict().keys() == optimizer.state_dict().keys()


@pytest.mark.parametrize(("name", "made"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
@pytest.mark.parametrize("of_gradients", [torch.contiguous_format, torch.channels_last])
def test_fused_kernels_step_alike_however_gradients_lie_in_memory(name, made, of_gradients):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64)
    fused = torch.nn.Parameter(drawn.contiguous(memory_format=torch.channels_last))
    plain = torch.nn.Parameter(drawn.clone())
    ours = optimizers[name]([fused], lr=0.1, fused=True)
    theirs = made([plain], lr=0.1, foreach=False, fused=False, weight_decay=ours.defaults["weight_decay"])
    theirs.param_groups[0]["momentum"] = ours.defaults.get("momentum")
    for _ in range(3):
        gradient = torch.randn(drawn.shape, generator=generator, dtype=torch.float64)
        fused.grad, plain.grad = gradient.contiguous(memory_format=of_gradients), gradient.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(fused, plain, rtol=0, atol=1e-12)
