"""The mean over a map."""

import pytest
import torch

from nasframe.core import Task, derived, generator_for, global_average_pool, networks, sample, spaces


def test_each_channel_becomes_its_mean():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    want = torch.stack([torch.stack([channel.mean() for channel in image]) for image in x])
    torch.testing.assert_close(global_average_pool(x), want, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["resnet", "nas_bench_201"])
def test_the_networks_that_end_in_it_are_handed_no_gradient_in_another_memory_format(name):
    task, formats = Task((3, 8, 8), 3), []
    if name == "resnet":
        network = networks["resnet"](task, channels=4, blocks=(1,))
        pool = network.pool
    else:
        space = spaces[name](task, channels=4, cells=1)
        network = derived(space, sample(space, generator_for(0, "here"))).network
        pool = network.head[2]

    def note(module, args):
        args[0].register_hook(lambda gradient: formats.append(gradient.is_contiguous()))

    pool.register_forward_pre_hook(note)
    network.to(memory_format=torch.channels_last)
    network(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)).square().sum().backward()
    assert formats == [False]  # a mean's would be laid out as B C H W
