"""What several ops do about the channels of their maps."""

from nasframe.errors import UnsupportedError


def require_same_channels(name: str, in_channels: int, out_channels: int) -> None:
    """Refuse a number of output channels that differs from that of the input.

    Raises:
        UnsupportedError: They differ.
    """
    if in_channels != out_channels:
        raise UnsupportedError(
            f"op `{name}` keeps its channels: out_channels must be {in_channels}, got {out_channels}; "
            "change them before it, with a 1x1 convolution"
        )
