"""HTTP/1.1 as uvicorn speaks it, but with our one shape of errors for what is not HTTP at all.

uvicorn answers a request that cannot be parsed with plain text, and at once: before the answers to
the sound requests that came ahead of it in the same packet, whose client would take it for theirs.
"""

import asyncio
from collections import deque
from typing import Any, cast

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import MalformedHttp, describe, find_status
from service.observability.request_record import Times
from service.server.transport import Joined, PatientFlow

_MESSAGE = (
    "this cannot be read as an HTTP request; check the request line, that the headers agree "
    "with one another, and that the body is as long as they say"
)

# So many requests wait for their turn; what comes behind them waits as bytes.
_MAX_WAITING = 16
# Parsed at once, unless more is known to belong to one body: 57 of the smallest requests.
_PIECE_BYTES = 1024
_NOTHING = memoryview(b"")


class Connection(HttpToolsProtocol):
    """One connection. What is malformed is refused in its turn, and then the connection ends."""

    flow: PatientFlow

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refused = False
        # What has begun and is not answered yet, in the order in which it came.
        self._due: deque[RequestResponseCycle] = deque()
        # What has come and is not parsed yet; nothing more is read meanwhile.
        self._ahead = _NOTHING
        # Bytes that are left of a body of declared length, and of one the parser does not know of.
        self._body_left = self._unparsed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read on only where nothing waits that has come already."""
        super().connection_made(transport)
        self.flow = PatientFlow(transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came, as far as there is room for more requests."""
        self._unset_keepalive_if_required()
        if not self._refused:
            self._ahead = memoryview(data)
            self._parse_ahead()
            if self._ahead and not self._may_wait(len(data)):
                self._take_no_more()

    def on_headers_complete(self) -> None:
        """Begin a request, or queue it."""
        super().on_headers_complete()
        self._body_left = int(dict(self.headers).get(b"content-length", b"0"))
        self.cycle.transport = Joined(self.cycle)
        self._due.append(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_left -= len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Go on with the next request, or refuse what came after the last."""
        answer = cast("Joined", self._due.popleft().transport)
        answer.flush()
        answer.part()
        super().on_response_complete()
        if self.transport.is_closing():
            return
        self._parse_ahead()
        self.flow.resume_reading()
        if self._refused and not self._due:
            self.send_400_response(_MESSAGE)

    def eof_received(self) -> None:
        """The client has hung up: nothing is written to it from here on, not even an error."""
        for cycle in self._due:
            cycle.disconnected = True
            cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what was not answered."""
        self._ahead = _NOTHING
        for cycle in self._due:
            cast("Joined", cycle.transport).part()
        super().connection_lost(exc)
        for cycle, _ in self.pipeline:
            cycle.on_response = _expect_nothing
        self.pipeline.clear()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, and hang up; called once its turn has come."""
        if self.transport.is_closing():
            return
        error = MalformedHttp(msg)
        body = orjson.dumps(describe(error))
        self.transport.write(
            b"HTTP/1.1 %d Bad Request\r\n"
            b"content-type: application/json\r\n"
            b"content-length: %d\r\n"
            b"server-timing: %s\r\n"
            b"connection: close\r\n"
            b"\r\n%s" % (find_status(error), len(body), Times().header().encode(), body)
        )
        self.eof_received()
        self.transport.close()

    def _parse_ahead(self) -> None:
        while self._ahead and not self._refused and len(self._due) <= _MAX_WAITING:
            size = max(_PIECE_BYTES, self._body_left)
            self._ahead = self._ahead[self._parse(self._ahead[:size]) :]
        if self._refused:
            self._ahead = _NOTHING
        self.flow.behind = bool(self.pipeline or self._ahead)

    def _parse(self, data: memoryview) -> int:
        """Parse a piece, also after an offer of another protocol, which nobody takes up.

        Returns how much of it was read.
        """
        if self._unparsed:
            return self._take_body(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline_upgrade()
            read: int = offer.args[0]
            return read
        except httptools.HttpParserError as error:
            self.logger.debug("not HTTP: %s", error)
            self._refuse_in_turn()
        return len(data)

    def _may_wait(self, size: int) -> bool:
        """Whether so many bytes may wait until the requests ahead of them are answered."""
        del size
        return True

    def _take_no_more(self) -> None:
        """Answer what is whole, and hang up; whoever sent more sees that, and sends it again."""
        self._refused, self._ahead = True, _NOTHING
        if self.cycle.more_body:
            self._drop_last()
        self._due[-1].keep_alive = False

    def _drop_last(self) -> None:
        """Forget the request that came last, which waits."""
        cycle = self._due.pop()
        cast("Joined", cycle.transport).part()
        cycle.on_response = _expect_nothing
        self.pipeline.popleft()

    def _decline_upgrade(self) -> None:
        """Read the body of the request too: Java's client offers HTTP/2 with each that has one.

        For the parser it is over, and what follows another protocol.
        """
        self._unparsed = self._body_left
        chunked = b"transfer-encoding" in dict(self.headers)
        if self._unparsed or chunked:
            self.cycle.more_body = True
            self.cycle.message_event.clear()
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

    def _refuse_in_turn(self) -> None:
        self._refused = True
        cycle: RequestResponseCycle | None = self.cycle
        # Its body is not whole, and it is what was read last: the mistake is in it.
        broken = cycle is not None and cycle.more_body and cycle.scope is self.scope
        if broken and cycle is not None and cycle.response_complete:
            # Refused already, for another reason, before all of it was read.
            self.transport.close()
        elif broken and len(self._due) > 1:
            self._drop_last()
        elif broken or not self._due:
            self.send_400_response(_MESSAGE)


def _expect_nothing() -> None:
    """What a request tells of its answer that never begins; uvicorn has the same for the others."""
