"""Who may ask what: keys, rates and sizes, judged on the headers alone, before the body is read.

Pure ASGI, inside the instrument, which counts and times what is refused, and the last layer above
the routes: what is let in is handed to the route that the endpoint has for its method.
"""

import ipaddress
import math
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from models.errors import ClozeError
from service import errors
from service.endpoint import Endpoint, Kind, Page
from service.error_response import CLOSE, send_error
from service.keys import KeyRing
from service.limits.body_budget import SMALL_BYTES
from service.limits.deadline import Deadline, read_lane, read_timeout
from service.limits.rate_limit import RateLimiter
from service.middleware.cors import describe_cors, explain_refusal, is_preflight
from service.middleware.drain import Drain
from service.scheduling.ticket import Lane
from service.scope import CLAIM, CROWDED, DEADLINE, ENDPOINT, KEY, RECORD
from service.settings import Access, Settings

# Of the length of a body that is surely not bulk: below ten kilobytes.
_SMALL_BYTES = 10_000
_SHOWN_CHARACTERS = 200
# Where other clients put their key: Azure's, and those of gateways.
_KEY_HEADERS = (b"api-key", b"x-api-key")

# Raises Overloaded where no model has room for a request of that lane, deadline and caller,
# whatever it asks.
Admit = Callable[[Lane, float, str], None]


