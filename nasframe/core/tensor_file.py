"""Files of tensors: read without running code, and taking no more memory than they are large."""

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from nasframe.core.storage import written_whole
from nasframe.errors import FormatError


def load_checkpoint(path: Path) -> Any:
    """What `torch.save` wrote: tensors on the CPU, and plain data.

    Raises:
        FormatError: It is no such file, holds anything else, or would unpack to more than it is.
    """
    try:
        _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file may raise almost anything
        raise FormatError(f"{path}: must be a checkpoint: {error}") from error


def _check_archive(path: Path) -> None:
    """Raise ValueError for what `torch.save` never writes and would take memory without bound."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("its entries must not be compressed")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("its entries must not overlap")
        pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"it must have one data.pkl, got {len(pickles)}")
        for operation, argument, _ in pickletools.genops(archive.read(pickles[0])):
            # PyTorch would let it be called with any length
            if operation.name == "GLOBAL" and str(argument).endswith("bytearray"):
                raise ValueError("it must hold tensors and plain data alone, got a bytearray")


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by name, on the CPU.

    Raises:
        FormatError: It is no such file.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(f"{path}: must be a safetensors file: {error}") from error


def save_weights(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors by name, such as a network's ``state_dict()``, as safetensors, whole or not at all.

    Raises:
        StorageError: They cannot be written.
    """
    # copies, because the format has no place for parameters that several cells share
    copies = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }
    with written_whole(path) as file:
        file.write(save(copies))
