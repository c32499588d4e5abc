"""Who may ask: keys, rates and sizes, judged on the headers alone, before the body is read.

Pure ASGI, inside the edge, which counts and times what is refused, and before FastAPI's routes.
"""

import ipaddress
import math
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from models.errors import ClozeError
from service import errors
from service.errors import describe, find_status
from service.keys import KeyRing
from service.limits.body_budget import CLAIM, Claim
from service.limits.rate_limit import RateLimiter
from service.middleware.instrument import TIMES
from service.middleware.security_headers import describe_cors
from service.settings import Access, Settings

# In the scope: the name of the key that let a request in, and that connections are too many.
KEY = "cloze.key"
CROWDED = "cloze.crowded"

DOCS = ("/docs", "/openapi.json")
METRICS = "/metrics"
_CHALLENGE = ((b"www-authenticate", b"Bearer"),)
_BROWSER_CHALLENGE = (*_CHALLENGE, (b"www-authenticate", b'Basic realm="cloze", charset="UTF-8"'))


class Guard:
    """Wraps the application: refuses what needs no look at the body.

    `admit` raises an error where there is no room for a request, whatever it asks; `find_route`
    gives the route of a path, by whose name the edge counts a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        keys: KeyRing,
        admin_keys: KeyRing | None = None,
        admit: Callable[[Scope], None] = lambda _: None,
        find_route: Callable[[str], Any] = lambda _: None,
    ) -> None:
        self.app = app
        self._settings = settings
        self._keys = keys
        self._admin_keys = admin_keys
        self._admit = admit
        self._find_route = find_route
        self._limiter = (
            RateLimiter(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None
        )
        cors = settings.cors_origins
        self._cors = CORSMiddleware(app, **describe_cors(cors)) if cors else None
        self._access: Mapping[str, Access] = {
            **dict.fromkeys(DOCS, settings.docs),
            METRICS: settings.metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] == "http":
            path: str = scope["path"]
            # Also for those that FastAPI does not name: refusals, preflights, documents.
            scope["route"] = self._find_route(path)
            try:
                if self._cors is not None and _is_preflight(scope):
                    await self._answer_preflight(self._cors, scope, receive, send)
                    return
                self._check(scope, path)
            except _Refusal as refusal:
                scope[TIMES].code = refusal.error.code
                await refusal.send(send)
                return
        await self.app(scope, receive, send)

    async def _answer_preflight(
        self, cors: CORSMiddleware, scope: Scope, receive: Receive, send: Send
    ) -> None:
        # A browser asks without the key, whether it may send one.
        response = cors.preflight_response(Headers(scope=scope))
        if response.status_code != 200:
            raise _Refusal(
                errors.CorsRefused("this origin, method or header is not allowed by CORS")
            )
        await response(scope, receive, send)

    def _check(self, scope: Scope, path: str) -> None:
        if path.startswith("/health/"):
            # Probes carry no keys, and are asked however busy it is.
            return
        if scope.get(CROWDED):
            limit = self._settings.max_connections
            raise _Refusal(
                errors.TooManyConnections(f"more than {limit} connections are open; try again"),
                ((b"retry-after", b"1"), (b"connection", b"close")),
            )
        access = self._access.get(path)
        if access == "off":
            raise _Refusal(errors.RouteNotFound.of(path, self._settings.docs))
        task = path.startswith("/v1/") or path == "/v1"
        # Any other path is open, or looks after itself.
        if (task and (self._keys or self._limiter)) or access == "key":
            self._check_key(scope, browser=not task)
            if task and self._limiter:
                self._check_rate(scope, self._limiter)
        if self._admin_keys and path.startswith("/admin/"):
            self._check_key(scope, browser=False, keys=self._admin_keys)
        self._check_size(scope)
        if task and scope["method"] == "POST" and scope["route"] is not None:
            try:
                self._admit(scope)
            except errors.Overloaded as error:
                retry_s = max(1, math.ceil(error.retry_after_s))
                raise _Refusal(error, ((b"retry-after", b"%d" % retry_s),)) from None

    def _check_key(self, scope: Scope, *, browser: bool, keys: KeyRing | None = None) -> None:
        keys = keys or self._keys
        if not keys:
            return
        name = keys.find(_find_header(scope, b"authorization"), basic=browser)
        if name is None:
            raise _Refusal(
                errors.InvalidKey("send a known key with the header Authorization: Bearer KEY"),
                _BROWSER_CHALLENGE if browser else _CHALLENGE,
            )
        scope[KEY] = name

    def _check_rate(self, scope: Scope, limiter: RateLimiter) -> None:
        caller = scope.get(KEY) or self._find_address(scope)
        wait_s = limiter.take(caller)
        if wait_s:
            retry_s = max(1, math.ceil(wait_s))
            raise _Refusal(
                errors.RateLimited(
                    f"more than {self._settings.rate_limit:g} requests a second; "
                    f"try again in {retry_s} s"
                ),
                ((b"retry-after", b"%d" % retry_s),),
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

    def _check_size(self, scope: Scope) -> None:
        limit = self._settings.max_body_bytes
        claim: Claim | None = scope.get(CLAIM)
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                size = int(value[:19])
                if size > limit:
                    raise _Refusal(errors.BodyTooLarge.of(limit))
                if claim is not None and not claim.fits(size):
                    raise _Refusal(claim.refuse(), ((b"retry-after", b"1"),))


class _Refusal(Exception):
    """An answer that is given without asking the application."""

    def __init__(self, error: ClozeError, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.error = error
        self.headers = headers

    async def send(self, send: Send) -> None:
        content = orjson.dumps(describe(self.error))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
            *self.headers,
        ]
        status = find_status(self.error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _is_preflight(scope: Scope) -> bool:
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names


def _find_header(scope: Scope, wanted: bytes) -> bytes:
    """The value of a header; the values of one that comes twice are joined, as HTTP has it."""
    return b",".join([value for name, value in scope["headers"] if name == wanted])