class AccessControl:
    """Refuses what needs no look at the body, and lets the others through to their route."""

    def __init__(
        self,
        *,
        settings: Settings,
        keys: KeyRing,
        admin_keys: KeyRing | None = None,
        drain: Drain | None = None,
        admit: Admit = lambda *_: None,
        suggest: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._admin_keys = admin_keys
        self._drain = drain or Drain(lambda: None)
        self._admit = admit
        self._suggest = suggest
        self._limiter = (
            RateLimiter(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None
        )
        cors = settings.cors_origins
        self._cors = CORSMiddleware(_answer_nothing, **describe_cors(cors)) if cors else None
        self._pages: Mapping[Page, Access] = {"docs": settings.docs, "metrics": settings.metrics}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        endpoint: Endpoint = scope[ENDPOINT]
        try:
            if self._cors is not None and is_preflight(scope):
                await self._answer_preflight(self._cors, scope, receive, send)
                return
            self._check(scope, endpoint)
            if self._drain.begun and endpoint.kind in (Kind.WORK, Kind.ADMIN):
                await self._drain.refuse(scope, receive, send)
                return
            handler = endpoint.handlers.get(scope["method"])
            if handler is None:
                raise self._find_nothing(scope, endpoint)
        except ClozeError as error:
            if isinstance(error, errors.TooManyConnections):
                await send_error(send, error, scope, CLOSE)
            else:
                await send_error(send, error, scope)
            return
        await handler(scope, receive, send)

    async def _answer_preflight(
        self, cors: CORSMiddleware, scope: Scope, receive: Receive, send: Send
    ) -> None:
        # A browser asks without the key, whether it may send one.
        headers = Headers(scope=scope)
        response = cors.preflight_response(headers)
        if response.status_code != 200:
            raise errors.CorsRefused(explain_refusal(headers, self._settings.cors_origins))
        await response(scope, receive, send)

    def _check(self, scope: Scope, endpoint: Endpoint) -> None:
        kind, page = endpoint.kind, endpoint.page
        if kind is Kind.OPERATION and page is None:
            # Probes carry no keys, and are asked however busy it is.
            return
        if CROWDED in scope:
            limit = self._settings.max_connections
            raise errors.TooManyConnections(f"more than {limit} connections are open; try again")
        work = kind is Kind.WORK
        if page is not None:
            access = self._pages[page]
            if access == "off":
                raise errors.RouteNotFound.of(scope["path"], self._settings.docs)
            if access == "key":
                self._check_key(scope, self._keys, browser=True)
        elif work and (self._keys.keys or self._limiter):
            self._check_key(scope, self._keys)
            if self._limiter is not None:
                self._check_rate(self._find_caller(scope), self._limiter)
        elif kind is Kind.ADMIN and self._admin_keys is not None:
            self._check_key(scope, self._admin_keys)
        self._check_headers(scope, admitted=work and "POST" in endpoint.handlers)

    def _check_key(self, scope: Scope, keys: KeyRing, *, browser: bool = False) -> None:
        if not keys.keys:
            return
        sent = _find_header(scope, b"authorization")
        for header in _KEY_HEADERS:
            sent = sent or _as_bearer(_find_header(scope, header))
        name = keys.find(sent, basic=browser)
        if name is None:
            raise errors.InvalidKey(
                "send a known key with the header Authorization: Bearer KEY", browser=browser
            )
        scope[KEY] = name

    def _find_caller(self, scope: Scope) -> str:
        """Who asks: the name of its key, or else its address."""
        return scope.get(KEY) or self._find_address(scope)

    def _check_rate(self, caller: str, limiter: RateLimiter) -> None:
        wait_s = limiter.take(caller)
        if wait_s:
            raise errors.RateLimited(
                f"more than {self._settings.rate_limit:g} requests a second; "
                f"try again in {max(1, math.ceil(wait_s))} s",
                retry_after_s=wait_s,
            )

    def _find_address(self, scope: Scope) -> str:
        """The address of whoever asks; of IPv6 the network, since one host has a whole /64."""
        client = scope.get("client")
        address = str(client[0]) if client else ""
        proxies = self._settings.trusted_proxies
        if proxies:
            # Each proxy adds whom it was asked by: what stands further left, anyone may have sent.
            told = _find_header(scope, b"x-forwarded-for").decode("latin-1").rsplit(",", proxies)
            address = told[-proxies].strip() if len(told) >= proxies else address
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return address[:64]
        mapped = getattr(parsed, "ipv4_mapped", None)
        if parsed.version == 4 or mapped:
            return str(mapped or parsed)
        return str(ipaddress.ip_network((parsed, 64), strict=False))

    def _check_headers(self, scope: Scope, *, admitted: bool) -> None:
        """Judge the size, and of what is `admitted` when it wants its answer and whether it may."""
        size = 0
        packed = False
        lane: Lane | None = None
        timeout_s = self._settings.timeout_s
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                size = int(value[:19])
            elif name == b"content-encoding":
                packed = True
            elif name == b"x-request-timeout" and admitted:
                timeout_s = read_timeout(value)
            elif name == b"x-priority" and admitted:
                lane = read_lane(value)
        limit = self._settings.max_body_bytes
        if size > limit:
            raise errors.BodyTooLarge.of(limit)
        # A small one is counted when it comes.
        if size > SMALL_BYTES and CLAIM in scope and not scope[CLAIM].fits(size):
            raise scope[CLAIM].refuse()
        if admitted and scope["method"] == "POST":
            deadline = scope[RECORD].began + timeout_s
            # Without its body it is not known which model a request asks, nor how much: that is
            # checked later. A large one may be bulk, and is let through; a packed one may be large.
            small = size < _SMALL_BYTES and not packed
            caller = scope[RECORD].caller = self._find_caller(scope)
            if small:
                self._admit(lane or Lane.INTERACTIVE, deadline, caller)
            scope[DEADLINE] = Deadline(deadline, timeout_s, lane, asked=small)

    def _find_nothing(self, scope: Scope, endpoint: Endpoint) -> ClozeError:
        # As it was decoded: the URL made of it anew ends at the first question mark.
        path = scope["path"]
        path = path if len(path) <= _SHOWN_CHARACTERS else f"{path[:_SHOWN_CHARACTERS]}..."
        if not endpoint.handlers:
            # Whoever gets here may know which paths there are, but where the docs are off.
            docs = self._settings.docs
            near = None if docs == "off" else self._suggest(scope["path"])
            return errors.RouteNotFound.of(path, docs, near)
        allowed = ", ".join(sorted({*endpoint.handlers, *endpoint.others}))
        return errors.MethodNotAllowed(
            f"{path} does not take {scope['method']}; it takes {allowed}", allowed=allowed
        )


def _as_bearer(key: bytes) -> bytes:
    return b"Bearer " + key if key else b""


async def _answer_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """What stands behind the answers to preflights: it is never asked."""


def _find_header(scope: Scope, wanted: bytes) -> bytes:
    """The value of a header; the values of one that comes twice are joined, as HTTP has it."""
    return b",".join([value for name, value in scope["headers"] if name == wanted])
