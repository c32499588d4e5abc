"""One connection of HTTP/1.1: its requests in turn, and bounds on what it may take.

Serves as the `http` of uvicorn's Config. Of uvicorn it knows how it is made, the sets of
connections and tasks of the server's state, and that it is told to shut down; what HTTP is,
httptools knows. Nothing of this reaches the application but what it leaves in the scope
(service/scope.py).
"""

import asyncio
import math
import urllib.parse
from collections import deque
from typing import Any

import httptools
from starlette.types import ASGIApp, Scope

from service.limits.body_budget import Budget
from service.scope import CROWDED, TASK
from service.server.addresses import read_address
from service.server.crowd import make_room
from service.server.exchange import Claim, Exchange
from service.server.refusals import Refusals, Refused
from service.server.timers import Clock, Timers
from service.settings import Settings

# Beyond the limit, connections are kept as long as a 503 takes, and probes; so many at most.
RESERVE = 64
# So many requests wait for their turn; what comes behind them waits as bytes.
_MAX_WAITING = 16
# Parsed at once, unless more is known to belong to one body: 57 of the smallest requests.
_PIECE_BYTES = 1024
_NOTHING = memoryview(b"")


class Connection(asyncio.Protocol):
    """One connection. What is malformed is refused in its turn, and then the connection ends."""

    bounds: Settings
    budget: Budget
    refused: Refused
    clock: Clock
    transport: asyncio.Transport

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app: ASGIApp = config.loaded_app
        self._state = server_state
        self._app_state = app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.timers, self.refusals = Timers(), Refusals()
        self._parser: Any = httptools.HttpRequestParser(self)
        # What comes behind a request that is to be the last is answered too, or refused in turn.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        # What has begun and is not answered yet, in the order in which it came: the first is run.
        self.due: deque[Exchange] = deque()
        # The one that arrives, or was the last to arrive.
        self.arriving: Exchange | None = None
        # What has come and is not parsed yet, and what that holds; nothing more is read meanwhile.
        self._ahead = _NOTHING
        self._waiting: Claim | None = None
        # Bytes that are left of a body of declared length, and of one the parser does not know of.
        self._body_left = self._unparsed = 0
        # Of the message that arrives: has its headers; is whole.
        self.headed, self.whole = False, True
        # Bytes since anything but headers came, without and with those of the piece at hand.
        self._unseen_bytes = self._data_bytes = 0
        self._crowded = False
        self.reading_paused = self.write_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    # What asyncio tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        self.transport = transport
        self._state.connections.add(self)
        self._server = read_address(transport.get_extra_info("sockname"))
        self.client = read_address(transport.get_extra_info("peername"))
        excess = len(self._state.connections) - self.bounds.max_connections
        self._crowded = excess > 0 and not make_room(self, self._state.connections)
        if self._crowded and excess > RESERVE:
            transport.abort()
            return
        self.clock.watch(self)
        self.timers.await_arrival(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more, and let go of what was not answered."""
        del exc
        self._state.connections.discard(self)
        self.clock.forget(self)
        self._parser = None
        self._ahead = _NOTHING
        self._end_waiting()
        self.resume_writing()
        for exchange in self.due:
            exchange.disconnect()
            if not exchange.begun:
                # Nobody else will: one that is run ends by itself.
                exchange.claim.give_back()
        self.due.clear()
        self.arriving = None

    def eof_received(self) -> None:
        """The client has hung up: nothing is written to it from here on, not even an error."""
        for exchange in self.due:
            exchange.disconnect()

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as there is room for more requests."""
        if self.refusals.closing:
            return
        self.timers.idle = math.inf
        if not self.refusals.malformed:
            self._ahead = memoryview(bytes(self._ahead) + data if self._ahead else data)
            self._parse_ahead()
            if self._ahead and not self._hold(len(data)):
                self._take_no_more()
        self._judge_arrival()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        self.write_paused = True
        self.timers.await_departure(self)

    def resume_writing(self) -> None:
        """Note that the client has read."""
        self.write_paused = False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
        if not self.transport.is_closing():
            self.timers.departure = math.inf

    def shutdown(self) -> None:
        """End after the answer under way, or at once; who does not read it is not waited for."""
        if self.due:
            self.due[-1].keep_alive = False
        else:
            self.transport.close()
        if self.transport.get_write_buffer_size():
            self.timers.await_departure(self)

    # What an exchange asks for.

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """What every answer of the server has: the date."""
        headers: list[tuple[bytes, bytes]] = self._state.default_headers
        return headers

    def pause_reading(self) -> None:
        """Let the client wait with what more it has."""
        if not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless requests wait that have come already, and will be answered."""
        behind = len(self.due) > 1 or self._ahead
        if self.reading_paused and (self.refusals.closing or not behind):
            self.reading_paused = False
            self.transport.resume_reading()

    async def drain(self) -> None:
        """Wait until the client has read most of what was written."""
        self._drained = self._drained or self.loop.create_future()
        await asyncio.shield(self._drained)

    def go_on(self, exchange: Exchange) -> None:
        """An answer is over: see to it that it is taken, and go on with what came behind it."""
        assert exchange is self.due[0]
        self.due.popleft()
        self._state.total_requests += 1
        if self.transport.is_closing():
            self.timers.await_departure(self)
            return
        if self.due:
            self._run(self.due[0])
        else:
            self.timers.idle = self.loop.time() + self.bounds.idle_timeout_s
        if self._ahead:
            self._parse_ahead()
        self.resume_reading()
        if self.refusals.malformed and not self.due:
            self.refusals.refuse_malformed(self)
        else:
            self._judge_arrival()

    # What the parser tells.

    def on_message_begin(self) -> None:
        """A request has begun."""
        self.timers.arrival = self.timers.idle = math.inf
        self.headed = self.whole = False
        self._unseen_bytes = 0
        self._url = b""
        self.headers = []

    def on_url(self, url: bytes) -> None:
        """A part of its target has come."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has come; behind the body one could pass for such, and is dropped."""
        if not self.headed:
            self.headers.append((name.lower(), value))
            self.refusals.count(self.headers)

    def on_headers_complete(self) -> None:
        """Begin a request, or queue it, unless its headers are too large."""
        limit = self.bounds.max_header_bytes
        if self._unseen_bytes + self._data_bytes > limit:
            # Exactly, now that it may matter: the piece may hold other requests.
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limit:
                self.refusals.too_large = True
                raise ValueError("headers too large")  # the parser's error, told as what it is
        self._unseen_bytes = 0
        self._body_left = 0
        expects = False
        for name, value in self.headers:
            if name == b"content-length":
                self._body_left = int(value)
            elif name == b"expect":
                expects = value.lower() == b"100-continue"
        version: str = self._parser.get_http_version()
        exchange = Exchange(
            self,
            self._describe(version),
            keep_alive=version != "1.0" and self._parser.should_keep_alive(),
            expects_continue=expects,
        )
        self.arriving = exchange
        self.headed = True
        self.due.append(exchange)
        if len(self.due) == 1:
            self._run(exchange)
        else:
            self.pause_reading()

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        self._body_left -= len(body)
        self._unseen_bytes = 0
        if self.arriving is not None and not self.arriving.response_complete:
            self.arriving.add(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.whole = True
        self.timers.arrival = math.inf
        exchange = self.arriving
        assert exchange is not None
        if not exchange.response_complete:
            exchange.finish()
        elif not self.due and not self.transport.is_closing():
            # Answered before its body had come: it is idle from here on.
            self.timers.idle = self.loop.time() + self.bounds.idle_timeout_s

    # Parsing.

    def _parse_ahead(self) -> None:
        while self._ahead and not self.refusals.malformed and len(self.due) <= _MAX_WAITING:
            size = max(_PIECE_BYTES, self._body_left)
            self._ahead = self._ahead[self._parse(self._ahead[:size]) :]
        if self.refusals.malformed or not self._ahead:
            # An empty view would still hold all that came.
            self._ahead = _NOTHING
            self._end_waiting()

    def _parse(self, data: memoryview) -> int:
        """Parse a piece, also after an offer of another protocol, which nobody takes up.

        Returns how much of it was read.
        """
        self._data_bytes = len(data)
        if not self.whole:
            self._unseen_bytes += len(data)
        if self._unparsed:
            return self._take_body(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline_upgrade()
            read: int = offer.args[0]
            return read
        except httptools.HttpParserError:
            self.refusals.refuse_in_turn(self)
        return len(data)

    def _decline_upgrade(self) -> None:
        """Read the body of the request too: Java's client offers HTTP/2 with each that has one.

        For the parser it is over, and what follows another protocol.
        """
        assert self.arriving is not None
        self._unparsed = self._body_left
        chunked = b"transfer-encoding" in dict(self.headers)
        self.whole = not self._unparsed and not chunked
        if not self.whole:
            self.arriving.reopen()
        if chunked:
            # Chunks would have to be parsed here, and no client is known to send them so.
            self.refusals.refuse_in_turn(self)

    def _take_body(self, data: memoryview) -> int:
        """Add to the body what belongs to it, and return how much that is."""
        part = bytes(data[: self._unparsed])
        self._unparsed -= len(part)
        self.on_body(part)
        if not self._unparsed:
            self.on_message_complete()
        return len(part)

    def _describe(self, version: str) -> Scope:
        target = httptools.parse_url(self._url)
        path = target.path.decode("ascii")
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "scheme": "http",
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": target.path,
            "query_string": target.query or b"",
            "root_path": "",
            "headers": self.headers,
            "server": self._server,
            "client": self.client,
            "state": self._app_state.copy(),
        }
        return {**scope, CROWDED: True} if self._crowded else scope

    def _run(self, exchange: Exchange) -> None:
        exchange.begun = True
        task = self.loop.create_task(exchange.run(self._app))
        exchange.scope[TASK] = task
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    # What its parts ask.

    @property
    def under_way(self) -> bool:
        """Whether a request has its headers and is not whole."""
        return self.headed and not self.whole

    def is_answering(self) -> bool:
        """Whether a request before the one that arrives is not answered yet."""
        return len(self.due) > (self.under_way and self.arriving in self.due)

    def _judge_arrival(self) -> None:
        """See whether a request has begun that is to be awaited, or will never end."""
        if self.refusals.closing:
            return
        timers = self.timers
        if not self.whole and self._unseen_bytes > self.bounds.max_header_bytes:
            # Headers without an end, or trailers.
            self.refusals.refuse_headers(self)
        elif timers.arrival == math.inf and not (
            # An answer is under way, or the connection idle: what came was no mere noise.
            self.whole and (self.due or timers.idle < math.inf)
        ):
            timers.await_arrival(self)

    # What waits unparsed.

    def _hold(self, size: int) -> bool:
        """Whether so many bytes may wait until the requests ahead of them are answered."""
        self._end_waiting()
        self._waiting = Claim(self.budget)
        return self._waiting.take(size)

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.give_back()
            self._waiting = None

    def _take_no_more(self) -> None:
        """Answer what is whole, and hang up; whoever sent more sees that, and sends it again."""
        self.refusals.malformed, self._ahead = True, _NOTHING
        self._end_waiting()
        if self.arriving is not None and self.arriving.more_body:
            self.drop_last()
        self.due[-1].keep_alive = False

    def drop_last(self) -> None:
        """Forget the request that came last, which waits."""
        self.due.pop().claim.give_back()
