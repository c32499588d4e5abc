"""CORS: which pages of other origins may read an answer, and what they may ask."""

from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

# Headers of answers that a page may read beside those that it always may.
EXPOSED = (
    "Server-Timing",
    "X-Request-ID",
    "Retry-After",
    "X-Truncated",
    "X-Ignored-Fields",
    "WWW-Authenticate",
)
_SHOWN_CHARACTERS = 100


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
        # Whatever a client sends (OpenAI's own: seven of x-stainless-*): each header is checked
        # where it is read, and none makes a browser send more than the page knows.
        "allow_headers": ("*",),
        # A page of the web may ask a service on its reader's own machine, where it may ask at all.
        "allow_private_network": True,
        "expose_headers": EXPOSED,
    }


def explain_refusal(headers: Headers, origins: Sequence[str]) -> str:
    """What of a preflight is not allowed, and what would be."""
    origin, method = headers["origin"], headers["access-control-request-method"]
    if "*" not in origins and origin not in origins:
        return (
            f"pages of the origin {shorten(origin)} may not ask; add it to CLOZE_CORS_ORIGINS, "
            "written as the browser sends it"
        )
    return f"pages of other origins may not send {shorten(method)}; send GET or POST"


def shorten(value: str) -> str:
    """Of what a caller sent as much as a message needs, in ASCII."""
    return ascii(value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}...")
