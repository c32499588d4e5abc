"""One connection of HTTP/1.1: its requests in turn, and bounds on what it may take.

Serves as the `http` of uvicorn's Config. Of uvicorn it knows how it is made, the sets of
connections and tasks of the server's state, and that it is told to shut down; what HTTP is,
httptools knows. Nothing of this reaches the application but what it leaves in the scope
(service/scope.py).
"""

import asyncio
import math
import sys
import urllib.parse
from collections import deque
from typing import Any

import httptools
from starlette.types import ASGIApp, Scope

from service.errors import ClientGone, ServiceError
from service.limits.body_budget import Budget
from service.scope import CROWDED, RECORD, TASK
from service.server.exchange import Claim, Exchange
from service.server.refusal import (
    Refused,
    describe_unknown,
    make_record,
    malformed,
    too_large,
    too_slow,
    write_refusal,
)
from service.server.timers import Clock, Timers
from service.settings import Settings

# Seconds for which a connection is kept that nothing is asked over. Longer than the proxies' own.
IDLE_S = 75.0
# Beyond the limit, connections are kept as long as a 503 takes, and probes; so many at most.
_RESERVE = 64
# nginx's number for a client that is gone, of one that did not take its answer.
_UNREAD = 499
# Bundles, libraries, logs.
_OTHER_FILES = 256
# What a client has sent before it reads the refusal is read too: a reset would take it away.
_LINGER_S = 2.0
_PROGRESS_BYTES = 64 << 10
# So many requests wait for their turn; what comes behind them waits as bytes.
_MAX_WAITING = 16
# Parsed at once, unless more is known to belong to one body: 57 of the smallest requests.
_PIECE_BYTES = 1024
_NOTHING = memoryview(b"")


def make_protocol(
    settings: Settings, budget: Budget, refused: Refused = lambda *_: None
) -> type["Connection"]:
    """The protocol for uvicorn's `http`, whose requests hold what the budget has room for.

    `refused` hears of what it answers itself.
    """
    held, told = budget, refused

    class Bounded(Connection):
        budget = held
        bounds = settings
        refused = staticmethod(told)
        clock = Clock.of(settings, IDLE_S)

    return Bounded


