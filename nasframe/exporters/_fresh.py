"""Runs an exported file as whoever gets it does: in a process that has nothing of nasframe.

``python -P _fresh.py FORMAT FOLDER FILE…``: FOLDER holds ``inputs.npy``; what file number i makes of all
inputs, and of the first alone, is written as ``outputs_i.npz``. Nothing of nasframe is imported here.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Run: TypeAlias = Callable[[np.ndarray], Iterator[np.ndarray]]


def onnx(path: Path) -> Run:
    """By ONNX Runtime, without PyTorch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda inputs: iter(session.run(None, {"inputs": inputs}))


def torch_export(path: Path) -> Run:
    """By PyTorch, which the file needs alone."""
    import torch

    return _by_torch(torch.export.load(path).module())


def source(path: Path) -> Run:
    """By the file's own code, with the weights that lie beside it."""
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _by_torch(module.load(path.with_name("model.safetensors")))


def _by_torch(network: Any) -> Run:
    import torch

    def run(inputs: np.ndarray) -> Iterator[np.ndarray]:
        with torch.no_grad():
            yield from _arrays(network(torch.from_numpy(inputs)))

    return run


def _arrays(outputs: Any) -> Iterator[np.ndarray]:
    """The tensors of a nest, in order."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        for each in outputs:
            yield from _arrays(each)
    else:
        yield outputs.double().numpy()


def main(format_: str, folder: Path, *paths: Path) -> None:
    """Run each file, and write down what it makes."""
    inputs = np.load(folder / "inputs.npy")
    open_file: Callable[[Path], Run] = {"onnx": onnx, "torch_export": torch_export, "source": source}[format_]
    for index, path in enumerate(paths):
        run = open_file(path)
        np.savez(folder / f"outputs_{index}.npz", *run(inputs), *run(inputs[:1]))
    if strangers := [name for name in sys.modules if name.partition(".")[0] == "nasframe"]:
        raise ImportError(f"the file must stand alone, but imports {strangers[0]}")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
