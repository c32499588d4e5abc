"""What a connection answers in the application's place, or before there is a request, as bytes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from service.error_response import CLOSE, PHRASES, Headers, write_error
from service.errors import (
    ClientGone,
    HeadersTooLarge,
    MalformedHttp,
    RequestTimeout,
    ServiceError,
)
from service.middleware.instrument import find_request_id, write_times
from service.middleware.security_headers import STRICT
from service.observability.request_record import RequestRecord
from service.scope import RECORD

if TYPE_CHECKING:
    from service.server.connection import Connection

# Hears the scope, as far as it is known, the status, and the id and code.
Refused = Callable[[Scope, int, RequestRecord], None]

# What a client has sent before it reads the refusal is read too: a reset would take it away.
_LINGER_S = 2.0
_MOST_HEADERS = 1000
# nginx's number for a client that is gone, of one that did not take its answer.
_UNREAD = 499


class Refusals:
    """The refusals of one connection, after the first of which it ends.

    `malformed`: what came cannot be parsed, which is told in its turn. `too_large`: since it has
    too many headers. `closing`: the refusal has been sent.
    """

    __slots__ = ("closing", "malformed", "too_large")

    def __init__(self) -> None:
        self.closing = self.malformed = self.too_large = False

    def count(self, headers: Headers) -> None:
        """Raise ValueError where there are too many: each takes a hundred bytes, however short."""
        if len(headers) > _MOST_HEADERS:
            self.too_large = True
            raise ValueError("too many headers")  # the parser's error, told as what it is

    def refuse_in_turn(self, connection: "Connection") -> None:
        """What cannot be parsed has come: tell so once what came ahead of it is answered."""
        self.malformed = True
        exchange = connection.arriving
        # Its body is not whole, and it is what was read last: the mistake is in it.
        broken = exchange is not None and connection.under_way and exchange.more_body
        if broken and exchange is not None and exchange.response_complete:
            # Refused already, for another reason, before all of it was read.
            connection.transport.close()
        elif broken and len(connection.due) > 1:
            connection.drop_last()
        elif broken or not connection.due:
            self.refuse_malformed(connection)

    def refuse_malformed(self, connection: "Connection") -> None:
        """Say that what came cannot be parsed."""
        exchange = connection.arriving
        if self.too_large:
            self.refuse_headers(connection)
        elif exchange is not None and exchange.crumbled:
            self._refuse(
                connection,
                MalformedHttp(
                    "the body comes in thousands of chunks of a few bytes; send it whole, or in "
                    "chunks of a kilobyte and more"
                ),
            )
        else:
            self._refuse(
                connection,
                MalformedHttp(
                    "this cannot be read as an HTTP request; check the request line, that the "
                    "headers agree with one another, and that the body is as long as they say"
                ),
            )

    def refuse_headers(self, connection: "Connection") -> None:
        """Say that the headers have no end."""
        limit = connection.bounds.max_header_bytes
        self._refuse(
            connection,
            HeadersTooLarge(
                f"the request line and headers have more than {limit} bytes, or are more than "
                f"{_MOST_HEADERS}; send fewer or shorter ones"
            ),
        )

    def refuse_slow(self, connection: "Connection") -> None:
        """Say that the request does not arrive."""
        limit_s = connection.bounds.receive_timeout_s
        self._refuse(
            connection,
            RequestTimeout(
                f"the request was not whole within {limit_s:g} s; send it faster, or in parts"
            ),
        )

    def abandon(self, connection: "Connection") -> None:
        """End it at once: its client does not read, or hardly."""
        connection.transport.abort()
        gone = ClientGone("the client did not read its answer")
        scope = _describe((), connection.client)
        connection.refused(scope, _UNREAD, _make_record(scope, gone))

    def _refuse(self, connection: "Connection", error: ServiceError) -> None:
        """Answer in the application's place, and close."""
        self.closing = True
        connection.timers.stop_receiving()
        transport, exchange = connection.transport, connection.arriving
        if transport.is_closing():
            return
        started = connection.under_way and exchange is not None and exchange.response_started
        if connection.is_answering() or started:
            # An answer here would pass for another one, or for a part of it.
            transport.abort()
            return
        if connection.under_way and exchange is not None:
            # The application counts and logs it, if it knows of it: as the request under way.
            scope = exchange.scope
            known = scope.get(RECORD)
            record = _make_record(scope, error)
            record.request_id = known.request_id if known is not None else record.request_id
            status, answer = _write(error, scope, record, connection.default_headers)
            if exchange.begun:
                exchange.refuse(error)
            else:
                connection.refused(scope, status, record)
        else:
            # Without the headers of the request before, where none has begun.
            headers = () if connection.whole else connection.headers
            scope = _describe(headers, connection.client)
            record = _make_record(scope, error)
            status, answer = _write(error, None, record, connection.default_headers)
            connection.refused(scope, status, record)
        connection.resume_reading()
        transport.write(answer)
        transport.write_eof()
        connection.loop.call_later(_LINGER_S, transport.abort)


def _write(
    error: ServiceError, scope: Scope | None, record: RequestRecord, further: Headers
) -> tuple[int, bytes]:
    """An error's status, and all of its answer, with further headers."""
    problem, headers, content = write_error(error, scope)
    told = (
        (b"server-timing", write_times(record)),
        (b"x-request-id", record.request_id.encode()),
    )
    lines = [
        b"HTTP/1.1 %d %s" % (problem.status, PHRASES[problem.status]),
        *(b"%s: %s" % header for header in (*further, *STRICT, *told, *headers, CLOSE)),
    ]
    return problem.status, b"\r\n".join(lines) + b"\r\n\r\n" + content


def _describe(headers: Any, client: Any) -> Scope:
    """The scope of what has not become a request, as far as a log line may tell of it."""
    return {"type": "http", "headers": headers, "client": client, "method": "", "path": ""}


def _make_record(scope: Scope, error: ServiceError) -> RequestRecord:
    """The record of a request that is refused before the application has one."""
    return RequestRecord(request_id=find_request_id(scope), code=error.code)
