"""The errors that only a server can have; error_response.py says what becomes of them over HTTP.

What time does to a request stands here too, since nothing below the service knows of time:

    ServiceError
    ├── InvalidRequest      a body that is not what the route takes     (the caller)
    │   ├── InvalidJson         not JSON at all
    │   ├── DuplicateKey        a field twice in one object
    │   ├── InvalidContentType  not declared as JSON
    │   ├── InvalidContentEncoding  compressed, but not with gzip, or not whole
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
    """The body is compressed otherwise than with gzip, or cannot be unpacked."""

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
    def of(cls, limit: int, state: str = "") -> "BodyTooLarge":
        """The error of a body with more bytes than the limit, in a state if not as it was sent."""
        size = f"{limit} bytes {state}".rstrip()
        return cls(f"the body has more than {size}; send several requests")


class HeadersTooLarge(ServiceError):
    """The headers are larger than the service reads."""

    code = "headers_too_large"


class RequestTimeout(ServiceError):
    """The request was not whole within its time."""

    code = "request_timeout"


class RateLimited(ServiceError):
    """The caller sends more requests a second than it may."""

    code = "rate_limited"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s


class PathRefused(InvalidRequest):
    """A path outside of the folders that bundles may be loaded from."""

    code = "path_not_allowed"


class BundleRefused(InvalidRequest):
    """A bundle that cannot be loaded. Says why, with the code of the reason: who asks operates."""

    code = "bundle_refused"


class InvalidKey(ServiceError):
    """No API key, or one that is not known; a `browser` may ask its user for one."""

    code = "invalid_api_key"

    def __init__(self, message: str, *, param: str | None = None, browser: bool = False) -> None:
        super().__init__(message, param=param)
        self.browser = browser


class CorsRefused(ServiceError):
    """A page of another origin asks for what it may not."""

    code = "cors_refused"


class RouteNotFound(ServiceError):
    """No route at that path."""

    code = "route_not_found"

    @classmethod
    def of(cls, path: str, docs: str, near: str | None = None) -> "RouteNotFound":
        """The error of a path; it names one that is `near`, and the page of routes, if not off."""
        meant = f"; is {near} meant?" if near else ""
        hint = "" if docs == "off" else f"{' See' if near else '; see'} /docs for what there is"
        return cls(f"there is no {path}{meant}{hint}")


class MethodNotAllowed(ServiceError):
    """The path does not take that method, but those that are `allowed`."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, param: str | None = None, allowed: str = "") -> None:
        super().__init__(message, param=param)
        self.allowed = allowed


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
