"""A network as Python that a person reads."""

import copy
from pathlib import Path
from typing import Final, final

import torch

from nasframe.core import Dataset, Exported, Exporter, FinishedRun, Model, NormalizeImages, exporters
from nasframe.core.storage import write_whole
from nasframe.core.tensor_file import save_weights
from nasframe.exporters._checked import check
from nasframe.exporters._classes import Classes
from nasframe.exporters._layout import Call, Text, lines, literal
from nasframe.exporters._parts import Decisions, parts_of

_HEAD: Final = '''\
"""A network that an architecture search found, in plain PyTorch.

`load()` makes it with the weights of model.safetensors, which lies beside this file, in
evaluation mode; `Network()` makes it with new ones. A batch of inputs has the shape
{shape}, normalized {how}.{outputs}
Written by nasframe.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn
{functional}
INPUT_SHAPE = {input_shape}
{constants}WEIGHTS = Path(__file__).with_name("model.safetensors")
'''
_NORMALIZE: Final = '''\
def normalize(images: Tensor) -> Tensor:
    """Make inputs of images whose values go from 0 to 255."""
    mean = torch.tensor(MEAN, device=images.device)
    std = torch.tensor(STD, device=images.device)
    return (images / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
'''
_TAIL: Final = '''\
def load(path: str | Path = WEIGHTS) -> Network:
    """Make the network with the weights of a safetensors file, in evaluation mode."""
    network = Network()
    network.load_state_dict(read_safetensors(path))
    return network.eval()


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Read tensors by name: a header in JSON after its length, then their bytes."""
    content = bytearray(Path(path).read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        data = content[begin + first : begin + last]
        tensor = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0)
        tensors[name] = tensor.to(dtype).reshape(entry["shape"])
    return tensors


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
'''


@exporters.register("source")
@final
class Source(Exporter):
    """Writes ``model.py``, which imports PyTorch alone, and ``model.safetensors`` with its weights.

    The file has a class for each sort of part, typed and formatted, and a function ``load``; of a run also
    the names of the classes, and how images are normalized. It computes
    what the network computes in evaluation, and can be trained: what the framework does in training alone
    (drop path, the auxiliary head) is not in it. It is loaded in a process that imports nothing of the
    framework, and compared with the network on the example, whole and on its first input alone.

    Raises:
        UnsupportedError: A part of the network cannot be followed (its forward asks for values of tensors,
            or calls functions that are not PyTorch's), or the file computes something else.
    """

    def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
        return self._checked(model, example, folder, None)

    def export_run(self, run: FinishedRun, folder: Path) -> Exported:
        path = self._checked(run.model, run.example, folder, run.data)
        return Exported(path, self.max_difference, len(run.example))

    def _checked(self, model: Model, example: torch.Tensor, folder: Path, data: Dataset | None) -> Path:
        path = write_source(model, example, folder, data)
        network = copy.deepcopy(model.network).cpu().eval()
        weights = path.with_suffix(".safetensors")
        self.max_difference = check("source", path, network, example.detach().cpu(), beside=weights)
        return path


def write_source(model: Model, example: torch.Tensor, folder: Path, data: Dataset | None = None) -> Path:
    """Write the files, with what `data` says of inputs and outputs, and compare nothing."""
    model, inputs = copy.deepcopy(model).cpu().eval(), example.detach().cpu()
    decisions: Decisions = {}
    for choice, name, module in model.decided:
        decisions.setdefault(module, []).append((choice, name))
    classes = Classes(parts_of(model.network, inputs, decisions), decisions)
    path = folder / "model.py"
    save_weights(classes.weights(), path.with_suffix(".safetensors"))
    constants = {} if data is None else _constants(data)
    shape = tuple(inputs.shape[1:])
    head = _HEAD.format(
        shape=" x ".join(["N", *map(str, shape)]),
        how="by `normalize`" if "MEAN" in constants else "as the data were that it was trained with",
        outputs="\nAn output times TARGET_STD plus TARGET_MEAN is the number of TARGETS."
        if "TARGETS" in constants
        else "",
        functional="from torch.nn import functional\n" if classes.uses_functional else "",
        input_shape=shape,
        constants="".join(_assigned(name, values) for name, values in constants.items()),
    )
    functions = [_NORMALIZE, _TAIL] if "MEAN" in constants else [_TAIL]
    write_whole(path, "\n\n".join([head, *(f"{code}\n" for code in classes), *functions]))
    return path


def _constants(data: Dataset) -> dict[str, tuple[str | float, ...]]:
    """What a network's user has to know of the data."""
    known: dict[str, tuple[str | float, ...]] = {"CLASSES": data.class_names} if data.class_names else {}
    if isinstance(data.preprocess, NormalizeImages):
        known |= {"MEAN": data.preprocess.mean, "STD": data.preprocess.std}
    if (scale := data.target_scale).names:
        known |= {"TARGETS": scale.names, "TARGET_MEAN": scale.means, "TARGET_STD": scale.deviations}
    return known


def _assigned(name: str, values: tuple[str | float, ...]) -> str:
    items = tuple(Text(literal(value)) for value in values)
    return "".join(f"{line}\n" for line in lines(f"{name} = ", Call("", items), "", 0))
