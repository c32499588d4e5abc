"""CORS: which pages of other origins may read an answer, and what they may ask."""

from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send


class Cors(CORSMiddleware):
    """CORS headers for every answer; the access control answers preflights."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a page of an origin that may know read the answer."""
        if scope["type"] != "http" or not any(name == b"origin" for name, _ in scope["headers"]):
            await self.app(scope, receive, send)
            return
        await self.simple_response(scope, receive, send, request_headers=Headers(scope=scope))


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks what it may ask."""
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names


def describe_cors(origins: Sequence[str]) -> dict[str, Any]:
    """What pages of these origins may send and see. Never cookies: keys are sent by hand."""
    return {
        "allow_origins": tuple(origins),
        "allow_methods": ("GET", "POST"),
        "allow_headers": (
            "Authorization",
            "Content-Encoding",
            "X-Priority",
            "X-Request-ID",
            "X-Request-Timeout",
            "traceparent",
            "tracestate",
        ),
        "expose_headers": ("Server-Timing", "X-Request-ID", "Retry-After"),
    }
