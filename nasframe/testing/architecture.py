"""Operations, mixed ops and search spaces."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nasframe.core import (
    Choice,
    Genotype,
    Graph,
    InputChoice,
    LayerChoice,
    MakeMixedOp,
    MixedOp,
    Model,
    SampledOp,
    Space,
    Task,
    choices_of,
    generator_for,
    is_zero,
    kind_of,
    kinds,
    sample,
    supernet,
)
from nasframe.testing._example import NUM_INPUTS
from nasframe.testing._verdict import accepted, check_gradients, require, same, seeded, state_of


def check_op(
    factory: Callable[[int, int, int, bool], nn.Module],
    *,
    in_channels: int = 4,
    out_channels: int = 4,
    size: int = 8,
    strides: Iterable[int] = (1, 2),
) -> None:
    """Check an op: shapes, gradients, batch norms as asked for, no alphas.

    Args:
        factory: Builds the op from (in_channels, out_channels, stride, affine).
        in_channels: Of the images that it is tried on.
        out_channels: That it must return.
        size: Height and width of the images; a multiple of each stride.
        strides: The strides to try.

    Raises:
        ComponentError: What must be changed.
    """
    for stride in strides:
        for affine in (False, True):
            where = f"op with stride {stride} and affine={affine}"
            op = factory(in_channels, out_channels, stride, affine)
            x_BCHW = torch.randn(2, in_channels, size, size, requires_grad=True)
            y_BCHW = op(x_BCHW)
            shape = (2, out_channels, size // stride, size // stride)
            require(
                y_BCHW.shape == shape,
                f"{where}: must map {tuple(x_BCHW.shape)} to {shape}, got {tuple(y_BCHW.shape)}; "
                "check padding and stride",
            )
            norms = [module for module in op.modules() if isinstance(module, nn.BatchNorm2d)]
            require(
                all(norm.affine is affine for norm in norms),
                f"{where}: its batch norms must have affine={affine}; pass `affine` on to them",
            )
            _check_kinds_of_op(where, op)
            if is_zero(op):
                require(
                    not bool(y_BCHW.any()),
                    f"{where}: declares `always_zero`, so it must return zeros; "
                    "return them, or declare nothing",
                )
            else:
                check_gradients(where, y_BCHW, {"its input": x_BCHW, **dict(op.named_parameters())})


def _check_kinds_of_op(where: str, op: nn.Module) -> None:
    upper = [name for name, p in op.named_parameters() if kind_of(p).level == "upper"]
    require(
        not upper, f"{where}: must hold weights alone, got {', '.join(upper)}; alphas belong to the mixed op"
    )


def check_mixed_op(factory: MakeMixedOp, *, num_candidates: int = 3) -> None:
    """Check a mixed op: weights of shape K, declared kinds, gradients, and a state that round-trips.

    Args:
        factory: Builds the mixed op of a choice.
        num_candidates: Of the choices that it is tried on, one of layers and one of inputs.

    Raises:
        ComponentError: What must be changed.
    """
    names = tuple(f"candidate_{index}" for index in range(num_candidates))
    tried = [
        _tried_mixed_op(factory, choice) for choice in (LayerChoice("a", names), InputChoice("b", names))
    ]
    where = type(tried[0]).__name__
    made = {kind for mixed_op in tried for kind in kinds(mixed_op)}
    declared = {kind.name for kind in tried[0].makes}
    require(
        made == declared,
        f"{where}: `makes` must name the kinds of its parameters, {sorted(made)}, got {sorted(declared)}; "
        "correct `makes`, or make each parameter an ArchParam of its kind",
    )


def _tried_mixed_op(factory: MakeMixedOp, choice: Choice) -> MixedOp:
    """The mixed op of a choice, after all of its checks but that of the kinds."""
    mixed_op = factory(choice)
    where = type(mixed_op).__name__
    _check_candidate_weights(where, mixed_op, len(choice.candidates))
    candidates = [nn.Linear(NUM_INPUTS, NUM_INPUTS) for _ in choice.candidates]
    x_BC = torch.randn(5, NUM_INPUTS)
    if isinstance(mixed_op, SampledOp):
        mixed_op.draw(mixed_op.logits().detach().double(), generator_for(0, "check_mixed_op"))
    state = torch.get_rng_state()
    mixed = mixed_op(candidates, x_BC)
    require(
        mixed_op.draws or torch.equal(state, torch.get_rng_state()),
        f"{where}: `draws` must be True where a training pass draws, or its supernet is validated by "
        "batch-norm statistics of other networks; set it, or draw nothing",
    )
    got = tuple(mixed.shape) if isinstance(mixed, torch.Tensor) else type(mixed).__name__
    require(
        got == x_BC.shape,
        f"{where}: must return what a candidate returns, a tensor of shape {tuple(x_BC.shape)}, got {got}; "
        "add up what the candidates return",
    )
    check_gradients(where, mixed, dict(mixed_op.named_parameters()))
    _check_that_candidates_learn(where, mixed_op, candidates)
    twin = factory(choice)
    twin.load_state_dict(copy.deepcopy(mixed_op.state_dict()))
    require(
        torch.equal(twin.weights(), mixed_op.weights()),
        f"{where}: must have the same weights after `load_state_dict`; keep what they depend on in "
        "parameters or buffers",
    )
    return mixed_op


def _check_that_candidates_learn(where: str, mixed_op: MixedOp, candidates: Sequence[nn.Module]) -> None:
    """Of those that are computed; a mixed op that draws leaves others out."""
    x_BC = torch.randn(5, NUM_INPUTS, requires_grad=True)
    inputs = [x_BC, *(weight for candidate in candidates for weight in candidate.parameters())]
    found: Sequence[torch.Tensor | None] = torch.autograd.grad(
        mixed_op(candidates, x_BC).sum(), inputs, allow_unused=True
    )
    require(
        found[0] is not None and any(gradient is not None for gradient in found[1:]),
        f"{where}: the inputs and the weights of the candidates must get gradients from the output; "
        "do not detach what a candidate returns",
    )


def _check_candidate_weights(where: str, mixed_op: MixedOp, num_candidates: int) -> None:
    before, state = state_of(mixed_op), torch.get_rng_state()
    weights = mixed_op.weights()
    require(
        weights.shape == (num_candidates,) and bool(weights.isfinite().all()),
        f"{where}: weights() must be {num_candidates} finite numbers, one a candidate, "
        f"got {weights.tolist()}; return one weight for each name in `choice.candidates`",
    )
    require(
        torch.equal(weights, mixed_op.weights())
        and same(before, state_of(mixed_op))
        and torch.equal(state, torch.get_rng_state()),
        f"{where}: weights() must neither draw nor change anything; sample in `forward`",
    )


def check_space(factory: Callable[[Task], Space], task: Task | None = None) -> None:
    """Check a search space: supernet and derived networks are built from one blueprint.

    Args:
        factory: Builds the space for a task.
        task: What it is tried on; colored images of 16 x 16 and 5 classes unless given. Give the
            space few channels and cells, for it is built several times.

    Raises:
        ComponentError: What must be changed.
    """
    task = task or Task((3, 16, 16), 5)
    space = factory(task)
    where = type(space).__name__
    require(
        not isinstance(space, nn.Module), f"{where}: a space holds no parameters; make them in `build` alone"
    )
    model = seeded(0, supernet, space)
    twin = seeded(0, supernet, space)
    require(
        same(state_of(model), state_of(twin)),
        f"{where}: must build the same from the same random state; draw from PyTorch's generator alone",
    )
    require(model.choices, f"{where}: must ask the filler for at least one choice; call `filler.layer`")
    require(
        model.choices == choices_of(space),
        f"{where}: must have the same choices on each device; do not let them depend on values of tensors",
    )
    _check_outputs(f"{where}, supernet", model, task, dict(model.named_parameters_at("upper")))
    for seed in range(3):
        genotype = sample(space, generator_for(seed, "check_space"))
        require(
            genotype == sample(space, generator_for(seed, "check_space")),
            f"{where}: must ask for the same choices in each build; keep no count between builds",
        )
        _check_derived(where, space, task, genotype)


def _check_derived(where: str, space: Space, task: Task, genotype: Genotype) -> None:
    network = accepted(where, space, Genotype.from_json(genotype.to_json()))
    upper = [name for name, _ in network.named_parameters_at("upper")]
    require(
        not upper,
        f"{where}: a derived network must hold no upper-level parameter, got {', '.join(upper)}; "
        "take them from the filler, which makes them in the supernet alone",
    )
    _check_outputs(f"{where}, derived network", network, task, {})
    graphs: Any = space.graphs(genotype)
    require(
        isinstance(graphs, Mapping) and all(isinstance(graph, Graph) for graph in graphs.values()),
        f"{where}: graphs() must map names to Graph, got {graphs!r}; return {{}} for none",
    )


def _check_outputs(where: str, model: Model, task: Task, parameters: Mapping[str, torch.Tensor]) -> None:
    x_B = torch.randn(2, *task.input_shape) if task.vocabulary is None else task.blank(2)
    for training in (True, False):
        outputs = model.train(training)(x_B)
        main = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        main = next(iter(outputs.values())) if isinstance(outputs, dict) else main
        shape = (2, task.num_outputs)
        require(
            tuple(main.shape) == shape,
            f"{where}: its (first) output must have shape {shape}, one row an input, got "
            f"{tuple(main.shape)}; end in a classifier of `task.num_outputs`",
        )
        check_gradients(where, main, parameters)
