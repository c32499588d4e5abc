"""A connection whose bytes are counted: what does not fit beside all others is not held."""

from typing import Any, cast

from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    Scope,
)
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.limits.body_budget import CLAIM, Budget, Claim
from service.server.connection import Connection


class CountedConnection(Connection):
    """One connection. Each request holds its body's bytes until its answer is over."""

    budget: Budget

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # For what waits unparsed.
        self._waiting: Claim | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back what nobody else will: a request that is computed ends by itself."""
        for cycle, _ in self.pipeline:
            _find_claim(cycle).give_back()
        super().connection_lost(exc)
        self._end_waiting()

    def on_headers_complete(self) -> None:
        """Let the request hold nothing, to begin with."""
        cast("dict[str, Any]", self.scope)[CLAIM] = Claim(self.budget)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, or let the request hear that there is no room for it."""
        cycle = self.cycle
        if cycle.response_complete or _find_claim(cycle).take(len(body)):
            super().on_body(body)
            return
        self._body_left -= len(body)
        cycle.body = bytearray()
        cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        claim = _find_claim(cycle)

        async def answer(
            scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
        ) -> None:
            async def receive_whole() -> ASGIReceiveEvent:
                message = await receive()
                if claim.refused:
                    raise claim.refuse()
                return message

            try:
                await app(scope, receive_whole, send)
            finally:
                claim.give_back()

        super()._start_asgi_task(cycle, answer)

    def _parse_ahead(self) -> None:
        super()._parse_ahead()
        if not self._ahead:
            self._end_waiting()

    def _may_wait(self, size: int) -> bool:
        self._waiting = Claim(self.budget)
        return self._waiting.take(size)

    def _drop_last(self) -> None:
        _find_claim(self._due[-1]).give_back()
        super()._drop_last()

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.give_back()
            self._waiting = None


def _find_claim(cycle: RequestResponseCycle) -> Claim:
    return cast("Claim", cast("dict[str, Any]", cycle.scope)[CLAIM])
