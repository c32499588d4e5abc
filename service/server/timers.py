"""When a connection is looked at again: to cut off who does not send, does not read, or is idle.

One clock for all of them looks now and then, so that a request costs no timer of its own: what is
awaited ends a little later than it says, by an eighth at most.
"""

import asyncio
import math
from typing import TYPE_CHECKING

from service.settings import Settings

if TYPE_CHECKING:
    from service.server.connection import Connection

_PARTS = 8
_LEAST_S, _MOST_S = 0.01, 1.0
# So much of its answer a client has to read in each CLOZE_SEND_TIMEOUT_S.
_PROGRESS_BYTES = 64 << 10


class Timers:
    """The moments, by the loop's clock, until which something is awaited of a client.

    `arrival`: that a request is whole. `departure`: that it has read what was written. `idle`: that
    it asks again. Never, where nothing is.
    """

    __slots__ = ("_left_bytes", "arrival", "departure", "idle")

    def __init__(self) -> None:
        self.arrival = self.departure = self.idle = math.inf
        self._left_bytes = 0

    def stop_receiving(self) -> None:
        """Await nothing more that the client would send."""
        self.arrival = self.idle = math.inf

    def await_arrival(self, connection: "Connection") -> None:
        """From now on, await a request."""
        self.arrival = connection.loop.time() + connection.bounds.receive_timeout_s

    def await_departure(self, connection: "Connection") -> None:
        """From now on, unless that is so already, await that the client reads."""
        if self.departure == math.inf:
            self._left_bytes = connection.transport.get_write_buffer_size()
            self.departure = connection.loop.time() + connection.bounds.send_timeout_s

    def look(self, connection: "Connection", now: float) -> None:
        """End what is not awaited any longer."""
        if now >= self.arrival:
            self._cut(connection)
        if now >= self.departure:
            self._give_up(connection)
        if now >= self.idle:
            self.idle = math.inf
            connection.transport.close()
            self.await_departure(connection)

    def _cut(self, connection: "Connection") -> None:
        """End a request that does not arrive."""
        self.arrival = math.inf
        if connection.refusals.closing or connection.transport.is_closing():
            return
        if connection.is_answering() or connection.reading_paused:
            # Nothing is awaited of the client before that.
            self.await_arrival(connection)
        elif connection.whole:
            connection.transport.close()
        else:
            connection.refusals.refuse_slow(connection)

    def _give_up(self, connection: "Connection") -> None:
        """End a connection whose client does not read, or hardly."""
        self.departure = math.inf
        left = connection.transport.get_write_buffer_size()
        if left > self._left_bytes - _PROGRESS_BYTES and left:
            connection.refusals.abandon(connection)
        elif left:
            self.await_departure(connection)


class Clock:
    """Looks at the connections of one server, while there are any."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._watched: set[Connection] = set()
        self._next: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Clock":
        """The clock that suits what may be awaited."""
        shortest = min(settings.receive_timeout_s, settings.send_timeout_s, settings.idle_timeout_s)
        return cls(min(max(shortest / _PARTS, _LEAST_S), _MOST_S))

    def watch(self, each: "Connection") -> None:
        """Look at it from now on."""
        self._watched.add(each)
        if self._next is None:
            self._wait()

    def forget(self, each: "Connection") -> None:
        """Look at it no more."""
        self._watched.discard(each)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.call_later(self._interval_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._next = None
        now = loop.time()
        try:
            for each in tuple(self._watched):
                each.timers.look(each, now)
        finally:
            if self._watched:
                self._wait()
