"""What becomes of an error over HTTP: the table of statuses, one shape, and one writer.

A dialect may have a status of its own for a code, and a shape of its own.
"""

import http
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import BaseModel, Field
from starlette.types import Scope, Send

from models import errors
from models.errors import ClozeError
from models.text.truncation import CUT_IT
from service.errors import (
    BodyTooLarge,
    ClientGone,
    Conflict,
    CorsRefused,
    DeadlinePassed,
    DuplicateKey,
    HeadersTooLarge,
    InvalidContentEncoding,
    InvalidContentType,
    InvalidJson,
    InvalidKey,
    InvalidRequest,
    MalformedHttp,
    MethodNotAllowed,
    NotReady,
    Overloaded,
    RateLimited,
    RequestTimeout,
    RouteNotFound,
    ServiceError,
    TooManyConnections,
    TooMuchPending,
)
from service.scope import ENDPOINT, RECORD

Headers = list[tuple[bytes, bytes]]

# The nearest ancestor in this table decides.
STATUSES: dict[type[ClozeError], int] = {
    ClozeError: 500,
    errors.CallerError: 422,
    errors.ModelNotFound: 404,
    InvalidRequest: 422,
    InvalidJson: 400,
    DuplicateKey: 400,
    InvalidContentType: 400,
    InvalidContentEncoding: 400,
    MalformedHttp: 400,
    BodyTooLarge: 413,
    HeadersTooLarge: 431,
    RequestTimeout: 408,
    InvalidKey: 401,
    CorsRefused: 403,
    RateLimited: 429,
    RouteNotFound: 404,
    MethodNotAllowed: 405,
    Conflict: 409,
    Overloaded: 429,
    TooManyConnections: 503,
    TooMuchPending: 503,
    NotReady: 503,
    DeadlinePassed: 504,
    # nginx's number; it is logged and counted, there is nobody to send it to.
    ClientGone: 499,
}
_TYPES = {
    401: "authentication_error",
    409: "conflict_error",
    429: "overloaded_error",
    503: "unavailable_error",
    504: "timeout_error",
}
# How a request ended, in one of eight words, where its status does not say it by its hundreds.
_OUTCOMES = {
    0: "error",  # nothing was answered
    401: "unauthorized",
    403: "unauthorized",
    429: "overloaded",
    499: "gone",
    503: "not_ready",
    504: "deadline",
}
PHRASES = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_WAIT = (429, 503)
# Of a dialect that has no statuses of its own.
_OURS: Mapping[str, int] = {}
_MESSAGE_CHARACTERS = 1_000
_NAME_CHARACTERS = 200
_INTERNAL_MESSAGE = "an error of the service's own; it was logged"
# The connection ends with the answer.
CLOSE = (b"connection", b"close")
JSON = (b"content-type", b"application/json")


class ErrorDetail(BaseModel):
    """What went wrong: a sentence, its kind, a stable word, and the field it is about."""

    message: str = Field(examples=["inputs[2]: the text is empty"])
    type: str = Field(examples=["invalid_request_error"])
    code: str = Field(examples=["empty_input"])
    param: str | None = Field(examples=["inputs[2]"])


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in the caller's terms, before a dialect gives it a shape."""

    status: int
    message: str
    type: str
    code: str
    param: str | None


def find_status(error: ClozeError, statuses: Mapping[str, int] = _OURS) -> int:
    """The HTTP status of an error, by the `statuses` of a dialect where these have its code."""
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    return status if status >= 500 else statuses.get(_find_code(error), status)


def find_outcome(status: int) -> str:
    """How a request ended, in one of eight words."""
    if 0 < status < 400:
        return "ok"
    return _OUTCOMES.get(status, "invalid" if 0 < status < 500 else "error")


def describe_error(error: ClozeError, statuses: Mapping[str, int] = _OURS) -> Problem:
    """The error for its caller. Errors of our own are told without what they say."""
    status = find_status(error, statuses)
    ours = status >= 500 and not isinstance(error, ServiceError)
    known = not ours or isinstance(error, errors.InternalError)
    return Problem(
        status=status,
        message=_INTERNAL_MESSAGE if ours else _shorten(str(error), _MESSAGE_CHARACTERS),
        type=_TYPES.get(status, "server_error" if ours else "invalid_request_error"),
        code=errors.InternalError.code if ours else _find_code(error),
        # Where it is known which item it was, the others can be sent again without it.
        param=_shorten(error.param, _NAME_CHARACTERS) if known and error.param else None,
    )


def shape_error(problem: Problem) -> dict[str, Any]:
    """The body of an error in our own dialect, which is OpenAI's."""
    return {
        "error": {
            "message": problem.message,
            "type": problem.type,
            "code": problem.code,
            "param": problem.param,
        }
    }


def write_error(error: ClozeError, scope: Scope | None = None) -> tuple[Problem, Headers, bytes]:
    """An error as an answer: what it tells, its headers and its body.

    In the dialect of the path that was asked for, where that is known.
    """
    endpoint = None if scope is None else scope.get(ENDPOINT)
    if endpoint is None:
        problem, shape = describe_error(error), shape_error
    else:
        dialect = endpoint.dialect
        problem, shape = describe_error(error, dialect.statuses), dialect.shape_error
        if dialect.cut_it:
            problem = replace(problem, message=problem.message.replace(CUT_IT, dialect.cut_it))
    content = orjson.dumps(shape(problem))
    headers = [JSON, (b"content-length", b"%d" % len(content)), *_list_headers(error, problem)]
    return problem, headers, content


async def send_error(
    send: Send, error: ClozeError, scope: Scope, *further: tuple[bytes, bytes]
) -> None:
    """Answer a request with an error; its record learns the code."""
    problem, headers, content = write_error(error, scope)
    if RECORD in scope:
        scope[RECORD].code = problem.code
    headers.extend(further)
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _find_code(error: ClozeError) -> str:
    return (error.detail if isinstance(error, InvalidRequest) else None) or error.code


def _list_headers(error: ClozeError, problem: Problem) -> Headers:
    if problem.status in _WAIT:
        after_s = error.retry_after_s if isinstance(error, ServiceError) else 1.0
        return [(b"retry-after", b"%d" % max(1, math.ceil(after_s)))]
    if isinstance(error, InvalidKey):
        bearer = (b"www-authenticate", b"Bearer")
        basic = (b"www-authenticate", b'Basic realm="cloze", charset="UTF-8"')
        return [bearer, basic] if error.browser else [bearer]
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", error.allowed.encode())]
    return []


def _shorten(text: str, characters: int) -> str:
    """The beginning and the end, where the remedy stands: a request may name a field of 10 MB."""
    if len(text) <= characters:
        return text
    return f"{text[: characters // 2]} ... {text[-characters // 2 :]}"
