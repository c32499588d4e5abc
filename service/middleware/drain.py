"""The last seconds of a service: nothing new is taken on, what is under way is finished.

Pure ASGI, so that a request counts from its headers to the end of its answer. What surrounds the
service (health, metrics, documents) is answered to the last.
"""

import asyncio
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import NotReady, TooMuchPending, describe, find_status
from service.middleware.instrument import TIMES
from service.registry.manager import Engine

_WORK = ("/v1/", "/admin/")
_RETRY_AFTER_S = b"1"
# A body that was sent already is read before its request is refused: a connection that is closed
# with something unread in it is reset, and the client may never see why.
_UNREAD_BYTES = 1 << 20
_UNREAD_S = 1.0
# For the refusals of what is given up to be written.
_GIVE_UP_S = 1.0


class Drain:
    """Counts the requests inside, and refuses new ones once it has begun. One an application."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inside: set[asyncio.Task[Any]] = set()
        self._given_up = False
        self._empty = asyncio.Event()

    @property
    def requests(self) -> int:
        """How many requests are under way."""
        return len(self._inside)

    def begin(self) -> None:
        """Be unready, and take on nothing new; for a signal's handler, so it sets a flag alone."""
        self._engine.drain()

    async def finish(self, limit_s: float) -> int:
        """Wait until what is under way is answered, and give up what is not by then.

        Returns how many requests were given up: each has got a 503.
        """
        if await self._wait(limit_s):
            return 0
        self._given_up = True
        given_up = list(self._inside)
        for task in given_up:
            task.cancel()
        await self._wait(_GIVE_UP_S)
        return len(given_up)

    async def _wait(self, limit_s: float) -> bool:
        self._empty.clear()
        if not self._inside:
            return True
        try:
            await asyncio.wait_for(self._empty.wait(), limit_s)
        except TimeoutError:
            return False
        return True

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application behind this."""

        async def enter(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
            elif not scope["path"].startswith(_WORK):
                await app(scope, receive, self._closing(send))
            elif self._engine.draining:
                await _read_rest(scope, receive)
                await _refuse(scope, send, "the service is shutting down; ask another replica")
            else:
                await self._follow(app, scope, receive, send)

        return enter

    async def _follow(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that is inside until it is over."""
        task = asyncio.current_task()
        assert task is not None  # an ASGI server runs each request in a task
        started = False
        send_closing = self._closing(send)

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send_closing(message)

        self._inside.add(task)
        try:
            await app(scope, receive, watch)
        except asyncio.CancelledError:
            if started or not self._given_up:
                raise
            task.uncancel()
            reason = "the service shut down before this was answered; send it again"
            await _refuse(scope, send, reason)
        finally:
            self._inside.discard(task)
            if not self._inside:
                self._empty.set()

    def _closing(self, send: Send) -> Send:
        """Tells clients that are answered during the end to send no more over their connection."""

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._engine.draining:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        return send_closing


async def _read_rest(scope: Scope, receive: Receive) -> None:
    if any(name == b"expect" for name, _ in scope["headers"]):
        return  # nothing is sent before it is asked for
    size = 0
    try:
        async with asyncio.timeout(_UNREAD_S):
            while size < _UNREAD_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except (TimeoutError, TooMuchPending):
        return


async def _refuse(scope: Scope, send: Send, reason: str) -> None:
    error = NotReady(reason)
    scope[TIMES].code = error.code
    content = orjson.dumps(describe(error))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (b"retry-after", _RETRY_AFTER_S),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": find_status(error), "headers": headers})
    await send({"type": "http.response.body", "body": content})
