"""The outermost layer of every request: its id, times, metrics, trace, and the last resort.

Pure ASGI, so that it costs microseconds. Errors that the service raises on purpose are turned
into answers further in; what arrives here is a bug, and is logged whole.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from models.errors import ClozeError, InternalError
from service.endpoint import NOWHERE, Endpoint, Kind
from service.error_response import CLOSE, find_status, send_error
from service.middleware.drain import Drain
from service.middleware.security_headers import COMMON, POLICY, STRICT
from service.observability.access_log import AccessLog, check_request_id
from service.observability.metrics import Metrics
from service.observability.request_record import RequestRecord
from service.scope import ENDPOINT, RECORD, REFUSED, TASK

if TYPE_CHECKING:
    from service.observability.spans import Spans

# What is finished before the process ends.
_FOLLOWED = (Kind.WORK, Kind.ADMIN)

_log = structlog.get_logger(__name__)


class Instrument:
    """Wraps the application: tells id and times, counts, and answers 500 for the unexpected.

    `find` gives the endpoint of a path, which all layers further in ask; one that leads nowhere is
    looked for as `resolve` writes it. What is no request goes to `life`, which starts and ends the
    application.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        life: ASGIApp | None = None,
        find: Callable[[str], Endpoint] = lambda _: NOWHERE,
        resolve: Callable[[str], str] = lambda path: path,
        drain: Drain | None = None,
        access: AccessLog | None = None,
        tracing: "Spans | None" = None,
    ) -> None:
        self.app = app
        self._life = life or app
        self._metrics = metrics
        self._find = find
        self._resolve = resolve
        self._drain = drain or Drain(lambda: None)
        self._access = access
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have one request answered, and tell of it."""
        if scope["type"] != "http":
            await self._life(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # Answered as GET is. The server still knows what was asked, and leaves the body out.
            scope = {**scope, "method": "GET"}
        record = RequestRecord(began=time.perf_counter(), request_id=find_request_id(scope))
        endpoint = self._find(scope["path"])
        if not endpoint.handlers:
            path = self._resolve(scope["path"])
            if path != scope["path"]:
                scope["path"], endpoint = path, self._find(path)
        if endpoint.others:
            endpoint = endpoint.others.get(scope["method"], endpoint)
        scope[RECORD] = record
        scope[ENDPOINT] = endpoint
        bind_contextvars(request_id=record.request_id)
        if self._tracing is not None:
            self._tracing.begin(scope, record)
        telling = _Telling(send, record, self._drain)
        try:
            if endpoint.kind in _FOLLOWED and not self._drain.begun:
                await self._follow(scope, receive, telling)
            else:
                await self.app(scope, receive, telling.send)
        except Exception:
            _log.exception("unexpected error", route=endpoint.path)
            error = InternalError("unexpected")
            record.code = error.code
            if telling.status == 0:
                await send_error(telling.send, error, scope)
            else:
                telling.status = 500
        finally:
            self._finish(scope, endpoint, telling.status, record)

    async def _follow(self, scope: Scope, receive: Receive, telling: "_Telling") -> None:
        """Answer a request that is finished before the process ends, or given up then."""
        # An ASGI server runs each request in a task.
        drain, task = self._drain, scope.get(TASK) or asyncio.current_task()
        assert task is not None
        drain.inside.add(task)
        try:
            await self.app(scope, receive, telling.send)
        except asyncio.CancelledError:
            if telling.status or not drain.given_up:
                raise
            task.uncancel()
            await drain.answer_given_up(scope, telling.send)
        finally:
            drain.inside.discard(task)
            if not drain.inside:
                drain.empty.set()

    def _finish(self, scope: Scope, endpoint: Endpoint, status: int, record: RequestRecord) -> None:
        ended = time.perf_counter()
        refusal: ClozeError | None = scope.get(REFUSED)
        if refusal is not None:
            status, record.code = find_status(refusal, endpoint.dialect.statuses), refusal.code
        seconds = ended - record.began
        self._metrics.observe_request(endpoint, status, seconds, record)
        access = self._access
        if access is not None and (access.all or record.texts or not 0 < status < 500):
            access.write(scope, endpoint, status, seconds, record)
        if record.span is not None and self._tracing is not None:
            self._tracing.finish(scope["method"], endpoint, status, ended, record)


def write_times(record: RequestRecord) -> bytes:
    """The value of the Server-Timing header (W3C Server Timing), in milliseconds."""
    return (
        f"tokenize;dur={record.tokenize * 1e3:.3f}, queue;dur={record.queue * 1e3:.3f}, "
        f"infer;dur={record.infer * 1e3:.3f}, decode;dur={record.decode * 1e3:.3f}"
    ).encode()


def find_request_id(scope: Scope) -> str:
    """The first X-Request-ID if it is one, else a new id."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return check_request_id(value)
    # Nobody gains by guessing one, and the system's own chance costs ten times as much.
    return f"{random.getrandbits(128):032x}"


class _Telling:
    """Sends an answer with what every answer tells, and knows its status; 0 before it has one."""

    __slots__ = ("_drain", "_record", "_send", "status")

    def __init__(self, send: Send, record: RequestRecord, drain: Drain) -> None:
        self.status = 0
        self._send = send
        self._record = record
        self._drain = drain

    async def send(self, message: Message) -> None:
        """Send a part of the answer, the head with our headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            record, given = self._record, message.get("headers") or []
            headers = [
                *given,
                (b"server-timing", write_times(record)),
                (b"x-request-id", record.request_id.encode()),
                *(COMMON if any(name == POLICY for name, _ in given) else STRICT),
            ]
            if self._drain.begun and CLOSE not in given:
                # It is to send no more over its connection.
                headers.append(CLOSE)
            message["headers"] = headers
        await self._send(message)
