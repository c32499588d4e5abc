"""What Ctrl-C, SIGTERM and SIGHUP do to an export: it ends at once, once, and cleans up.

Owns the handlers and the exit codes. What is cleaned up, others know.
"""

import signal
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """The export was told to end; `exit_code` is what a shell says of that signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Signals:
    """While entered, Ctrl-C, SIGTERM and SIGHUP raise Stopped, once, so that all is cleaned up.

    What is ignored already stays so (nohup); outside the main thread nothing is changed, and
    whoever embeds the exporter handles signals.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._held = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        with suppress(ValueError):  # not the main thread
            for number in _NUMBERS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def check(self) -> None:
        """Raise Stopped again: the first may have been lost in a library's own callback."""
        if self._number is not None and not self._held:
            raise Stopped(self._number)

    def hold(self) -> None:
        """From here on a signal is too late to stop anything."""
        self._held = True

    def _hear(self, number: int, _: FrameType | None) -> None:
        first, self._number = self._number is None, number
        # One is enough: a second must not interrupt the cleaning up.
        if first and not self._held:
            raise Stopped(number)
