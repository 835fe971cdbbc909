"""A folder as the Hugging Face hub has them."""

import json
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, final

import torch

from nasframe.core import Exported, Exporter, FinishedRun, Model, exporters, tensors_of
from nasframe.core.storage import write_whole
from nasframe.core.tensor_file import save_weights
from nasframe.errors import UnsupportedError
from nasframe.exporters._model_card import model_card


@exporters.register("hub")
@final
class Hub(Exporter):
    """Writes the folder ``hub``: ``config.json``, ``model.safetensors`` and the model card ``README.md``.

    `nasframe.load` builds the network from it, without code from it and without the data; it is loaded
    again and must return the same bits as the network on the example. The card is written from the run:
    figures, data, how the network was found, what that cost, limits. It has no paths of this machine, and
    no licence, which is the owner's to choose.

    Raises:
        UnsupportedError: The network takes more than plain data to be built, or the folder loads as another.
    """

    needs_run: ClassVar[bool] = True

    def export(self, model: Model, example: torch.Tensor, folder: Path) -> Path:
        raise UnsupportedError(
            "hub: must be given a finished run, got a network alone; write `run.export('hub')`, or "
            "`nasframe export RUN_DIR --format hub`"
        )

    def export_run(self, run: FinishedRun, folder: Path) -> Exported:
        path = folder / "hub"
        config = run.describe()
        texts = {"config.json": json.dumps(config, indent=2) + "\n", "README.md": model_card(run)}
        path.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(path / name, text)
        save_weights(run.model.state_dict(), path / "model.safetensors")
        loaded = run.load(path).network
        with torch.no_grad():
            pairs = zip(tensors_of(run.model(run.example)), tensors_of(loaded(run.example)), strict=True)
            difference = max(float((one - other).abs().max()) for one, other in pairs)
        if difference != 0:
            for name in (*texts, "model.safetensors"):
                with suppress(OSError):
                    (path / name).unlink()
            raise UnsupportedError(
                f"hub: {path} must load as the network that it was written from, but its outputs are off by "
                f"{difference:.2g}; the space must build the same network each time"
            )
        return Exported(path, difference, len(run.example))
