"""The cell space of NAS-Bench-201."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, final

import torch
from torch import nn

from nasframe.core import (
    Block,
    ExactBatchNorm2d,
    Filler,
    Genotype,
    GlobalAveragePool,
    Graph,
    InputChoice,
    LayerChoice,
    OpName,
    Space,
    States,
    Task,
    ops,
    spaces,
)
from nasframe.errors import FormatError, UnsupportedError
from nasframe.ops.normal_conv import normal_conv
from nasframe.ops.pointwise_conv import PointwiseConv
from nasframe.types import PositiveInt

_NODES: Final = 4  # of a cell: its input, two in between, its output
_STAGES: Final = 3
_EDGES: Final = tuple((node, state) for node in range(1, _NODES) for state in range(node))


@spaces.register("nas_bench_201")
@final
class NasBench201(Space):
    """The cells of NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326, section 2).

    A cell has 4 nodes, and an edge from each node to each later one; a node adds up what the operations
    of its edges make of the nodes before it, and the last node is the output. One cell stands everywhere:
    in three stages, between which a residual block halves the maps and doubles the channels. ``none`` may
    be kept, as it may in the benchmark. Supernet and derived network are those of the authors' code: in
    the supernet the batch norms of cells go without parameters, those of stem, blocks and head do not.

    With the default settings and images of 3 x 32 x 32 these are the 15,625 networks of the benchmark, with
    its numbers of parameters; its FLOPs are those of the cost `flops` with ``bias: true``.

    Args:
        channels: Channels of the first stage.
        cells: Cells of each stage.
        operations: Names of the candidates of each edge.
        track_running_stats: Whether the batch norms of the supernet's cells keep running statistics;
            without them they normalize by the batch in evaluation too (appendix of the paper).
    """

    def __init__(
        self,
        task: Task,
        *,
        channels: PositiveInt = 16,
        cells: PositiveInt = 5,
        operations: tuple[OpName, ...] = (
            "none",
            "skip_connect",
            "nor_conv_1x1",
            "nor_conv_3x3",
            "avg_pool_3x3",
        ),
        track_running_stats: bool = True,
    ) -> None:
        self._task, self._channels, self._cells = task, channels, cells
        self._make_op = {name: ops[name] for name in operations}
        self._track_running_stats = track_running_stats
        if not operations or len(self._make_op) < len(operations):
            raise UnsupportedError(
                f"space nas_bench_201: operations must be distinct, at least one, got {list(operations)}; "
                "correct the list"
            )
        shape, shrink = task.input_shape, 2 ** (_STAGES - 1)
        if len(shape) != 3 or shape[1] % shrink or shape[2] % shrink:
            raise UnsupportedError(
                "space nas_bench_201: inputs must be images (channels, height, width) with height and width "
                f"multiples of {shrink}, got {shape}; give images of another size"
            )

    def build(self, filler: Filler) -> nn.Module:
        channels = self._channels
        stem = nn.Sequential(
            nn.Conv2d(self._task.input_shape[0], channels, kernel_size=3, padding=1, bias=False),
            ExactBatchNorm2d(channels),
        )
        cells: list[nn.Module] = []
        for stage in range(_STAGES):
            if stage > 0:
                cells.append(_Reduction(channels))
                channels *= 2
            cells += [self._cell(filler, channels) for _ in range(self._cells)]
        head = nn.Sequential(
            ExactBatchNorm2d(channels),
            nn.ReLU(inplace=True),
            GlobalAveragePool(),
            nn.Linear(channels, self._task.num_outputs),
        )
        return nn.Sequential(OrderedDict(stem=stem, cells=nn.Sequential(*cells), head=head))

    def _cell(self, filler: Filler, channels: int) -> "_Cell":
        return _Cell([self._node(filler, node, channels) for node in range(1, _NODES)])

    def _node(self, filler: Filler, node: int, channels: int) -> nn.Module:
        edges = tuple(_edge(node, state) for state in range(node))
        states = InputChoice(f"cell_{node}", tuple(map(str, range(node))), num_chosen=node, edges=edges)

        def edge(name: str) -> nn.Module:
            choice = LayerChoice(name, tuple(self._make_op))
            return filler.layer(choice, lambda op: self._candidate(op, channels, filler.mixed))

        return filler.sum([edge(name) for name in edges], states)

    def _candidate(self, name: str, channels: int, mixed: bool) -> nn.Module:
        op = self._make_op[name](channels, channels, 1, not mixed)
        if mixed and not self._track_running_stats:
            for module in op.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.track_running_stats = False
                    module.running_mean = module.running_var = module.num_batches_tracked = None
        return op

    def graphs(self, genotype: Genotype) -> Mapping[str, Graph]:
        kept = self._kept(genotype)
        nodes = ("in", *map(str, range(1, _NODES - 1)), "out")
        edges = [
            (nodes[state], nodes[node], kept[_edge(node, state)])
            for node, state in _EDGES
            if kept[_edge(node, state)] != "none"
        ]
        return {"cell": Graph("cell", nodes, tuple(edges))}

    def key(self, genotype: Genotype) -> str:
        """The architecture as the benchmark writes it: ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

        Raises:
            FormatError: The genotype is not one of this space.
        """
        kept = self._kept(genotype)
        parts = (
            "|".join(f"{kept[_edge(node, state)]}~{state}" for state in range(node))
            for node in range(1, _NODES)
        )
        return "+".join(f"|{part}|" for part in parts)

    def genotype(self, key: str) -> Genotype:
        """The architecture that the benchmark writes so.

        Raises:
            FormatError: It is not of the form that `key` has, or an operation is none of the space's.
        """
        op = f"({'|'.join(map(re.escape, self._make_op))})"
        parts = (r"\|".join(f"{op}~{state}" for state in range(node)) for node in range(1, _NODES))
        found = re.fullmatch(r"\+".join(rf"\|{part}\|" for part in parts), key)
        if found is None:
            raise FormatError(
                "nas_bench_201: an architecture must be |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with op one of "
                f"{', '.join(self._make_op)}, got {key!r:.200}"
            )
        kept = zip(_EDGES, found.groups(), strict=True)
        return Genotype({_edge(node, state): (name,) for (node, state), name in kept})

    def _kept(self, genotype: Genotype) -> dict[str, str]:
        """What each edge keeps.

        Raises:
            FormatError: The genotype is not one of this space.
        """
        edges = [_edge(node, state) for node, state in _EDGES]
        for edge in edges:
            kept = genotype.choices.get(edge, ())
            if len(kept) != 1 or kept[0] not in self._make_op:
                raise FormatError(
                    f"genotype: choice `{edge}` must keep one of {list(self._make_op)}, got {list(kept)}"
                )
        if unknown := sorted(set(genotype.choices) - set(edges)):
            raise FormatError(f"genotype: the space nas_bench_201 has no choice {', '.join(unknown)}")
        return {edge: genotype[edge][0] for edge in edges}


def _edge(node: int, state: int) -> str:
    """The id of the choice between two nodes."""
    return f"cell_{node}_{state}"


@final
class _Cell(Block):
    """Nodes, each on all states before it; the last one is the output."""

    def __init__(self, nodes: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(nodes)

    def compute(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        states = States([x_BCHW])
        for node in self.nodes:
            states.append(node(states))
        return states[-1]


@final
class _Reduction(Block):
    """The residual block between two stages: half the map, twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            normal_conv(channels, 2 * channels, kernel_size=3, stride=2, affine=True),
            normal_conv(2 * channels, 2 * channels, kernel_size=3, stride=1, affine=True),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), PointwiseConv(channels, 2 * channels))

    def compute(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.convs(x_BCHW) + self.shortcut(x_BCHW)
        return total
