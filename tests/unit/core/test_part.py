import torch
from torch import nn

from nasframe.core import Filler, Genotype, Space, Task, generator_for, sample, spaces
from nasframe.core.part import parts_of

TASK = Task((3, 8, 8), 5)


def test_the_parts_of_a_chain_are_its_layers_between_stem_and_head():
    space = spaces["macro"](TASK, channels=4, stages=(1, 2), features=6)
    genotype = Genotype({"layer_0": ("mb_k5_e6",), "layer_1": ("mb_k3_e3",), "layer_2": ("identity",)})
    parts = parts_of(space, genotype, TASK)
    assert [(part.what, part.shape, part.is_chosen) for part in parts] == [
        ("stem", (4, 8, 8), False),
        ("mb_k5_e6", (8, 4, 4), True),
        ("mb_k3_e3", (16, 2, 2), True),
        ("identity", (16, 2, 2), True),
        ("head", (5,), False),
    ]
    assert parts[-2].parameters == 0
    assert parts[0].parameters == 3 * 4 * 9 + 2 * 4  # a convolution, and a batch norm's scale and shift


def test_the_parts_of_a_cell_network_are_its_cells_by_their_kind():
    space = spaces["darts"](TASK, channels=2, cells=3, nodes=2)
    parts = parts_of(space, sample(space, generator_for(0, "test")), TASK)
    assert [part.what for part in parts] == ["stem", "normal", "reduce", "reduce", "classifier"]
    assert [part.shape[1:] for part in parts[1:4]] == [(8, 8), (4, 4), (2, 2)]


def test_several_choices_of_one_layer_are_told_together():
    space = spaces["mobile_elastic"](Task((3, 32, 32), 5))
    parts = parts_of(space, sample(space, generator_for(0, "test")), Task((3, 32, 32), 5))
    first = next(part for part in parts if part.is_chosen)
    assert first.what.split(" ")[::2] == ["kernel", "expansion"]


def test_blocks_that_a_depth_leaves_out_are_no_part():
    settings = {"widths": ((4,),), "depths": ((1, 2),), "strides": (1,), "operations": ("fused_k3_e1",)}
    space = spaces["mobile_stages"](TASK, **settings)
    kept = [Genotype({"block_0": ("fused_k3_e1",), "depth_0": (depth,)}) for depth in ("1", "2")]
    one, two = ([part.what for part in parts_of(space, each, TASK)] for each in kept)
    assert one == ["stem", "first", "fused_k3_e1", "head"]
    assert len(two) == 5


def test_looking_at_the_parts_draws_no_random_number():
    space = spaces["macro"](TASK, channels=2, stages=(1,), features=2)
    genotype, before = Genotype({"layer_0": ("identity",)}), torch.get_rng_state()
    parts_of(space, genotype, TASK)
    assert torch.equal(before, torch.get_rng_state())


def test_a_network_that_needs_numbers_has_no_parts_to_show_and_ends_no_run():
    class Picky(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return {0.0: inputs}[inputs.tolist()[0]]

    class Numbers(Space):
        def build(self, filler: Filler) -> nn.Module:
            return nn.Sequential(Picky())

    assert parts_of(Numbers(), Genotype({}), TASK) == []


def test_a_network_on_tokens_has_parts_too():
    class Words(Space):
        def build(self, filler: Filler) -> nn.Module:
            return nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(12, 2))

    parts = parts_of(Words(), Genotype({}), Task((4,), 2, 7))
    assert [(part.what, part.shape, part.parameters) for part in parts] == [
        ("embedding", (4, 3), 21),
        ("flatten", (12,), 0),
        ("linear", (2,), 26),
    ]
