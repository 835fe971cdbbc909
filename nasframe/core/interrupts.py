"""Interrupts: a signal ends a run where nothing is lost."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@final
class Interrupts:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt as long as it is entered, in the main thread.

    Work that must not be cut in two is `deferred`: the first signal then only sets `requested`, and
    KeyboardInterrupt is raised at the end of the work. A second signal always ends it at once.

    Args:
        echo_seconds: A signal that comes so soon after another is the same: launchers pass on to their
            processes what a terminal has sent to all of them.
    """

    def __init__(self, echo_seconds: float = 0.0) -> None:
        self.requested = False
        self._echo_seconds, self._heard = echo_seconds, 0.0
        self._deferring = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def request(self) -> None:
        """Ask for the end, as a signal does in work that is deferred."""
        self.requested, self._heard = True, time.monotonic()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Hold the first signal back until the end."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self.requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and time.monotonic() - self._heard < self._echo_seconds:
            return
        second = self.requested
        self.request()
        if second or not self._deferring:
            raise KeyboardInterrupt
