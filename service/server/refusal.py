"""Answers that are given before there is a request, or in its place, as bytes."""

from collections.abc import Callable
from typing import Any

from starlette.types import Scope

from service.error_response import CLOSE, PHRASES, Headers, write_error
from service.errors import HeadersTooLarge, MalformedHttp, RequestTimeout, ServiceError
from service.middleware.instrument import find_request_id, write_times
from service.middleware.security_headers import STRICT
from service.observability.request_record import RequestRecord
from service.settings import Settings

# Hears the scope, as far as it is known, the status, and the id and code.
Refused = Callable[[Scope, int, RequestRecord], None]

_MALFORMED = (
    "this cannot be read as an HTTP request; check the request line, that the headers agree "
    "with one another, and that the body is as long as they say"
)


def write_refusal(
    error: ServiceError, scope: Scope | None, record: RequestRecord, further: Headers
) -> bytes:
    """An error as a whole answer over HTTP, with further headers; the connection ends with it."""
    problem, headers, content = write_error(error, scope)
    lines = [
        b"HTTP/1.1 %d %s" % (problem.status, PHRASES[problem.status]),
        *(
            b"%s: %s" % header
            for header in (
                *further,
                *STRICT,
                (b"server-timing", write_times(record)),
                (b"x-request-id", record.request_id.encode()),
                *headers,
                CLOSE,
            )
        ),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


def describe_unknown(headers: Any, client: Any) -> Scope:
    """The scope of what has not become a request, as far as a log line may tell of it."""
    return {"type": "http", "headers": headers, "client": client, "method": "", "path": ""}


def make_record(scope: Scope, error: ServiceError) -> RequestRecord:
    """The record of a request that is refused before the application has one."""
    return RequestRecord(request_id=find_request_id(scope), code=error.code)


def malformed() -> ServiceError:
    """The error of what cannot be parsed."""
    return MalformedHttp(_MALFORMED)


def too_large(bounds: Settings) -> ServiceError:
    """The error of headers without end."""
    return HeadersTooLarge(
        f"the request line and headers have more than {bounds.max_header_bytes} bytes; "
        "send fewer or shorter ones"
    )


def too_slow(bounds: Settings) -> ServiceError:
    """The error of a request that does not arrive."""
    return RequestTimeout(
        f"the request was not whole within {bounds.receive_timeout_s:g} s; "
        "send it faster, or in parts"
    )
