"""When connections are looked at again: to cut off who does not send, does not read, or is idle.

One clock for all of them looks now and then, so that a request costs no timer of its own: what is
awaited ends a little later than it says, by an eighth at most.
"""

import asyncio
import math
from typing import Protocol

from service.settings import Settings

_PARTS = 8
_LEAST_S, _MOST_S = 0.01, 1.0


class Timed(Protocol):
    """What is looked at."""

    def look(self, now: float) -> None:
        """Do what is due by the time of the loop's clock."""


class Timers:
    """The moments, by the loop's clock, until which something is awaited of a client.

    `arrival`: that a request is whole. `departure`: that it has read what was written. `idle`: that
    it asks again. Never, where nothing is.
    """

    __slots__ = ("arrival", "departure", "idle")

    def __init__(self) -> None:
        self.arrival = self.departure = self.idle = math.inf


class Clock:
    """Looks at the connections of one server, while there are any."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._watched: set[Timed] = set()
        self._next: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, settings: Settings, idle_s: float) -> "Clock":
        """The clock that suits what may be awaited."""
        shortest = min(settings.receive_timeout_s, settings.send_timeout_s, idle_s)
        return cls(min(max(shortest / _PARTS, _LEAST_S), _MOST_S))

    def watch(self, each: Timed) -> None:
        """Look at it from now on."""
        self._watched.add(each)
        if self._next is None:
            self._wait()

    def forget(self, each: Timed) -> None:
        """Look at it no more."""
        self._watched.discard(each)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(self._interval_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next = None
        now = loop.time()
        for each in tuple(self._watched):
            each.look(now)
        if self._watched:
            self._wait()
