"""HTTP/1.1 as uvicorn speaks it, but with our one shape of errors for what is not HTTP at all.

uvicorn answers a request that cannot be parsed with plain text, and at once: before the answers to
the sound requests that came ahead of it in the same packet, whose client would take it for theirs.
"""

from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import InvalidHttp, describe, find_status
from service.times import Times

_MESSAGE = (
    "this is not HTTP/1.1 as the service reads it; check the request line, that the headers agree "
    "with one another, and that the body is as long as they say"
)


class Protocol(HttpToolsProtocol):
    """One connection. What is malformed is refused in its turn, and then the connection ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refused = False
        self._answering = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came; nothing after it could not be parsed once."""
        if not self._refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, after the answers that are still due."""
        self._refused = True
        broken = self._find_broken()
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            # Its turn has not come, and never will.
            self.pipeline.popleft()
            self._answering -= 1
            return
        if broken is not None and broken.response_started:
            # Already refused for another reason, unread.
            self.transport.close()
        elif broken is not None or not self._answering:
            self._refuse()

    def on_response_complete(self) -> None:
        """Go on with the next request, or refuse what came after the last."""
        self._answering -= 1
        super().on_response_complete()
        if self._refused and not self._answering and not self.transport.is_closing():
            self._refuse()

    def on_headers_complete(self) -> None:
        """Begin a request, or queue it."""
        super().on_headers_complete()
        self._answering += 1

    def _find_broken(self) -> RequestResponseCycle | None:
        """The request in whose body the mistake is; None where it began a new one."""
        # Until the first line of a request is read, there is none.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or not cycle.more_body or cycle.scope is not self.scope:
            return None
        return cycle

    def _refuse(self) -> None:
        error = InvalidHttp(_MESSAGE)
        body = orjson.dumps(describe(error))
        self.transport.write(
            b"HTTP/1.1 %d Bad Request\r\n"
            b"content-type: application/json\r\n"
            b"content-length: %d\r\n"
            b"server-timing: %s\r\n"
            b"connection: close\r\n"
            b"\r\n%s" % (find_status(error), len(body), Times().header().encode(), body)
        )
        self.transport.close()
