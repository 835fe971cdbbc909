"""Classifiers of the library transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import nn

from nasframe.core import Task, networks
from nasframe.core.json_text import read_json_file
from nasframe.errors import FormatError, UnsupportedError
from nasframe.suggestion import did_you_mean
from nasframe.types import ExistingFolder

_ATTENTION: Final = ("attn_implementation", "experts_implementation")  # which may ask the hub for kernels
_IMAGE_DIMENSIONS: Final = 3


@networks.register("hugging_face")
@final
class HuggingFace(nn.Module):
    """An image or text classifier of the library transformers (Wolf et al. 2020, arXiv 1910.03771).

    The model is ``model``, so a rule of the space `surgery` is such as
    ``model.bert.encoder.layer.*.intermediate.dense``. What the data say is set in its configuration: outputs,
    channels and size of images, vocabulary. Nothing is downloaded, and no code of a model's repository runs:
    ``hf download NAME --local-dir FOLDER`` gets a folder.

    Args:
        architecture: What transformers calls the sort of model, such as ``resnet`` or ``bert``; its weights
            are new.
        folder: In place of it, a folder with the ``config.json`` of a model.
        config: Entries of the configuration that differ, such as ``hidden_size: 64``.
        pretrained: Whether the model begins with the weights of `folder` (safetensors), all but those of its
            head.

    Raises:
        UnsupportedError: There is no such classifier, or it does not take these inputs.
        FormatError: `folder` holds no configuration, or no weights that fit.
    """

    def __init__(
        self,
        task: Task,
        *,
        architecture: str | None = None,
        folder: ExistingFolder | None = None,
        config: Mapping[str, bool | int | float | str | tuple[int, ...] | tuple[str, ...]] | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        try:
            import transformers
        except ImportError as error:
            raise UnsupportedError(
                "network hugging_face: needs the package `transformers`: pip install nasframe[transformers]"
            ) from error
        if (architecture is None) == (folder is None) or (pretrained and folder is None):
            raise UnsupportedError(
                "network hugging_face: must have either `architecture`, or `folder` (which `pretrained` "
                f"needs), got architecture {architecture} and folder {folder}"
            )
        self._takes_tokens = task.vocabulary is not None
        if len(task.input_shape) != (1 if self._takes_tokens else _IMAGE_DIMENSIONS):
            raise UnsupportedError(
                "network hugging_face: inputs must be images (channels, height, width) or tokens of a "
                f"vocabulary, got the shape {task.input_shape}; take other data"
            )
        given: dict[str, Any] = {} if folder is None else _read(folder)
        sort = architecture or str(given.pop("model_type", None))
        settings = _configuration(transformers, sort, given, dict(config or {}))
        _fit(settings, task)
        kind = (
            transformers.AutoModelForSequenceClassification
            if self._takes_tokens
            else transformers.AutoModelForImageClassification
        )
        try:
            self.model: nn.Module = kind.from_config(settings)
        except Exception as error:  # whatever the model's own code makes of its configuration
            inputs = "text" if self._takes_tokens else "images"
            raise UnsupportedError(
                f"network hugging_face: `{sort}` must be a classifier of {inputs} that can be built so, but: "
                f"{' '.join(str(error).split()):.300}; choose another, or other entries of `config`"
            ) from error
        if pretrained and folder is not None and next(self.model.parameters()).device.type != "meta":
            self.model = _pretrained(kind, settings, folder)
        self.model.to(torch.get_default_dtype())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._takes_tokens:
            mask_BT = None if inputs.is_meta else _mask(inputs)  # there the library would ask for its numbers
            logits: torch.Tensor = self.model(input_ids=inputs, attention_mask=mask_BT).logits
        else:
            logits = self.model(pixel_values=inputs).logits
        return logits


def _mask(tokens_BT: torch.Tensor) -> torch.Tensor:
    """1 where there is a token, and at the first place of an empty text, for attention to nothing is NaN."""
    mask_BT = tokens_BT != 0
    mask_BT[:, 0] = True
    return mask_BT.long()


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    content = read_json_file(path) if path.is_file() else None
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise FormatError(
            f"{path}: must be the configuration of a model, an object with `model_type`; get it by "
            "`hf download NAME --local-dir FOLDER`"
        )
    return content


def _configuration(transformers: Any, sort: str, given: dict[str, Any], changed: dict[str, Any]) -> Any:
    """What a model of that sort is built from; entries that it does not know are left out or refused."""
    try:
        default = transformers.AutoConfig.for_model(sort)
    except ValueError as error:
        known = list(transformers.CONFIG_MAPPING)
        advice = did_you_mean(sort, known) or f"it knows {len(known)}, such as resnet, vit, bert"
        raise UnsupportedError(
            f"network hugging_face: architecture must be one that transformers knows, got `{sort}`; {advice}"
        ) from error
    public = {name for name in dir(default) if not name.startswith("_")} - set(_ATTENTION)
    for name in changed:
        if name not in public:
            advice = did_you_mean(name, sorted(public)) or "leave it out"
            raise UnsupportedError(
                f"network hugging_face: config must have entries of `{sort}` alone, got `{name}`; {advice}"
            )
    entries = {name: value for name, value in given.items() if name in public} | changed
    try:
        return type(default)(**{name: _plain(value) for name, value in entries.items()})
    except Exception as error:
        raise UnsupportedError(
            f"network hugging_face: config must make a `{sort}`, but: {' '.join(str(error).split()):.300}; "
            "correct it"
        ) from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _fit(settings: Any, task: Task) -> None:
    """Set what the data say."""
    settings.num_labels = task.num_outputs
    if task.vocabulary is None:
        channels, height, width = task.input_shape
        settings.num_channels = channels
        if hasattr(settings, "image_size"):
            settings.image_size = height if height == width else [height, width]
        return
    settings.vocab_size, settings.pad_token_id = task.vocabulary, 0
    if hasattr(settings, "max_position_embeddings"):
        needed = task.input_shape[0] + 2  # some sorts count positions from 2
        settings.max_position_embeddings = max(settings.max_position_embeddings, needed)


def _pretrained(kind: Any, settings: Any, folder: Path) -> nn.Module:
    """A model with the weights of a folder; those of its head may be missing or of another shape."""
    try:
        model, told = kind.from_pretrained(
            folder,
            config=settings,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise FormatError(
            f"{folder}: must hold the model's weights as safetensors, but: "
            f"{' '.join(str(error).split()):.300}; get them by `hf download NAME --local-dir FOLDER`"
        ) from error
    names = [*told["missing_keys"], *(each[0] for each in told["mismatched_keys"])]
    body = f"{model.base_model_prefix}."
    if wrong := sorted(name for name in names if name.startswith(body)):
        raise FormatError(
            f"{folder}: must hold weights of the shapes that the model has for these data, but not "
            f"{', '.join(wrong[:3])}; take data of the kind that it was trained on, or leave `pretrained` out"
        )
    made: nn.Module = model
    return made
