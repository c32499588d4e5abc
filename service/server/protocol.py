"""What a connection may take: uvicorn's HTTP protocol with bounds on headers, time and number.

Nothing of this reaches the application but a mark in the scope of a connection too many.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, cast

import orjson
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.errors import (
    ClientGone,
    HeadersTooLarge,
    MalformedHttp,
    RequestTimeout,
    ServiceError,
    describe,
    find_status,
)
from service.limits.body_budget import Budget
from service.middleware.access_control import CROWDED
from service.middleware.instrument import REFUSED, TIMES
from service.middleware.security_headers import STRICT
from service.observability.access_log import find_request_id
from service.observability.request_record import Times
from service.server.counted import CountedConnection
from service.settings import Settings

# Beyond the limit, connections are kept as long as a 503 takes, and probes; so many at most.
_RESERVE = 64
# nginx's number for a client that is gone, of one that did not take its answer.
_UNREAD = 499
# Bundles, libraries, logs.
_OTHER_FILES = 256
# What a client has sent before it reads the refusal is read too: a reset would take it away.
_LINGER_S = 2.0
_PROGRESS_BYTES = 64 << 10

# Hears the scope, as far as it is known, the status, and the id and code.
Refused = Callable[[Scope, int, Times], None]


def make_protocol(
    settings: Settings, budget: Budget, refused: Refused = lambda *_: None
) -> type[HttpToolsProtocol]:
    """The protocol for uvicorn's `http`, whose requests hold what the budget has room for.

    `refused` hears of what it answers itself.
    """
    held, told = budget, refused

    class Protocol(BoundedProtocol):
        budget = held
        bounds = settings
        refused = staticmethod(told)

    return Protocol


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


class BoundedProtocol(CountedConnection):
    """One connection.

    `_arrival` runs while something is awaited of the client, `_departure` while it has to read.
    """

    bounds: Settings
    refused: Refused

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrival: asyncio.TimerHandle | None = None
        self._departure: asyncio.TimerHandle | None = None
        self._left_bytes = 0
        self._running: RequestResponseCycle | None = None
        # Of the message that arrives: has its headers; is whole.
        self._headed, self._whole = False, True
        # Bytes since anything but headers came, without and with those of the piece at hand.
        self._unseen_bytes = self._data_bytes = 0
        self._too_large = self._closing = self._crowded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        excess = len(self.connections) - self.bounds.max_connections
        self._crowded = excess > 0
        if excess > _RESERVE:
            transport.abort()
        else:
            self._await_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._end_arrival()
        if self._departure is not None:
            self._departure.cancel()
        if self._running is not None and not self._running.response_complete:
            # uvicorn tells the last request alone, of several that were sent at once.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and judge whether a message is too large or under way."""
        if self._closing:
            return
        super().data_received(data)
        self._judge_arrival()

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        super().on_message_begin()
        self._end_arrival()
        self._unset_keepalive_if_required()
        self._headed, self._whole = False, False
        self._unseen_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes after the body could pass for one, and is dropped."""
        if not self._headed:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the headers are too large."""
        limit = self.bounds.max_header_bytes
        if self._unseen_bytes + self._data_bytes > limit:
            # Exactly, now that it may matter: the piece may hold other requests.
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limit:
                self._too_large = True
                raise ValueError("headers too large")  # uvicorn then asks for the answer of a 400
        self._unseen_bytes = 0
        super().on_headers_complete()
        self._headed = True
        if self._crowded:
            cast("dict[str, Any]", self.scope)[CROWDED] = True

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unseen_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._whole = True
        self._end_arrival()
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            # Answered before its body had come: it is idle from here on.
            self._await_keepalive()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """See to it that the answer is also taken, and what came behind it is whole in time."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_departure()
        else:
            self._judge_arrival()

    def _parse(self, data: memoryview) -> int:
        """Count what may be headers."""
        self._data_bytes = len(data)
        if not self._whole:
            self._unseen_bytes += len(data)
        return super()._parse(data)

    def _decline_upgrade(self) -> None:
        """Wait for the body of a request that the parser takes to be over."""
        self._whole = not self._body_left and b"transfer-encoding" not in dict(self.headers)
        super()._decline_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed."""
        self._refuse(self._say_too_large() if self._too_large else MalformedHttp(msg))

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._await_departure()

    def resume_writing(self) -> None:
        """Note that the client has read."""
        super().resume_writing()
        if self._departure is not None and not self.transport.is_closing():
            self._departure.cancel()
            self._departure = None

    def shutdown(self) -> None:
        """End after the answer under way, or at once; who does not read it is not waited for."""
        super().shutdown()
        if self.transport.get_write_buffer_size():
            self._await_departure()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection."""
        super().timeout_keep_alive_handler()
        self._await_departure()

    def _judge_arrival(self) -> None:
        if self._closing:
            return
        if not self._whole and self._unseen_bytes > self.bounds.max_header_bytes:
            # Headers without an end, or trailers.
            self._refuse(self._say_too_large())
        elif self._arrival is None and not (self._whole and self._is_expected()):
            self._await_arrival()

    def _is_expected(self) -> bool:
        """Whether an answer is under way, or the connection idle: what came was no mere noise."""
        return bool(self._due) or self.timeout_keep_alive_task is not None

    def _say_too_large(self) -> ServiceError:
        limit = self.bounds.max_header_bytes
        return HeadersTooLarge(
            f"the request line and headers have more than {limit} bytes; send fewer or shorter ones"
        )

    def _refuse(self, error: ServiceError) -> None:
        """Answer in the application's place, and close."""
        self._closing = True
        self._end_arrival()
        self._unset_keepalive_if_required()
        if self._is_answering() or not self._can_answer():
            # An answer here would pass for another one, or for a part of it.
            self.transport.abort()
            return
        status = find_status(error)
        times = self._tell(error, status)
        content = orjson.dumps(describe(error))
        headers = [
            *self.server_state.default_headers,
            *STRICT,
            (b"server-timing", times.header().encode()),
            (b"x-request-id", times.request_id.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
            (b"connection", b"close"),
        ]
        lines = [STATUS_LINE[status], *(b"%s: %s\r\n" % header for header in headers), b"\r\n"]
        self.flow.resume_reading()
        self.transport.write(b"".join([*lines, content]))
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.abort)

    def _tell(self, error: ServiceError, status: int) -> Times:
        """Have it counted and logged, once: as the request that is under way, or as none."""
        if not self._headed or self._whole:
            # Not those of the request before, where none has begun.
            headers = () if self._whole else self.headers
            scope = {"headers": headers, "client": self.client, "method": ""}
            times = Times(request_id=find_request_id(scope), code=error.code)
            self.refused(scope, status, times)
            return times
        # The application hears that the client is gone, and what it sends goes nowhere.
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        under_way = cast("dict[str, Any]", self.cycle.scope)
        under_way[REFUSED] = error
        begun: Times | None = under_way.get(TIMES)
        return Times(request_id=begun.request_id if begun else find_request_id(under_way))

    def _is_answering(self) -> bool:
        """Whether a request before the one that arrives is not answered yet."""
        arriving = self._headed and not self._whole and self.cycle in self._due
        return len(self._due) > arriving

    def _can_answer(self) -> bool:
        """Whether nothing of an answer to the request that arrives has been sent."""
        return self._whole or not self._headed or not self.cycle.response_started

    def _await_arrival(self) -> None:
        self._arrival = self.loop.call_later(self.bounds.receive_timeout_s, self._cut)

    def _end_arrival(self) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _cut(self) -> None:
        """End a request that does not arrive."""
        self._arrival = None
        if self._closing or self.transport.is_closing():
            return
        if self._is_answering() or self.flow.read_paused:
            # Nothing is awaited of the client before that.
            self._await_arrival()
        elif self._whole:
            self.transport.close()
        else:
            limit_s = self.bounds.receive_timeout_s
            self._refuse(
                RequestTimeout(
                    f"the request was not whole within {limit_s:g} s; send it faster, or in parts"
                )
            )

    def _await_keepalive(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _await_departure(self) -> None:
        if self._departure is None:
            self._left_bytes = self.transport.get_write_buffer_size()
            self._departure = self.loop.call_later(self.bounds.send_timeout_s, self._give_up)

    def _give_up(self) -> None:
        """End a connection whose client does not read, or hardly."""
        self._departure = None
        left = self.transport.get_write_buffer_size()
        if not left:
            return
        if left > self._left_bytes - _PROGRESS_BYTES:
            self.transport.abort()
            times = Times(request_id=find_request_id({"headers": ()}), code=ClientGone.code)
            self.refused({"client": self.client, "method": ""}, _UNREAD, times)
        else:
            self._await_departure()
