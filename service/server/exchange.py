"""One request over a connection, and its answer: what ASGI's receive and send are here."""

import asyncio
from typing import TYPE_CHECKING

import structlog
from starlette.types import ASGIApp, Message, Scope

from models.errors import InternalError
from service.error_response import PHRASES, write_error
from service.limits.body_budget import SMALL_BYTES, Budget
from service.scope import CLAIM, DEPARTURE, REFUSED, TASK

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.errors import ServiceError, TooMuchPending
    from service.server.connection import Connection

# Of a body that nobody has asked for yet; then no more is read.
_MOST_UNASKED_BYTES = 64 << 10
_JOINED_BYTES = 64 << 10
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_GONE: Message = {"type": "http.disconnect"}
_BODILESS = (204, 304)

_log = structlog.get_logger(__name__)


class Claim:
    """What one request holds of the budget, until it is given back."""

    __slots__ = ("_budget", "_over", "refused", "size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._over = False
        self.size = 0
        self.refused = False

    def fits(self, size: int) -> bool:
        """Whether it may come to hold so many bytes, as things are."""
        budget = self._budget
        others = budget.held - self.size
        room = budget.limit if size <= SMALL_BYTES else budget.find_room(size)
        return size <= self.size or others + size <= room

    def take(self, size: int) -> bool:
        """Hold so many bytes more; False, now and ever after, if there is no room for them."""
        if self._over or self.refused or not self.fits(self.size + size):
            self.refused = True
            return False
        self.size += size
        self._budget.held += size
        return True

    def refuse(self) -> "TooMuchPending":
        """The error of a request that does not fit."""
        return self._budget.refuse()

    def give_back(self) -> None:
        """Hold nothing, from now on."""
        self._budget.held -= self.size
        self.size, self._over = 0, True


# A body may come in so many parts of any size, in more where these are longer in the mean.
_MOST_CRUMBS = 4_096
_CRUMB_BYTES = 16


class Exchange:
    """One request and its answer. The connection tells it what comes, and hears when it is over.

    An answer's head leaves with the beginning of its body: in two parts it would cost two system
    calls and two packets, and its client would wake up twice.
    """

    __slots__ = (
        "_body",
        "_chunked",
        "_expects_continue",
        "_fresh",
        "_head",
        "_left",
        "_parts",
        "_size",
        "_waiter",
        "begun",
        "claim",
        "connection",
        "crumbled",
        "disconnected",
        "keep_alive",
        "more_body",
        "on_departure",
        "response_complete",
        "response_started",
        "scope",
    )

    def __init__(
        self, connection: "Connection", scope: Scope, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self.connection: Connection | None = connection
        self.scope = scope
        self.keep_alive = keep_alive
        self.claim: Claim = Claim(connection.budget)
        # Called once when the client has gone before its answer was over.
        self.on_departure: Callable[[], None] | None = None
        self.begun = self.disconnected = False
        self.response_started = self.response_complete = False
        self.more_body = True
        # Its body came in chunks of a few bytes, by the thousand.
        self.crumbled = False
        self._parts = self._size = 0
        self._expects_continue = expects_continue
        # What of the body nobody has asked for yet, and whether there is news to tell.
        self._body: bytes | bytearray = b""
        self._fresh = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = False
        self._left = 0  # bytes of the answer that its length promises

    def add(self, body: bytes) -> None:
        """A part of the body has come; where there is no room for it, the application hears so.

        Raises ValueError for a body in crumbs, each of which costs as much as a kilobyte would.
        """
        self._parts += 1
        self._size += len(body)
        if self._parts > _MOST_CRUMBS and self._size < _CRUMB_BYTES * self._parts:
            self.crumbled = True
            raise ValueError("too many chunks")  # the parser's error, told as what it is
        if self.claim.take(len(body)):
            if not self._body:
                self._body = body
            elif isinstance(self._body, bytearray):
                self._body += body
            else:
                # More than one part: together, since each may be a byte.
                self._body = bytearray(self._body) + body
            if len(self._body) > _MOST_UNASKED_BYTES and self.connection is not None:
                self.connection.pause_reading()
        else:
            self._body = b""
        self._tell()

    def finish(self) -> None:
        """The request is whole."""
        self.more_body = False
        self._tell()

    def reopen(self) -> None:
        """The request is not whole, as it seemed to be."""
        self.more_body, self._fresh = True, False

    def disconnect(self) -> None:
        """The client has gone, or is told something else: nothing more is sent."""
        self.disconnected = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self.on_departure is not None and not self.response_complete:
            self.on_departure()

    def refuse(self, error: "ServiceError") -> None:
        """The client is told this in the application's place, which hears that it has gone."""
        self.scope[REFUSED] = error
        self.disconnect()

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer; whatever it does, what is held for it is given back."""
        self.scope[DEPARTURE] = self
        self.scope[CLAIM] = self.claim
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException:
            _log.exception("unexpected error")
        finally:
            self.claim.give_back()
            self._body = b""
            # It and its scope refer to each other no more: nothing is left to the collector.
            self.scope.pop(DEPARTURE, None)
            self.scope.pop(TASK, None)
            self.on_departure = None
        if not self.response_complete and not self.disconnected:
            await self._fail()

    async def receive(self) -> Message:
        """The next part of the body; once it is whole, that the client has gone."""
        if self._expects_continue and not self.response_started and not self.disconnected:
            self._expects_continue = False
            if self.connection is not None:
                self.connection.transport.write(_CONTINUE)
        while not self._fresh or self.disconnected or self.response_complete:
            if self.disconnected or self.response_complete:
                return _GONE
            if self.connection is not None:
                self.connection.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._fresh = False
        if self.claim.refused:
            raise self.claim.refuse()
        body, self._body = bytes(self._body), b""
        if self.connection is not None:
            # Also when all has come: that the client leaves is read too.
            self.connection.resume_reading()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Send a part of the answer, once the client has read what came before."""
        connection = self.connection
        if connection is not None and connection.write_paused and not self.disconnected:
            await connection.drain()
        if self.disconnected or connection is None:
            return
        if message["type"] == "http.response.start" and not self.response_started:
            self._begin(connection, message)
        elif message["type"] == "http.response.body" and self.response_started:
            self._go_on(connection, message)
        else:
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")

    def _begin(self, connection: "Connection", message: Message) -> None:
        self.response_started = True
        self._expects_continue = False
        status: int = message["status"]
        length: bytes | None = None
        closing = False
        lines = [b"HTTP/1.1 %d %s" % (status, PHRASES.get(status, b""))]
        for name, value in (*connection.default_headers, *message.get("headers", ())):
            lines.append(b"%s: %s" % (name, value))
            if name == b"content-length":
                length = value
            elif name == b"connection" and value == b"close":
                closing = True
        if closing:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close")
        if length is not None:
            self._left = int(length)
        elif self.scope["method"] != "HEAD" and status not in _BODILESS:
            self._chunked = True
            lines.append(b"transfer-encoding: chunked")
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
            raise RuntimeError("a header has a line break in it")
        self._head = head + b"\r\n\r\n"

    def _go_on(self, connection: "Connection", message: Message) -> None:
        if self.response_complete:
            raise RuntimeError("the answer is over already")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            body, self._left = b"", 0
        elif self._chunked:
            end = b"" if more else b"0\r\n\r\n"
            body = b"%x\r\n%s\r\n%s" % (len(body), body, end) if body else end
        else:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body is not as long as its content-length says")
        head, self._head = self._head, b""
        if head and len(body) > _JOINED_BYTES:
            connection.transport.writelines([head, body])
        elif head or body:
            connection.transport.write(head + body)
        if not more:
            self.response_complete = True
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
            if not self.keep_alive:
                connection.transport.close()
            self.connection = None
            connection.go_on(self)

    async def _fail(self) -> None:
        """Say that the application gave no answer, or cut off one that is not whole."""
        connection = self.connection
        if connection is None:
            return
        if self.response_started:
            connection.transport.close()
            return
        problem, headers, content = write_error(InternalError("no answer"), self.scope)
        headers.append((b"connection", b"close"))
        await self.send(
            {"type": "http.response.start", "status": problem.status, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": content})

    def _tell(self) -> None:
        self._fresh = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
