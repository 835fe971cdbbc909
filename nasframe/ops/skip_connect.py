"""The op that hands its input on."""

from torch import nn

from nasframe.core import ops
from nasframe.errors import UnsupportedError
from nasframe.ops._maps import require_same_channels
from nasframe.ops.factorized_reduction import FactorizedReduction


@ops.register("skip_connect")
def skip_connect(in_channels: int, out_channels: int, stride: int, affine: bool) -> nn.Module:
    """The input itself, or halved by a factorized reduction at stride 2 (Liu et al. 2019, section 3.1.1).

    Raises:
        UnsupportedError: The stride is neither 1 nor 2, or the number of channels changes.
    """
    require_same_channels("skip_connect", in_channels, out_channels)
    if stride not in (1, 2):
        raise UnsupportedError(f"op `skip_connect`: stride must be 1 or 2, got {stride}")
    return nn.Identity() if stride == 1 else FactorizedReduction(in_channels, out_channels, affine=affine)
