"""HTTP/1.1 as uvicorn speaks it, but with our one shape of errors for what is not HTTP at all.

uvicorn answers a request that cannot be parsed with plain text, and at once: before the answers to
the sound requests that came ahead of it in the same packet, whose client would take it for theirs.
"""

from collections import deque
from typing import Any, cast

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import MalformedHttp, describe, find_status
from service.flow import Joined
from service.times import Times

_MESSAGE = (
    "this cannot be read as an HTTP request; check the request line, that the headers agree "
    "with one another, and that the body is as long as they say"
)


class Connection(HttpToolsProtocol):
    """One connection. What is malformed is refused in its turn, and then the connection ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refused = False
        # What has begun and is not answered yet, in the order in which it came.
        self._due: deque[RequestResponseCycle] = deque()
        # Bytes of a body that the parser does not know of.
        self._unparsed = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came, also after an offer of another protocol, which nobody takes up."""
        self._unset_keepalive_if_required()
        while data and not self._refused:
            if self._unparsed:
                data = self._take_body(data)
                continue
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                self._decline_upgrade()
            except httptools.HttpParserError as error:
                self.logger.debug("not HTTP: %s", error)
                self._refuse_in_turn()
            else:
                return

    def on_headers_complete(self) -> None:
        """Begin a request, or queue it."""
        super().on_headers_complete()
        self.cycle.transport = Joined(self.cycle)
        self._due.append(self.cycle)

    def on_response_complete(self) -> None:
        """Go on with the next request, or refuse what came after the last."""
        answer = cast("Joined", self._due.popleft().transport)
        answer.flush()
        answer.part()
        super().on_response_complete()
        if self._refused and not self._due:
            self.send_400_response(_MESSAGE)

    def eof_received(self) -> None:
        """The client has hung up: nothing is written to it from here on, not even an error."""
        for cycle in self._due:
            cycle.disconnected = True
            cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what was not answered."""
        for cycle in self._due:
            cast("Joined", cycle.transport).part()
        super().connection_lost(exc)

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

    def _decline_upgrade(self) -> None:
        """Read the body of the request too: Java's client offers HTTP/2 with each that has one.

        For the parser it is over, and what follows another protocol.
        """
        headers = dict(self.headers)
        self._unparsed = int(headers.get(b"content-length", b"0"))
        if self._unparsed or b"transfer-encoding" in headers:
            self.cycle.more_body = True
            self.cycle.message_event.clear()
        if b"transfer-encoding" in headers:
            # Chunks would have to be parsed here, and no client is known to send them so.
            self._refuse_in_turn()

    def _take_body(self, data: bytes) -> bytes:
        """Add to the body what belongs to it, and return the rest."""
        part = data[: self._unparsed]
        self._unparsed -= len(part)
        self.on_body(part)
        if not self._unparsed:
            self.on_message_complete()
        return data[len(part) :]

    def _refuse_in_turn(self) -> None:
        self._refused = True
        cycle: RequestResponseCycle | None = self.cycle
        # Its body is not whole, and it is what was read last: the mistake is in it.
        broken = cycle is not None and cycle.more_body and cycle.scope is self.scope
        if broken and cycle is not None and cycle.response_complete:
            # Refused already, for another reason, before all of it was read.
            self.transport.close()
        elif broken and len(self._due) > 1:
            self._due.pop()
            self.pipeline.popleft()
        elif broken or not self._due:
            self.send_400_response(_MESSAGE)
