"""The outermost layer of every request: its id, times, metrics, trace, and the last resort.

Pure ASGI, so that it costs microseconds. Errors that the service raises on purpose are turned
into answers further in; what arrives here is a bug, and is logged whole.
"""

import time
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from models.errors import ClozeError, InternalError
from service.errors import describe, find_status
from service.observability.access_log import AccessLog, find_request_id
from service.observability.metrics import Metrics
from service.observability.request_record import Times

if TYPE_CHECKING:
    from service.observability.spans import Spans

# In the scope: what is known of the request, and the error that was answered in its place, before
# all of it had come.
TIMES = "cloze.times"
REFUSED = "cloze.refused"
UNKNOWN_ROUTE = "unknown"

_log = structlog.get_logger(__name__)


class Edge:
    """Wraps the application: tells id and times, counts, and answers 500 for the unexpected."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        access: AccessLog | None = None,
        tracing: "Spans | None" = None,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.access = access
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # Answered as GET is. uvicorn still knows what was asked, and leaves the body out.
            scope = {**scope, "method": "GET"}
        times = Times(began=time.perf_counter(), request_id=find_request_id(scope))
        scope[TIMES] = times
        bind_contextvars(request_id=times.request_id)
        if self.tracing is not None:
            self.tracing.begin(scope, times)
        status = 0

        async def send_timed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"server-timing", times.header().encode()),
                    (b"x-request-id", times.request_id.encode()),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_timed)
        except Exception:
            _log.exception("unexpected error", route=find_route(scope))
            error = InternalError("unexpected")
            times.code = error.code
            if status == 0:
                await _send_json(send_timed, 500, describe(error))
            else:
                status = 500
        finally:
            self._finish(scope, status, times)

    def _finish(self, scope: Scope, status: int, times: Times) -> None:
        ended = time.perf_counter()
        route = find_route(scope)
        refusal: ClozeError | None = scope.get(REFUSED)
        if refusal is not None:
            status, times.code = find_status(refusal), refusal.code
        self.metrics.observe_request(route, status, ended - times.began, times)
        if self.access is not None:
            self.access.write(scope, route, status, ended - times.began, times)
        if times.span is not None and self.tracing is not None:
            self.tracing.finish(scope["method"], route, status, ended, times)


def find_route(scope: Scope) -> str:
    """The path of the matched route, never the path that was asked for: that has no bound."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", UNKNOWN_ROUTE))


async def _send_json(send: Send, status: int, body: dict[str, Any]) -> None:
    content = orjson.dumps(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
