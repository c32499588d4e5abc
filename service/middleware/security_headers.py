"""The headers that every answer carries, also errors: what browsers may not do with it.

Made once, as bytes. Also CORS: which pages of other origins may read an answer.
"""

from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = b"content-security-policy"
COMMON = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
# Nothing is loaded, run or framed.
STRICT = (*COMMON, (_POLICY, b"default-src 'none'; frame-ancestors 'none'"))


class SecurityHeaders:
    """Wraps the application: adds the headers to each answer.

    An answer that has a Content-Security-Policy of its own, as the page of /docs, keeps that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                own = any(name == _POLICY for name, _ in given)
                message["headers"] = [*given, *(COMMON if own else STRICT)]
            await send(message)

        await self.app(scope, receive, send_secured)


class Cors(CORSMiddleware):
    """CORS headers for every answer; the guard answers preflights."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not any(name == b"origin" for name, _ in scope["headers"]):
            await self.app(scope, receive, send)
            return
        await self.simple_response(scope, receive, send, request_headers=Headers(scope=scope))


def describe_cors(origins: Sequence[str]) -> dict[str, Any]:
    """What pages of these origins may send and see. Never cookies: keys are sent by hand."""
    return {
        "allow_origins": tuple(origins),
        "allow_methods": ("GET", "POST"),
        "allow_headers": (
            "Authorization",
            "X-Priority",
            "X-Request-ID",
            "X-Request-Timeout",
            "traceparent",
            "tracestate",
        ),
        "expose_headers": ("Server-Timing", "X-Request-ID", "Retry-After"),
    }
