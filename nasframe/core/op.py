"""Operations by name: the candidates of layer choices."""

from typing import Annotated, TypeAlias

from torch import nn

from nasframe.registry import NameIn, Registry

ops: Registry[nn.Module] = Registry(
    "ops", nn.Module, given=("in_channels", "out_channels", "stride", "affine")
)
"""Each maps B C H W to B C' H/stride W/stride; `affine` is whether its batch norms have parameters."""

OpName: TypeAlias = Annotated[str, NameIn("ops")]
