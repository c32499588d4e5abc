"""The last seconds of a service: nothing new is taken on, what is under way is finished.

What surrounds the service (health, metrics, documents) is answered to the last. The instrument
counts who is inside, the access control asks whether it has begun.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import Receive, Scope, Send

from service.error_response import CLOSE, send_error
from service.errors import NotReady, TooMuchPending

# A body that was sent already is read before its request is refused: a connection that is closed
# with something unread in it is reset, and the client may never see why.
_UNREAD_BYTES = 1 << 20
_UNREAD_S = 1.0
# For the refusals of what is given up to be written.
_GIVE_UP_S = 1.0


class Drain:
    """Knows the requests inside, and refuses new ones once it has begun. One an application."""

    def __init__(self, on_begin: Callable[[], None]) -> None:
        self.begun = False
        self.at_begin = 0  # requests that were under way then
        # Whether what is inside is given up: cancelled, and answered with an error.
        self.given_up = False
        self.inside: set[asyncio.Task[Any]] = set()
        self.empty = asyncio.Event()
        self._on_begin = on_begin

    @property
    def requests(self) -> int:
        """How many requests are under way."""
        return len(self.inside)

    def begin(self) -> None:
        """Take on nothing new; for a signal's handler, so it sets flags alone."""
        if not self.begun:
            self.begun, self.at_begin = True, len(self.inside)
        self._on_begin()

    async def finish(self, limit_s: float) -> int:
        """Wait until what is under way is answered, and give up what is not by then.

        Returns how many requests were given up: each has got a 503.
        """
        if await self._wait(limit_s):
            return 0
        self.given_up = True
        given_up = list(self.inside)
        for task in given_up:
            task.cancel()
        await self._wait(_GIVE_UP_S)
        return len(given_up)

    async def _wait(self, limit_s: float) -> bool:
        self.empty.clear()
        if not self.inside:
            return True
        try:
            await asyncio.wait_for(self.empty.wait(), limit_s)
        except TimeoutError:
            return False
        return True

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that comes too late."""
        await _read_rest(scope, receive)
        error = NotReady("the service is shutting down; ask another replica")
        await send_error(send, error, scope, CLOSE)

    async def answer_given_up(self, scope: Scope, send: Send) -> None:
        """Answer a request that was under way for too long."""
        error = NotReady("the service shut down before this was answered; send it again")
        await send_error(send, error, scope, CLOSE)


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
