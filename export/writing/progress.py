"""Who hears how far an export is. Owns no screen: console.py shows it."""

from typing import Protocol

from export.writing.signals import Signals


class Reporter(Protocol):
    """Hears how far an export is."""

    def begin(self, step: str, total: int | None = None) -> None:
        """A step begins, of so many parts where that is known."""

    def advance(self) -> None:
        """A part of the step is done."""


class Silent:
    """A reporter that says nothing."""

    def begin(self, step: str, total: int | None = None) -> None:
        """Hear that a step begins."""

    def advance(self) -> None:
        """Hear that a part is done."""


class Stoppable:
    """A reporter that stops where a signal came that a library swallowed."""

    def __init__(self, report: Reporter, signals: Signals) -> None:
        self._report = report
        self._signals = signals

    def begin(self, step: str, total: int | None = None) -> None:
        """Pass it on, unless the export was told to end."""
        self._signals.check()
        self._report.begin(step, total)

    def advance(self) -> None:
        """Pass it on, unless the export was told to end."""
        self._signals.check()
        self._report.advance()
