"""Passes that PyTorch compiles, for as long as a model is trained."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nasframe.core.block import Block
from nasframe.core.mixed_op import SampledOp
from nasframe.core.model import Model
from nasframe.errors import UnsupportedError


def check_compiles(model: Model, where: str) -> None:
    """Refuse a model that compiling would make slower, or would keep from what it shall do.

    Args:
        model: May be on the meta device.
        where: Who wants it compiled, for messages.

    Raises:
        UnsupportedError: Passes run drawn paths, or a part is computed again in the backward pass.
    """
    for name, op in model.mixed_ops.items():
        if isinstance(op, SampledOp):
            raise UnsupportedError(
                f"{where}: compile must be false where passes run drawn paths, but the mixed op of choice "
                f"`{name}` is a {type(op).__name__}, so that nearly every step would be another network to "
                "compile; leave it out"
            )
    if any(isinstance(module, Block) and module.recomputed for module in model.modules()):
        raise UnsupportedError(
            f"{where}: compile must be false where parts are computed again (recomputed=true), because what "
            "a compiled pass keeps is the compiler's to decide; set one of them to false"
        )


@contextmanager
def compiled(
    model: Model, backend: str | Callable[..., Any] = "inductor", *, graphs: bool = False
) -> Iterator[None]:
    """Inside, passes of the network are compiled as a whole, each sort of pass the first time it is made.

    Names of parameters and buffers stay, and so do the random numbers: they are drawn by the kernels that
    draw them otherwise. Mixtures are drawn, and autocast is entered, outside of what is compiled.

    Args:
        model: Is as before afterwards.
        backend: One of ``torch.compile``.
        graphs: Replay the kernels of a pass as a CUDA graph. What passes return, gradients too, is then
            overwritten in the next step: before each, call ``torch.compiler.cudagraph_mark_step_begin``.

    Raises:
        UnsupportedError: The compiler failed, such as for want of a C++ compiler.
    """
    network = model.network
    of_inductor = {"fallback_random": True, "triton.cudagraphs": graphs}
    options: dict[str, Any] | None = of_inductor if backend == "inductor" else None

    def call(
        *args: Any, **kwargs: Any
    ) -> Any:  # PyTorch compiles no frames of its own, such as a Sequential's
        return network._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]

    network._compiled_call_impl = torch.compile(call, backend=backend, options=options)
    try:
        yield
    except RuntimeError as error:
        if not _is_of_compiler(error):
            raise
        reason = " ".join(str(error).split())
        raise UnsupportedError(
            f"compile: PyTorch must be able to compile the network here, but could not ({reason:.200}); set "
            "compile=false"
        ) from error
    finally:
        network._compiled_call_impl = None
        torch.compiler.reset()  # else few models in a process could be compiled: they count as one function


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Inside, passes are not compiled: they may be differentiated twice, and hooks are heard."""
    calls = [(each, each._compiled_call_impl) for each in model.modules() if each._compiled_call_impl]
    try:
        for module, _ in calls:
            module._compiled_call_impl = None
        yield
    finally:
        for module, call in calls:
            module._compiled_call_impl = call


def _is_of_compiler(error: Exception) -> bool:
    """Whether the compiler raised it; who never compiled has not imported that."""
    dynamo = sys.modules.get("torch._dynamo.exc")
    return dynamo is not None and isinstance(error, dynamo.TorchDynamoException)
