"""Everything that reads what came from outside, each as a function of a file's bytes.

A reader may refuse by an error of nasframe's; anything else that it raises is a fault.
"""

import functools
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from corpus import inputs_of

from nasframe.benchmarks.nas_bench_macro import NasBenchMacro
from nasframe.core import Checkpoints, Genotype, Prices
from nasframe.core.penalty import read_amount
from nasframe.core.tensor_file import load_weights
from nasframe.costs._latency_table import LatencyTable
from nasframe.datasets.cifar10 import cifar10
from nasframe.datasets.image_folder import image_folder
from nasframe.errors import NasframeError
from nasframe.recipe import dump_recipe, load, load_recipe
from nasframe.recipe.run_directory import RunDirectory
from nasframe.reports.html import Html
from nasframe.spaces.mobile import Mobile
from nasframe.trackers.jsonl import Jsonl

_TINY: Final = "name: tiny\ndata: digits\nspace: darts\n"


@functools.cache
def _folder() -> Path:
    """One folder for all inputs of this process, in memory where the system has such a place."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    made = tempfile.TemporaryDirectory(prefix="nasframe-fuzz-", dir=memory if usable else None)
    _KEPT.append(made)
    return Path(made.name)


_KEPT: Final[list[Any]] = []  # removed when the process ends


def _file(content: bytes, name: str) -> Path:
    path = _folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _recipe(content: bytes) -> None:
    _file(_TINY.encode(), "recipe/base.yaml")
    recipe = load_recipe(_file(content, "recipe/x.yaml"), check=False)
    again = load_recipe(_file(dump_recipe(recipe).encode(), "recipe/again.yaml"), check=False)
    assert again == recipe


def _override(content: bytes) -> None:
    base = _file(_TINY.encode() + b"seed: 1\n", "recipe/base.yaml")
    load_recipe(base, content.decode("utf-8", "surrogateescape").split("\n"), check=False)


def _genotype(content: bytes) -> None:
    genotype = Genotype.load(_file(content, "genotype.json"))
    assert Genotype.from_json(genotype.to_json()) == genotype


def _darts(content: bytes) -> None:
    genotype = Genotype.from_darts(content.decode("utf-8", "surrogateescape"))
    assert Genotype.from_darts(genotype.to_darts()) == genotype


def _prices(content: bytes) -> None:
    prices = Prices.from_json(content.decode("utf-8", "surrogateescape"))
    assert Prices.from_json(prices.to_json()) == prices


def _latencies(content: bytes) -> None:
    LatencyTable.open(_file(content, "latency.json"), torch.device("cpu"))


def _proxyless(content: bytes) -> None:
    Mobile.from_config(content.decode("utf-8", "surrogateescape"))


def _benchmark(content: bytes) -> None:
    NasBenchMacro(path=_file(content, "table.json"))


def _report(content: bytes) -> None:
    Html().write(_file(content, "report/report.json").parent)


def _status(content: bytes) -> None:
    _file(_TINY.encode(), "run/recipe.yaml")
    RunDirectory.open(_file(content, "run/status.json").parent)


def _metrics(content: bytes) -> None:
    Jsonl(_file(content, "metrics/metrics.jsonl").parent, 2).close()


def _checkpoint(content: bytes) -> None:
    Checkpoints(_file(content, "checkpoints/step-000000001.pt").parent).latest()


def _weights(content: bytes) -> None:
    load_weights(_file(content, "model.safetensors"))


def _description(content: bytes) -> None:
    _file(inputs_of("weights")["small"], "model/model.safetensors")
    load(_file(content, "model/config.json").parent)


def _image(content: bytes) -> None:
    path = _file(content, "images/a/1.png")
    _file(_pixel(), "images/a/2.png")
    for name in ("1", "2"):
        _file(_pixel(), f"images/b/{name}.png")
    image_folder(path=path.parent.parent, size=4)


@functools.cache
def _pixel() -> bytes:
    return inputs_of("image")["pixel.png"]


def _parquet(content: bytes) -> None:
    for split in ("train", "test"):
        path = _file(content, f"parquet/{split}.parquet")
    cifar10(path=path.parent)


def _amount(content: bytes) -> None:
    read_amount(content.decode("utf-8", "surrogateescape"), {"ms": 1.0, "M": 1e6})


READERS: Final = MappingProxyType(
    {
        "recipe": _recipe,
        "override": _override,
        "genotype": _genotype,
        "darts": _darts,
        "prices": _prices,
        "latencies": _latencies,
        "proxyless": _proxyless,
        "benchmark": _benchmark,
        "report": _report,
        "status": _status,
        "metrics": _metrics,
        "checkpoint": _checkpoint,
        "weights": _weights,
        "description": _description,
        "image": _image,
        "parquet": _parquet,
        "amount": _amount,
    }
)
"""By the name of the archive that has their inputs."""


def read(name: str, content: bytes) -> NasframeError | None:
    """Let a reader read, and return its refusal, if it does."""
    reader: Callable[[bytes], None] = READERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of very large images
        try:
            reader(content)
        except NasframeError as error:
            json.dumps(str(error))
            return error
    return None
