"""What becomes of an error over HTTP: one shape, and the only table of statuses.

What time does to a request stands here too, since nothing below the service knows of time:

    ServiceError
    ├── InvalidRequest      a body that is not what the route takes     (the caller)
    │   ├── InvalidJson         not JSON at all
    │   ├── DuplicateKey        a field twice in one object
    │   ├── InvalidContentType  not declared as JSON
    │   ├── InvalidContentEncoding  compressed
    │   ├── MalformedHttp       not HTTP at all
    │   ├── TooManyCharacters   more text than one request may carry
    │   ├── BodyTooLarge        more bytes than are read
    │   ├── PathRefused         not where bundles may lie
    │   └── BundleRefused       a bundle that cannot be loaded, told in full (the operator)
    ├── HeadersTooLarge     more bytes of headers than are read         (the caller)
    ├── RequestTimeout      the request was not whole in time           (the caller)
    ├── InvalidKey          no key, or an unknown one                   (the caller)
    ├── RateLimited         more requests than this caller may send     (the caller)
    ├── CorsRefused         a page of another origin may not ask this   (the caller)
    ├── RouteNotFound       no such path                                (the caller)
    ├── MethodNotAllowed    the path, but not the method                (the caller)
    ├── Conflict            the set of models does not allow it         (the operator)
    │   ├── ChangeUnderWay      another change of it is not over yet
    │   └── LastModel           without it nothing would answer
    ├── Overloaded          the queue is full                           (time)
    ├── TooManyConnections  more than the service keeps open            (time)
    ├── TooMuchPending      more bytes of requests than are held at once (time)
    ├── NotReady            still loading, or shutting down             (time)
    ├── DeadlinePassed      the answer would come too late              (time)
    └── ClientGone          nobody is there to be answered              (time)
"""

from typing import Any

from pydantic import BaseModel, Field

from models import errors
from models.errors import ClozeError


class ServiceError(ClozeError):
    """An error that only a server can have; some know after how long to try again."""

    code = "service_error"
    retry_after_s: float = 1.0


class InvalidRequest(ServiceError):
    """The body is JSON, but not what the route takes."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param)
        self.detail = code


class InvalidJson(InvalidRequest):
    """The body is not JSON."""

    code = "invalid_json"


class DuplicateKey(InvalidRequest):
    """An object of the body has a key twice, so that one of its values would be lost."""

    code = "duplicate_key"


class InvalidContentType(InvalidRequest):
    """The body is not declared as JSON."""

    code = "invalid_content_type"


class InvalidContentEncoding(InvalidRequest):
    """The body is compressed, or otherwise not sent as it is."""

    code = "invalid_content_encoding"


class MalformedHttp(InvalidRequest):
    """What arrived is not HTTP."""

    code = "malformed_http"


class TooManyCharacters(InvalidRequest):
    """More characters than one request may carry."""

    code = "too_many_characters"


class BodyTooLarge(InvalidRequest):
    """The body is larger than the service reads."""

    code = "body_too_large"

    @classmethod
    def of(cls, limit: int) -> "BodyTooLarge":
        """The error of a body with more bytes than the limit."""
        return cls(f"the body has more than {limit} bytes; send several requests")


class HeadersTooLarge(ServiceError):
    """The headers are larger than the service reads."""

    code = "headers_too_large"


class RequestTimeout(ServiceError):
    """The request was not whole within its time."""

    code = "request_timeout"


class RateLimited(ServiceError):
    """The caller sends more requests a second than it may."""

    code = "rate_limited"


class PathRefused(InvalidRequest):
    """A path outside of the folders that bundles may be loaded from."""

    code = "path_not_allowed"


class BundleRefused(InvalidRequest):
    """A bundle that cannot be loaded. Says why, with the code of the reason: who asks operates."""

    code = "bundle_refused"


class InvalidKey(ServiceError):
    """No API key, or one that is not known."""

    code = "invalid_api_key"


class CorsRefused(ServiceError):
    """A page of another origin asks for what it may not."""

    code = "cors_refused"


class RouteNotFound(ServiceError):
    """No route at that path."""

    code = "route_not_found"

    @classmethod
    def of(cls, path: str, docs: str) -> "RouteNotFound":
        """The error of a path; it names the page of the routes, if that is not off."""
        hint = "" if docs == "off" else "; see /docs for what there is"
        return cls(f"there is no {path}{hint}")


class MethodNotAllowed(ServiceError):
    """The route does not take that method."""

    code = "method_not_allowed"


class Conflict(ServiceError):
    """The set of models is not such that it can be changed so."""

    code = "conflict"


class ChangeUnderWay(Conflict):
    """Another change of the set of models is not over yet."""

    code = "change_under_way"


class LastModel(Conflict):
    """Without this model nothing would answer."""

    code = "last_model"


class Overloaded(ServiceError):
    """The queue is full, or the deadline would pass before there is an answer."""

    code = "overloaded"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class TooManyConnections(ServiceError):
    """More connections than the service keeps open."""

    code = "too_many_connections"


class TooMuchPending(ServiceError):
    """More bytes of requests than the service holds at once."""

    code = "too_much_pending"


class NotReady(ServiceError):
    """The service is still loading, or shutting down."""

    code = "not_ready"


class DeadlinePassed(ServiceError):
    """The request waited longer than it may."""

    code = "deadline_passed"


class ClientGone(ServiceError):
    """The client closed the connection before it was answered."""

    code = "client_gone"


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
_MESSAGE_CHARACTERS = 1_000
_NAME_CHARACTERS = 200
_INTERNAL_MESSAGE = "an error of the service's own; it was logged"


class ErrorDetail(BaseModel):
    """What went wrong: a sentence, its kind, a stable word, and the field it is about."""

    message: str = Field(examples=["inputs[2]: the text is empty"])
    type: str = Field(examples=["invalid_request_error"])
    code: str = Field(examples=["empty_input"])
    param: str | None = Field(examples=["inputs[2]"])


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def find_status(error: ClozeError) -> int:
    """The HTTP status of an error."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def describe(error: ClozeError) -> dict[str, Any]:
    """The body of an error. Errors of our own are told without what they say."""
    status = find_status(error)
    ours = status >= 500 and not isinstance(error, ServiceError)
    detail = error.detail if isinstance(error, InvalidRequest) else None
    known = not ours or isinstance(error, errors.InternalError)
    return {
        "error": {
            "message": _INTERNAL_MESSAGE if ours else _shorten(str(error), _MESSAGE_CHARACTERS),
            "type": _TYPES.get(status, "server_error" if ours else "invalid_request_error"),
            "code": errors.InternalError.code if ours else detail or error.code,
            # Where it is known which item it was, the others can be sent again without it.
            "param": _shorten(error.param, _NAME_CHARACTERS) if known and error.param else None,
        }
    }


def _shorten(text: str, characters: int) -> str:
    """The beginning and the end, where the remedy stands: a request may name a field of 10 MB."""
    if len(text) <= characters:
        return text
    return f"{text[: characters // 2]} ... {text[-characters // 2 :]}"
