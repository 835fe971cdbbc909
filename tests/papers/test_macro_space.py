"""NAS-Bench-Macro (Su et al. 2021, arXiv 2103.11922): the counts of its table."""

import itertools

import torch

from nasframe.core import Task, costs, derived, price
from nasframe.spaces.macro import Macro

SPACE, TASK = Macro(Task()), Task()


def test_keys_of_the_table_are_the_architectures_of_the_space(nas_bench_macro):
    keys = {"".join(digits) for digits in itertools.product("012", repeat=8)}
    assert nas_bench_macro.keys() == keys == {SPACE.key(SPACE.genotype(key)) for key in keys}


def test_parameters_and_multiply_adds_of_all_architectures_are_the_tables(nas_bench_macro):
    parameters, flops = (price(SPACE, TASK, costs[name]()) for name in ("parameters", "flops"))
    for key, entry in nas_bench_macro.items():
        genotype = SPACE.genotype(key)
        assert (parameters.of(genotype), flops.of(genotype)) == (entry["params"], entry["flops"]), key


def test_networks_that_are_built_have_them_too(nas_bench_macro):
    for key in ("00000000", "22222222", "01201201", "22212220", "10210012"):
        with torch.device("meta"):
            network = derived(SPACE, SPACE.genotype(key))
        counts = [costs[name]().of(network, TASK) for name in ("parameters", "flops")]
        assert counts == [nas_bench_macro[key]["params"], nas_bench_macro[key]["flops"]], key
