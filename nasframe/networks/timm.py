"""Image classifiers of the library timm."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from nasframe.core import Task, networks
from nasframe.errors import UnsupportedError
from nasframe.suggestion import did_you_mean


@networks.register("timm")
def timm(
    task: Task,
    *,
    architecture: str,
    config: Mapping[str, bool | int | float | str | tuple[int, ...]] | None = None,
) -> nn.Module:
    """An image classifier of the library timm (Wightman 2019), with new weights; nothing is downloaded.

    Args:
        task: What goes in and what comes out.
        architecture: What ``timm.create_model`` calls it, such as ``resnet26d``.
        config: Further arguments of ``timm.create_model``, such as ``img_size: 32`` or ``drop_rate: 0.1``.

    Raises:
        UnsupportedError: There is no such classifier, or it does not take these inputs.
    """
    try:
        import timm as library
    except ImportError as error:
        raise UnsupportedError(
            "network timm: needs the package `timm`: pip install nasframe[timm]"
        ) from error
    if len(task.input_shape) != 3:
        raise UnsupportedError(
            f"network timm: inputs must be images (channels, height, width), got {task.input_shape}; take "
            "other data"
        )
    known = library.list_models()
    if architecture not in known:
        advice = did_you_mean(architecture, known) or f"it knows {len(known)}, such as {known[0]}"
        raise UnsupportedError(
            f"network timm: architecture must be one that timm knows, got `{architecture}`; {advice}"
        )
    given: dict[str, Any] = dict(config or {})
    fixed = {"pretrained": False, "num_classes": task.num_outputs, "in_chans": task.input_shape[0]}
    if wrong := sorted(given.keys() & fixed.keys()):
        raise UnsupportedError(
            f"network timm: config must leave {', '.join(wrong)} to the data; leave it out"
        )
    try:
        network: nn.Module = library.create_model(architecture, **fixed, **given)
    except Exception as error:  # whatever a model's own code makes of its arguments
        raise UnsupportedError(
            f"network timm: `{architecture}` must be a network that can be built so, but: "
            f"{' '.join(str(error).split()):.300}; choose another, or other entries of `config`"
        ) from error
    return network