def allow_files(settings: Settings) -> bool:
    """Let the process open a file for each connection; False if the system does not let it."""
    if sys.platform == "win32":
        return True
    import resource  # noqa: PLC0415 - not on Windows

    wanted = settings.max_connections + _RESERVE + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        highest = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        return highest == wanted
    return True


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
        self._loop = _loop or asyncio.get_running_loop()
        self._timers = Timers()
        self._parser: Any = httptools.HttpRequestParser(self)
        # What comes behind a request that is to be the last is answered too, or refused in turn.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        # What has begun and is not answered yet, in the order in which it came: the first is run.
        self._due: deque[Exchange] = deque()
        # The one that arrives, or was the last to arrive.
        self._arriving: Exchange | None = None
        # What has come and is not parsed yet, and what that holds; nothing more is read meanwhile.
        self._ahead = _NOTHING
        self._waiting: Claim | None = None
        # Bytes that are left of a body of declared length, and of one the parser does not know of.
        self._body_left = self._unparsed = 0
        self._left_bytes = 0
        # Of the message that arrives: has its headers; is whole.
        self._headed, self._whole = False, True
        # Bytes since anything but headers came, without and with those of the piece at hand.
        self._unseen_bytes = self._data_bytes = 0
        self._too_large = self._closing = self._crowded = self._malformed = False
        self._reading_paused = self.write_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []

    # What asyncio tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        self.transport = transport
        self._state.connections.add(self)
        self._server = _read_address(transport.get_extra_info("sockname"))
        self._client = _read_address(transport.get_extra_info("peername"))
        excess = len(self._state.connections) - self.bounds.max_connections
        self._crowded = excess > 0
        if excess > _RESERVE:
            transport.abort()
            return
        self.clock.watch(self)
        self._await_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more, and let go of what was not answered."""
        del exc
        self._state.connections.discard(self)
        self.clock.forget(self)
        self._parser = None
        self._ahead = _NOTHING
        self._end_waiting()
        self.resume_writing()
        for exchange in self._due:
            exchange.disconnect()
            if not exchange.begun:
                # Nobody else will: one that is run ends by itself.
                exchange.claim.give_back()
        self._due.clear()
        self._arriving = None

    def eof_received(self) -> None:
        """The client has hung up: nothing is written to it from here on, not even an error."""
        for exchange in self._due:
            exchange.disconnect()

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as there is room for more requests."""
        if self._closing:
            return
        self._timers.idle = math.inf
        if not self._malformed:
            self._ahead = memoryview(bytes(self._ahead) + data if self._ahead else data)
            self._parse_ahead()
            if self._ahead and not self._hold(len(data)):
                self._take_no_more()
        self._judge_arrival()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        self.write_paused = True
        self._await_departure()

    def resume_writing(self) -> None:
        """Note that the client has read."""
        self.write_paused = False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
        if not self.transport.is_closing():
            self._timers.departure = math.inf

    def shutdown(self) -> None:
        """End after the answer under way, or at once; who does not read it is not waited for."""
        if self._due:
            self._due[-1].keep_alive = False
        else:
            self.transport.close()
        if self.transport.get_write_buffer_size():
            self._await_departure()

    def look(self, now: float) -> None:
        """End what is not awaited any longer."""
        timers = self._timers
        if now >= timers.arrival:
            self._cut()
        if now >= timers.departure:
            self._give_up()
        if now >= timers.idle:
            timers.idle = math.inf
            self.transport.close()
            self._await_departure()

    # What an exchange asks for.

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """What every answer of the server has: the date."""
        headers: list[tuple[bytes, bytes]] = self._state.default_headers
        return headers

    def pause_reading(self) -> None:
        """Let the client wait with what more it has."""
        if not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless requests wait that have come already."""
        if self._reading_paused and len(self._due) < 2 and not self._ahead:
            self._reading_paused = False
            self.transport.resume_reading()

    async def drain(self) -> None:
        """Wait until the client has read most of what was written."""
        if self._drained is None:
            self._drained = self._loop.create_future()
        await asyncio.shield(self._drained)

    def go_on(self, exchange: Exchange) -> None:
        """An answer is over: see to it that it is taken, and go on with what came behind it."""
        assert exchange is self._due[0]
        self._due.popleft()
        self._state.total_requests += 1
        if self.transport.is_closing():
            self._await_departure()
            return
        if self._due:
            self._run(self._due[0])
        else:
            self._timers.idle = self._loop.time() + IDLE_S
        if self._ahead:
            self._parse_ahead()
        self.resume_reading()
        if self._malformed and not self._due:
            self._refuse(self._name_mistake())
        else:
            self._judge_arrival()

    # What the parser tells.

    def on_message_begin(self) -> None:
        """A request has begun."""
        self._timers.arrival = self._timers.idle = math.inf
        self._headed = self._whole = False
        self._unseen_bytes = 0
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """A part of its target has come."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has come; behind the body one could pass for such, and is dropped."""
        if not self._headed:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin a request, or queue it, unless its headers are too large."""
        limit = self.bounds.max_header_bytes
        if self._unseen_bytes + self._data_bytes > limit:
            # Exactly, now that it may matter: the piece may hold other requests.
            size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)
            if size > limit:
                self._too_large = True
                raise ValueError("headers too large")  # the parser's error, told as what it is
        self._unseen_bytes = 0
        self._body_left = 0
        expects = False
        for name, value in self._headers:
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
        self._arriving = exchange
        self._headed = True
        self._due.append(exchange)
        if len(self._due) == 1:
            self._run(exchange)
        else:
            self.pause_reading()

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        self._body_left -= len(body)
        self._unseen_bytes = 0
        if self._arriving is not None and not self._arriving.response_complete:
            self._arriving.add(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._whole = True
        self._timers.arrival = math.inf
        exchange = self._arriving
        assert exchange is not None
        if not exchange.response_complete:
            exchange.finish()
        elif not self._due and not self.transport.is_closing():
            # Answered before its body had come: it is idle from here on.
            self._timers.idle = self._loop.time() + IDLE_S

    # Parsing.

    def _parse_ahead(self) -> None:
        while self._ahead and not self._malformed and len(self._due) <= _MAX_WAITING:
            size = max(_PIECE_BYTES, self._body_left)
            self._ahead = self._ahead[self._parse(self._ahead[:size]) :]
        if self._malformed:
            self._ahead = _NOTHING
        if not self._ahead:
            self._end_waiting()

    def _parse(self, data: memoryview) -> int:
        """Parse a piece, also after an offer of another protocol, which nobody takes up.

        Returns how much of it was read.
        """
        self._data_bytes = len(data)
        if not self._whole:
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
            self._refuse_in_turn()
        return len(data)

    def _decline_upgrade(self) -> None:
        """Read the body of the request too: Java's client offers HTTP/2 with each that has one.

        For the parser it is over, and what follows another protocol.
        """
        assert self._arriving is not None
        self._unparsed = self._body_left
        chunked = b"transfer-encoding" in dict(self._headers)
        self._whole = not self._unparsed and not chunked
        if not self._whole:
            self._arriving.reopen()
        if chunked:
            # Chunks would have to be parsed here, and no client is known to send them so.
            self._refuse_in_turn()

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
            "headers": self._headers,
            "server": self._server,
            "client": self._client,
            "state": self._app_state.copy(),
        }
        if self._crowded:
            scope[CROWDED] = True
        return scope

    def _run(self, exchange: Exchange) -> None:
        exchange.begun = True
        task = self._loop.create_task(exchange.run(self._app))
        exchange.scope[TASK] = task
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    # What waits unparsed.

    def _hold(self, size: int) -> bool:
        """Whether so many bytes may wait until the requests ahead of them are answered."""
        self._waiting = Claim(self.budget)
        return self._waiting.take(size)

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.give_back()
            self._waiting = None

    def _take_no_more(self) -> None:
        """Answer what is whole, and hang up; whoever sent more sees that, and sends it again."""
        self._malformed, self._ahead = True, _NOTHING
        self._end_waiting()
        if self._arriving is not None and self._arriving.more_body:
            self._drop_last()
        self._due[-1].keep_alive = False

    def _drop_last(self) -> None:
        """Forget the request that came last, which waits."""
        self._due.pop().claim.give_back()

    # Refusing.

    def _refuse_in_turn(self) -> None:
        """What cannot be parsed has come: it is told so once what came ahead of it is answered."""
        self._malformed = True
        exchange = self._arriving
        # Its body is not whole, and it is what was read last: the mistake is in it.
        broken = exchange is not None and self._headed and not self._whole and exchange.more_body
        if broken and exchange is not None and exchange.response_complete:
            # Refused already, for another reason, before all of it was read.
            self.transport.close()
        elif broken and len(self._due) > 1:
            self._drop_last()
        elif broken or not self._due:
            self._refuse(self._name_mistake())

    def _name_mistake(self) -> ServiceError:
        return too_large(self.bounds) if self._too_large else malformed()

    def _refuse(self, error: ServiceError) -> None:
        """Answer in the application's place, and close."""
        self._closing = True
        self._timers.arrival = self._timers.idle = math.inf
        if self.transport.is_closing():
            return
        if self._is_answering() or not self._can_answer():
            # An answer here would pass for another one, or for a part of it.
            self.transport.abort()
            return
        begun = self._headed and not self._whole
        if begun and self._arriving is not None:
            # The application counts and logs it: as the request that is under way.
            scope = self._arriving.scope
            known = scope.get(RECORD)
            record = make_record(scope, error)
            record.request_id = known.request_id if known is not None else record.request_id
            answer = write_refusal(error, scope, record, self.default_headers)
            self._arriving.refuse(error)
        else:
            # Without the headers of the request before, where none has begun.
            scope = describe_unknown(() if self._whole else self._headers, self._client)
            record = make_record(scope, error)
            answer = write_refusal(error, None, record, self.default_headers)
            self.refused(scope, int(answer[9:12]), record)
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        self.transport.write(answer)
        self.transport.write_eof()
        self._loop.call_later(_LINGER_S, self.transport.abort)

    def _is_answering(self) -> bool:
        """Whether a request before the one that arrives is not answered yet."""
        arriving = self._headed and not self._whole and self._arriving in self._due
        return len(self._due) > arriving

    def _can_answer(self) -> bool:
        """Whether nothing of an answer to the request that arrives has been sent."""
        exchange = self._arriving
        return (
            self._whole or not self._headed or (exchange is None or not exchange.response_started)
        )

    # Waiting.

    def _judge_arrival(self) -> None:
        if self._closing:
            return
        timers = self._timers
        if not self._whole and self._unseen_bytes > self.bounds.max_header_bytes:
            # Headers without an end, or trailers.
            self._refuse(too_large(self.bounds))
        elif timers.arrival == math.inf and not (
            # An answer is under way, or the connection idle: what came was no mere noise.
            self._whole and (self._due or timers.idle < math.inf)
        ):
            self._await_arrival()

    def _await_arrival(self) -> None:
        self._timers.arrival = self._loop.time() + self.bounds.receive_timeout_s

    def _cut(self) -> None:
        """End a request that does not arrive."""
        self._timers.arrival = math.inf
        if self._closing or self.transport.is_closing():
            return
        if self._is_answering() or self._reading_paused:
            # Nothing is awaited of the client before that.
            self._await_arrival()
        elif self._whole:
            self.transport.close()
        else:
            self._refuse(too_slow(self.bounds))

    def _await_departure(self) -> None:
        if self._timers.departure == math.inf:
            self._left_bytes = self.transport.get_write_buffer_size()
            self._timers.departure = self._loop.time() + self.bounds.send_timeout_s

    def _give_up(self) -> None:
        """End a connection whose client does not read, or hardly."""
        self._timers.departure = math.inf
        left = self.transport.get_write_buffer_size()
        if not left:
            return
        if left > self._left_bytes - _PROGRESS_BYTES:
            self.transport.abort()
            gone = ClientGone("the client did not read its answer")
            scope = describe_unknown((), self._client)
            self.refused(scope, _UNREAD, make_record(scope, gone))
        else:
            self._await_departure()


def _read_address(found: Any) -> tuple[str, int | None] | None:
    """An address as ASGI has it: host and port, or the path of a Unix socket."""
    if isinstance(found, tuple):
        return str(found[0]), int(found[1])
    return (found, None) if isinstance(found, str) and found else None
