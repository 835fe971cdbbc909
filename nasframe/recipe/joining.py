"""The ranks of one run: how they find each other, and what each has of the run directory."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

import nasframe
from nasframe.core.ranks import check_same, num_ranks, shared
from nasframe.errors import FormatError, UnsupportedError
from nasframe.launch import launch
from nasframe.recipe.devices import device_named
from nasframe.recipe.exploring import declared
from nasframe.recipe.recipe import Recipe
from nasframe.recipe.run_directory import RunDirectory
from nasframe.recipe.schema import dump_recipe
from nasframe.registry import Component

_TOGETHER: Final = "where several ranks share a run"


@contextmanager
def joined() -> Iterator[None]:
    """Inside, this process is one of those that a launcher such as torchrun started together.

    Nothing happens without a launcher, or where there is a group already. CPU tensors go by gloo, those of
    CUDA by NCCL.

    Raises:
        UnsupportedError: This PyTorch has no ranks.
    """
    started = launch()
    if started.num_ranks == 1 or (distributed.is_available() and distributed.is_initialized()):
        yield
        return
    if not distributed.is_available():
        raise UnsupportedError("torchrun: PyTorch must be built with `torch.distributed`, but is not")
    has_cuda = torch.cuda.is_available()
    if has_cuda:
        torch.cuda.set_device(started.local_rank % torch.cuda.device_count())
    store, rank, num_ranks = next(rendezvous("env://"))
    # torchrun keeps its store when it starts ranks again, and with it where those of before could be reached
    store = PrefixStore(f"nasframe/{started.restarts}", store)
    backend = "cpu:gloo,cuda:nccl" if has_cuda else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=num_ranks)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def device_of_rank(name: str) -> torch.device:
    """The device that a recipe asks for; on CUDA each rank has one of its own.

    Raises:
        UnsupportedError: This machine does not have it, or too few of them.
    """
    device = device_named(name)
    if num_ranks() == 1 or device.type == "cpu":
        return device
    if device.type != "cuda":
        raise UnsupportedError(
            f"device: must be cpu or cuda {_TOGETHER}, got {device}; set it, or run on one rank"
        )
    local_rank, count = launch().local_rank, torch.cuda.device_count()
    if local_rank >= count:
        raise UnsupportedError(
            f"device: each rank must have a GPU of its own, but there are {count} for rank {local_rank} of "
            "this machine; start fewer, or set device=cpu"
        )
    return device


def check_ranks(recipe: Recipe) -> None:
    """Refuse a recipe that several ranks cannot share, and other recipes than the first rank's.

    Raises:
        UnsupportedError: Says what to choose instead.
        RankError: Ranks have other recipes, or other versions of nasframe or PyTorch.
    """
    if num_ranks() == 1:
        return
    check_same(
        "start",
        {"recipe": dump_recipe(recipe), "nasframe": nasframe.__version__, "PyTorch": torch.__version__},
    )
    search = recipe.search
    if recipe.genotype is None and search.explorer is not None:
        raise UnsupportedError(
            f"search.explorer: must not be there {_TOGETHER}, for it scores one architecture after the "
            f"other, got {search.explorer.name}; search on one rank, and retrain the `genotype` on several"
        )
    parts: dict[str, Component[Any]] = {"retrain.trainer": recipe.retrain.trainer}
    if recipe.genotype is None:
        parts |= {"search.algorithm": search.algorithm, "search.trainer": search.trainer}
        parts |= {
            f"search.stages.{index}.trainer": stage.trainer for index, stage in enumerate(search.stages)
        }
    for path, component in parts.items():
        if not declared(component, "knows_ranks"):
            raise UnsupportedError(
                f"{path}: must know of ranks (`knows_ranks`) {_TOGETHER}, but `{component.name}` does not; "
                "choose another, or run on one rank"
            )


def run_directory_for(recipe_text: str, out: Path | None, create: Callable[[], RunDirectory]) -> RunDirectory:
    """A new run directory; that of before, where a launcher started the same ranks again.

    Args:
        recipe_text: The complete recipe.
        out: The folder, where it was named.
        create: Makes it.

    Raises:
        UnsupportedError: It was not named, so that ranks that are started again could not find it.
        FormatError: The run of before had another recipe.
    """
    started = launch()
    if started.max_restarts and out is None:
        raise UnsupportedError(
            "--out: must be given where a launcher may start ranks again (--max-restarts), so that they find "
            "their run; give one"
        )
    if out is None or not started.restarts or not (out / "status.json").exists():
        return create()
    directory = RunDirectory.open(out)
    if directory.recipe.read_text(encoding="utf-8") != recipe_text:
        raise FormatError(
            f"{out}: must be the run of this recipe, but is that of another; choose another --out"
        )
    return directory


@contextmanager
def held_directory(take: Callable[[], RunDirectory]) -> Iterator[RunDirectory]:
    """The run directory, which the first rank holds; others have a copy of its plain files for a while.

    Args:
        take: Makes or opens it; called by the first rank.
    """
    with ExitStack() as stack:
        taken: list[RunDirectory] = []

        def hold() -> dict[str, bytes]:
            taken.append(take())
            stack.enter_context(taken[0].held())
            return taken[0].plain_files() if num_ranks() > 1 else {}

        files = shared(hold)
        if not taken:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nasframe-rank-"))
            taken.append(RunDirectory.copied(Path(folder), files))
        yield taken[0]
