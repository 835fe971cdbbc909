"""What a stage takes besides time: energy, where the machine counts it."""

import time
from pathlib import Path
from typing import Final, final

_ZONES: Final = Path("/sys/class/powercap")
_MICROJOULES: Final = 1e-6


@final
class EnergyMeter:
    """Adds up the energy that the processors of this machine take, by the counters that Linux shows.

    They count all that runs on the processors, of whichever program (RAPL, also of AMD's processors); memory
    and accelerators count for themselves and are left out. A counter begins anew within the hour, so read it
    now and then.

    Args:
        zones: Where the counters are.
    """

    _SECONDS: Final = 10.0

    def __init__(self, zones: Path = _ZONES) -> None:
        self._zones = [zone for zone in sorted(zones.glob("intel-rapl:*")) if _is_processor(zone)]
        self._last = {zone: _number(zone / "energy_uj") for zone in self._zones}
        self._total, self._read_at = 0.0, time.monotonic()

    @property
    def joules(self) -> float | None:
        """Since it was made; None where a counter cannot be read, or there is none."""
        self._add()
        if not self._zones or None in self._last.values():
            return None
        return self._total * _MICROJOULES

    def read(self) -> None:
        """Look at the counters, unless that was just done."""
        if self._zones and time.monotonic() - self._read_at > self._SECONDS:
            self._add()

    def _add(self) -> None:
        self._read_at = time.monotonic()
        for zone in self._zones:
            before, now = self._last[zone], _number(zone / "energy_uj")
            self._last[zone] = None if before is None else now
            if before is not None and now is not None:
                begun_anew = now < before
                self._total += now - before
                if begun_anew:
                    self._total += _number(zone / "max_energy_range_uj") or 0.0


def _is_processor(zone: Path) -> bool:
    """Whether a zone is a whole processor, and no part of one, and not the board with all of it."""
    if zone.name.count(":") != 1:
        return False
    try:
        return (zone / "name").read_text(encoding="ascii").startswith("package")
    except (OSError, ValueError):
        return False


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # since 2020 only root may read them on many systems
        return None
