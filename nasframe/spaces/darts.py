"""The cell space of DARTS."""

from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from torch import nn

from nasframe.core import (
    Block,
    ExactBatchNorm2d,
    Filler,
    Genotype,
    Graph,
    InputChoice,
    LayerChoice,
    OpName,
    Space,
    States,
    Task,
    cell_graphs,
    derived,
    global_average_pool,
    is_zero,
    ops,
    spaces,
)
from nasframe.errors import UnsupportedError
from nasframe.ops.auxiliary_head import AuxiliaryHead
from nasframe.ops.drop_path import DropPath
from nasframe.ops.factorized_reduction import FactorizedReduction
from nasframe.ops.relu_conv_bn import ReLUConvBN
from nasframe.ops.skip_dropout import SkipDropout
from nasframe.types import PositiveInt, ProperFraction

_NUM_INPUTS = 2  # of a cell: the outputs of the two cells before it; and of a node, once derived


@spaces.register("darts")
@final
class Darts(Space):
    """A stack of normal and reduction cells (Liu et al. 2019, arXiv 1806.09055, sections 2.1 and 3).

    A cell has two inputs and some nodes; each node adds up what operations make of earlier states,
    and the cell's output is the concatenation of its nodes. The cells at 1/3 and 2/3 of the depth
    halve the maps and double the channels. Supernet and derived network are those of the authors'
    code, but for the last pooling, which adapts to the size of the images.

    Args:
        channels: Channels of an operation in the first cell.
        cells: Number of cells.
        nodes: Intermediate nodes of a cell.
        operations: Names of the candidates of each edge; ``none`` is never kept.
        stem: What comes before the cells; `imagenet` makes the maps 8 times smaller.
        auxiliary: Whether the derived network has a second classifier; in training it then returns
            (logits, auxiliary logits).
        drop_path: Probability of dropping a path in the derived network's training, at its end.
        search_drop_path: The same in the supernet, where it keeps skip connections from taking over (Zela et
            al. 2020, arXiv 1909.09656); a path is what a candidate other than a skip makes of a state.
        skip_dropout: Probability of dropping a number that the supernet's skip connections hand on, at the
            beginning of the training; it falls exponentially (P-DARTS: Chen et al. 2019, arXiv 1904.12760,
            section 3.3). Skips that halve maps drop nothing.
        skip_dropout_restart: The share of the epochs in which alphas rest: until then that probability falls
            in a straight line, and then begins anew, as in the authors' code.
        stem_multiplier: Channels after the `cifar` stem, as a multiple of `channels`.
    """

    def __init__(
        self,
        task: Task,
        *,
        channels: PositiveInt = 16,
        cells: PositiveInt = 8,
        nodes: PositiveInt = 4,
        operations: tuple[OpName, ...] = (
            "none",
            "max_pool_3x3",
            "avg_pool_3x3",
            "skip_connect",
            "sep_conv_3x3",
            "sep_conv_5x5",
            "dil_conv_3x3",
            "dil_conv_5x5",
        ),
        stem: Literal["cifar", "imagenet"] = "cifar",
        auxiliary: bool = False,
        drop_path: ProperFraction = 0.0,
        search_drop_path: ProperFraction = 0.0,
        skip_dropout: ProperFraction = 0.0,
        skip_dropout_restart: ProperFraction = 0.0,
        stem_multiplier: PositiveInt = 3,
    ) -> None:
        self._task, self._channels, self._cells, self._nodes = task, channels, cells, nodes
        self._make_op = {name: ops[name] for name in operations}
        self._stem, self._stem_multiplier = stem, stem_multiplier
        self._auxiliary, self._drop_path, self._search_drop_path = auxiliary, drop_path, search_drop_path
        self._skip_dropout, self._skip_dropout_restart = skip_dropout, skip_dropout_restart
        self._reductions = {cells // 3, 2 * cells // 3}
        if len(self._make_op) < len(operations) or not set(operations) - {"none"}:
            raise UnsupportedError(
                f"space darts: operations must be distinct, and one of them not `none`, "
                f"got {list(operations)}; correct the list"
            )
        self._map_size = self._last_map_size()

    def build(self, filler: Filler) -> nn.Module:
        stem, before_last, last = self._stems(ExactBatchNorm2d if filler.mixed else nn.BatchNorm2d)
        cells: list[_Cell] = []
        channels, reduced = self._channels, self._stem == "imagenet"
        for index in range(self._cells):
            reduction = index in self._reductions
            channels *= 2 if reduction else 1
            cells.append(self._cell(filler, before_last, last, channels, reduction, reduced))
            before_last, last, reduced = last, cells[-1].out_channels, reduction
        auxiliary_at = 2 * self._cells // 3
        auxiliary = None
        if self._auxiliary and not filler.mixed:
            auxiliary = AuxiliaryHead(
                cells[auxiliary_at].out_channels,
                self._task.num_outputs,
                self._map_size,
                final_norm=self._stem == "cifar",
            )
        return _Network(stem, cells, nn.Linear(last, self._task.num_outputs), auxiliary, auxiliary_at)

    def graphs(self, genotype: Genotype) -> Mapping[str, Graph]:
        with torch.device("meta"):
            derived(self, genotype)  # refuses a genotype of another space
        return cell_graphs(genotype)

    def genotype(self, key: str) -> Genotype:
        """The architecture that Liu et al. write so: ``Genotype(normal=[('sep_conv_3x3', 0), …], …)``."""
        return Genotype.from_darts(key)

    def _last_map_size(self) -> tuple[int, int]:
        """Height and width after all reductions; each of them rounds up."""
        shape = self._task.input_shape
        shrink = 2 ** (len(self._reductions) + (3 if self._stem == "imagenet" else 0))
        if len(shape) != 3 or min(shape[1:]) < shrink:
            raise UnsupportedError(
                f"space darts: inputs must be images (channels, height, width) of at least {shrink}x{shrink} "
                f"with {self._cells} cells and the {self._stem} stem, got {shape}; use larger images"
            )
        return -(-shape[1] // shrink), -(-shape[2] // shrink)

    def _stems(self, norm: type[nn.BatchNorm2d]) -> tuple["_Stem", int, int]:
        """The stem, and the channels of its two outputs."""
        colors, channels = self._task.input_shape[0], self._channels
        if self._stem == "cifar":
            channels *= self._stem_multiplier
            return _Stem(_conv_bn(colors, channels, norm, stride=1), nn.Identity()), channels, channels
        if channels < 2:
            raise UnsupportedError("space darts: channels must be at least 2 with the imagenet stem, got 1")
        first = nn.Sequential(
            _conv_bn(colors, channels // 2, norm, stride=2),
            nn.ReLU(),
            _conv_bn(channels // 2, channels, norm, stride=2),
        )
        second = nn.Sequential(nn.ReLU(), _conv_bn(channels, channels, norm, stride=2))
        return _Stem(first, second), channels, channels

    def _cell(
        self, filler: Filler, before_last: int, last: int, channels: int, reduction: bool, reduced: bool
    ) -> "_Cell":
        """A cell on the outputs of the two cells before it; `reduced` says that the last one halved maps."""
        name = "reduce" if reduction else "normal"
        affine = not filler.mixed
        halve = FactorizedReduction if reduced else ReLUConvBN
        preprocess = [halve(before_last, channels, affine=affine), ReLUConvBN(last, channels, affine=affine)]
        nodes = [self._node(filler, name, node, channels) for node in self._node_states]
        kept = filler.subset(self._concat_choice(name))
        title = "ReductionCell" if reduction else "NormalCell"
        return _Cell(preprocess, nodes, [_NUM_INPUTS + index for index in kept], channels, title)

    @property
    def _node_states(self) -> range:
        return range(_NUM_INPUTS, _NUM_INPUTS + self._nodes)

    def _concat_choice(self, cell: str) -> InputChoice:
        candidates = tuple(map(str, self._node_states))
        return InputChoice(f"{cell}_concat", candidates, num_chosen=self._nodes)

    def _node(self, filler: Filler, cell: str, node: int, channels: int) -> nn.Module:
        edges = tuple(f"{cell}_{node}_{state}" for state in range(node))
        operations = tuple(self._make_op)
        search_only = ("none",) if "none" in operations else ()

        def edge(state: int) -> nn.Module:
            stride = 2 if cell == "reduce" and state < _NUM_INPUTS else 1
            choice = LayerChoice(edges[state], operations, search_only=search_only)
            return filler.layer(choice, lambda name: self._candidate(name, channels, stride, filler.mixed))

        states = tuple(map(str, range(node)))
        choice = InputChoice(f"{cell}_{node}", states, num_chosen=_NUM_INPUTS, edges=edges)
        return filler.inputs(choice, edge)

    def _candidate(self, name: str, channels: int, stride: int, mixed: bool) -> nn.Module:
        op = self._make_op[name](channels, channels, stride, not mixed)
        if mixed and isinstance(op, (nn.MaxPool2d, nn.AvgPool2d)):
            op = nn.Sequential(op, nn.BatchNorm2d(channels, affine=False))
        if mixed and self._skip_dropout > 0 and isinstance(op, nn.Identity):
            return SkipDropout(self._skip_dropout, self._skip_dropout_restart)
        drop_path = self._search_drop_path if mixed else self._drop_path
        if drop_path > 0 and not isinstance(op, nn.Identity) and not is_zero(op):
            return nn.Sequential(op, DropPath(drop_path))
        return op


def _conv_bn(
    in_channels: int, out_channels: int, norm: type[nn.BatchNorm2d], *, stride: int
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
        norm(out_channels),
    )


@final
class _Stem(nn.Module):
    """Makes the two states that the first cell reads; the second from the first."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = self.first(images_BCHW)
        return state, self.second(state)


@final
class _Cell(Block):
    """Nodes on two inputs, concatenated.

    Args:
        preprocess: What the inputs go through.
        nodes: Each takes all states before it.
        concat: The states that make the output.
        channels: Of a node.
        written_as: The name of its class where it is written down.
    """

    def __init__(
        self,
        preprocess: Sequence[nn.Module],
        nodes: Sequence[nn.Module],
        concat: Sequence[int],
        channels: int,
        written_as: str,
    ) -> None:
        super().__init__()
        self.written_as = written_as
        self.preprocess, self.nodes = nn.ModuleList(preprocess), nn.ModuleList(nodes)
        self.concat, self.out_channels = tuple(concat), channels * len(concat)

    def compute(self, before_last: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        states = States([self.preprocess[0](before_last), self.preprocess[1](last)])
        for node in self.nodes:
            states.append(node(states))
        return torch.cat([states[index] for index in self.concat], dim=1)


@final
class _Network(nn.Module):
    """Stem, cells and classifier.

    In training with an auxiliary head it returns (logits, auxiliary logits).
    """

    def __init__(
        self,
        stem: _Stem,
        cells: Sequence[_Cell],
        classifier: nn.Linear,
        auxiliary: AuxiliaryHead | None,
        auxiliary_at: int,
    ) -> None:
        super().__init__()
        self.stem, self.cells, self.classifier = stem, nn.ModuleList(cells), classifier
        self.auxiliary, self._auxiliary_at = auxiliary, auxiliary_at

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        before_last, last = self.stem(images_BCHW)
        auxiliary_logits = None
        for index, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last)
            if self.training and self.auxiliary is not None and index == self._auxiliary_at:
                auxiliary_logits = self.auxiliary(last)
        logits: torch.Tensor = self.classifier(global_average_pool(last))
        return logits if auxiliary_logits is None else (logits, auxiliary_logits)
