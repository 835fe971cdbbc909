"""Surgery searches layers of a network of one's own, and leaves the others alone."""

import pytest
import torch
from torch import nn

import nasframe
from nasframe.core import (
    Genotype,
    OneOf,
    Task,
    choices_of,
    costs,
    derived,
    generator_for,
    inherit,
    networks,
    price,
    sample,
    supernet,
)
from nasframe.errors import ComponentError, UnsupportedError
from nasframe.recipe import load_recipe
from nasframe.spaces.surgery import Rule, Surgery

IMAGES = Task((3, 16, 16), 5)
SMALL = networks.component("resnet", channels=4, blocks=(1, 1))


def _resnet(*rules, task=IMAGES):
    return Surgery(task, network=SMALL, rules=rules)


def test_each_matched_layer_gets_a_choice_of_its_own_called_after_it():
    space = _resnet(Rule("layer*.conv2", ("original", "sep_conv_5x5", "skip_connect")))
    found = {name: choice.candidates for name, choice in choices_of(space).items()}
    candidates = ("original", "sep_conv_5x5", "skip_connect")
    assert found == {"layer1_0_conv2": candidates, "layer2_0_conv2": candidates}


def test_layers_of_a_rule_with_an_id_share_one_choice():
    space = _resnet(Rule("layer*.conv2", ("original", "skip_connect"), id="second"))
    assert list(choices_of(space)) == ["second"]
    assert len(list(supernet(space, "softmax").parameters_of("alpha"))) == 1


def test_a_layer_that_several_rules_match_follows_the_first():
    space = _resnet(Rule("layer1.*conv2", ("original",)), Rule("layer*.conv2", ("skip_connect",)))
    assert choices_of(space)["layer1_0_conv2"].candidates == ("original",)


def test_what_keeps_the_originals_is_the_network_itself():
    space = _resnet(Rule("layer*.conv?", ("sep_conv_3x3", "original")))
    names = list(choices_of(space))
    torch.manual_seed(0)
    kept = derived(space, Genotype(dict.fromkeys(names, ("original",)))).eval()
    torch.manual_seed(0)
    network = SMALL(IMAGES).eval()
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(kept(x), network(x), rtol=0, atol=0)
    assert kept.network.state_dict().keys() == network.state_dict().keys()


def test_candidates_take_the_stride_of_the_layer():
    space = _resnet(Rule("layer2.0.conv1", ("original", "sep_conv_3x3", "conv_7x1_1x7")[:2]))
    network = derived(space, Genotype({"layer2_0_conv1": ("sep_conv_3x3",)}))
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 5)
    assert network.network.get_submodule("layer2.0.conv1").first[1].stride == (2, 2)


def test_a_supernet_mixes_and_its_path_is_what_inheritance_gives_the_derived_network():
    space = _resnet(Rule("layer*.conv2", ("original", "sep_conv_3x3", "skip_connect")))
    torch.manual_seed(0)
    model = supernet(space, "softmax").eval()
    genotype = sample(space, generator_for(0, "here"))
    heir = inherit(derived(space, genotype).eval(), model, genotype)
    for name, op in model.mixed_ops.items():
        index = model.choices[name].candidates.index(genotype.choices[name][0])
        with torch.no_grad():
            op.alpha.fill_(-1e4)[index] = 1e4
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(heir(x), model(x))


def test_it_can_be_priced():
    space = _resnet(Rule("layer*.conv2", ("original", "skip_connect")))
    genotype = Genotype({"layer1_0_conv2": ("skip_connect",), "layer2_0_conv2": ("original",)})
    cost = costs["parameters"]()
    expected = sum(p.numel() for p in SMALL(IMAGES).parameters()) - 4 * 4 * 9
    assert price(space, IMAGES, cost).of(genotype) == expected


