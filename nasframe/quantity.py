"""How numbers, times and sizes are spelled for people."""

from typing import Final

_UNCUT: Final = 1_000_000_000
_SECONDS: Final = {"day": 86_400, "h": 3_600, "min": 60, "s": 1}


def spell_count(count: int) -> str:
    """A number of things: up to a milliard all digits, otherwise as ``1.1 × 10^18``."""
    if count < _UNCUT:
        return f"{count:,}"
    power = len(str(count)) - 1
    mantissa = f"{count / 10**power:.1f}"
    return f"1.0 × 10^{power + 1}" if mantissa == "10.0" else f"{mantissa} × 10^{power}"


def spell_amount(value: float, unit: str = "") -> str:
    """A figure of a cost with its unit, such as ``2.5 ms``; whole numbers with all digits."""
    number = f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
    return f"{number} {unit}".strip()


def spell_seconds(seconds: float) -> str:
    """A time in its two largest units, such as ``3 h 20 min``; below a minute to three digits."""
    if seconds < 59.95:
        return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
    left = round(seconds)
    found: list[str] = []
    for name, size in _SECONDS.items():
        count, rest = divmod(left, size)
        if count or found:
            found.append(f"{count} {name}{'s' if name == 'day' and count > 1 else ''}")
            left = rest
    return " ".join(found[:2])


def spell_bytes(count: int) -> str:
    """A size in the unit of 1024s that suits it, to three digits."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1023.5 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} {units[0]}" if size >= 99.95 or units[0] == "bytes" else f"{size:.1f} {units[0]}"
