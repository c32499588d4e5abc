"""The outermost layer of every request: times, metrics, and errors nobody expected.

Pure ASGI, so that it costs microseconds. Errors that the service raises on purpose are turned
into answers further in; what arrives here is a bug, and is logged whole.
"""

import time
from typing import Any

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import InternalError
from service.errors import describe
from service.metrics import Metrics
from service.times import Times

TIMES = "cloze.times"
BEGAN = "cloze.began"
_UNKNOWN_ROUTE = "unknown"

_log = structlog.get_logger(__name__)


class Edge:
    """Wraps the application: adds Server-Timing, counts, and answers 500 for the unexpected."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # Answered as GET is. uvicorn still knows what was asked, and leaves the body out.
            scope = {**scope, "method": "GET"}
        began = time.perf_counter()
        times = Times()
        scope[TIMES] = times
        scope[BEGAN] = began
        status = 0

        async def send_timed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"server-timing", times.header().encode()),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_timed)
        except Exception:
            _log.exception("unexpected error", route=find_route(scope))
            if status == 0:
                await _send_json(send_timed, 500, describe(InternalError("unexpected")))
            else:
                status = 500
        finally:
            self.metrics.observe_request(find_route(scope), status, time.perf_counter() - began)


def find_route(scope: Scope) -> str:
    """The path of the matched route, never the path that was asked for: that has no bound."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", _UNKNOWN_ROUTE))


async def _send_json(send: Send, status: int, body: dict[str, Any]) -> None:
    content = orjson.dumps(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