def test_layers_that_map_features_are_searched_in_a_table_s_network():
    task = Task((7,), 3)
    space = Surgery(
        task,
        network=networks.component("mlp", features=8, depth=2),
        rules=(Rule("hidden*", ("original", "low_rank_4", "gated", "identity")),),
    )
    model = supernet(space, "softmax")
    assert model(torch.randn(4, 7)).shape == (4, 3)
    assert list(model.choices) == ["hidden1", "hidden2"]


def test_layers_are_searched_in_a_network_of_text():
    task = Task((12,), 3, vocabulary=50)
    space = Surgery(
        task,
        network=networks.component("text_mixer", features=8),
        rules=(Rule("layers.*", ("original", "mlp_2", "identity")),),
    )
    model = supernet(space, "softmax")
    assert model(torch.randint(50, (4, 12))).shape == (4, 3)
    assert (
        price(space, task, costs["parameters"]()).of(
            Genotype({"layers_0": ("identity",), "layers_1": ("identity",)})
        )
        == 50 * 8 + 2 * 8 + (8 + 1) * 3
    )


class _Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = OneOf("first", {"narrow": nn.Linear(4, 2), "wide": nn.Linear(4, 2)})
        self.second = nn.Sequential(OneOf("second", {"relu": nn.ReLU(), "tanh": nn.Tanh()}), nn.Linear(2, 3))

    def forward(self, x):
        return self.second(self.first(x))


def test_choices_that_stand_in_a_network_are_searched():
    space = nasframe.OwnNetwork(_Own)
    assert {name: choice.candidates for name, choice in choices_of(space).items()} == {
        "first": ("narrow", "wide"),
        "second": ("relu", "tanh"),
    }
    model = nasframe.supernet(space, "softmax")
    x = torch.randn(5, 4)
    torch.autograd.grad(model(x).sum(), list(model.parameters_of("alpha")))
    network = nasframe.derived(space, Genotype({"first": ("wide",), "second": ("tanh",)}))
    assert isinstance(network.network.second[0], nn.Tanh)
    assert len(list(network.parameters())) == 4


def test_a_choice_that_was_not_decided_says_so_when_it_runs():
    with pytest.raises(UnsupportedError, match="OneOf `first`: must be decided before it runs"):
        _Own()(torch.randn(2, 4))


def test_candidates_of_a_choice_must_be_modules():
    with pytest.raises(ComponentError, match="candidates must be modules, but not tanh"):
        OneOf("x", {"relu": nn.ReLU(), "tanh": torch.tanh})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule("layr1.*", ("original",)), "rule `layr1.*` must match a layer of the network"),
        (Rule("layer1*", ("original",)), "must not lie in each other, but `layer1.0` lies in `layer1`"),
        (Rule("layer1.0.conv2", ("sep_conv_33",)), "got `sep_conv_33`; did you mean `sep_conv_3x3`"),
        (Rule("layer1.0.conv2", ("linear",)), "got `linear`"),
        (Rule("layer2.0.conv1", ("skip_connect",)), "layer `layer2.0.conv1` cannot be `skip_connect`"),
        (Rule("fc", ("identity",)), "layer `fc` cannot be `identity`"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rule, message):
    with pytest.raises(UnsupportedError) as caught:
        _resnet(rule)
    assert message in str(caught.value)


def test_a_recipe_says_it_all(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        """
name: own
data: {type: synthetic, num_train: 32, num_test: 16}
space:
  type: surgery
  network: {type: resnet, channels: 4, blocks: [1]}
  rules:
    - {match: "layer*.conv2", choices: [original, sep_conv_3x3, skip_connect]}
search: {trainer: {epochs: 1, batch_size: 8}}
retrain: {trainer: {epochs: 1, batch_size: 8}}
trackers: []
"""
    )
    found = nasframe.run(load_recipe(path), tmp_path / "run")
    assert list(found.genotype.choices) == ["layer1_0_conv2"]
    again = load_recipe(found.folder / "recipe.yaml")
    assert again.space.settings["rules"] == (
        Rule("layer*.conv2", ("original", "sep_conv_3x3", "skip_connect")),
    )
