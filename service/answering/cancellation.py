"""How long a request is worth any work: until its client has gone, or its deadline has passed.

Whatever it awaits meanwhile ends then, too, and work that has not begun in a thread is not begun.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol, Self, TypeVar

from starlette.types import Receive

from models.errors import ClozeError
from service.errors import ClientGone, DeadlinePassed
from service.limits.deadline import Deadline

ResultT = TypeVar("ResultT")

# How much later than at its deadline a request may end.
_STEP_S = 0.01


class Departure(Protocol):
    """Whom to ask to be told when a client leaves: of our own connections, one a request."""

    on_departure: Callable[[], None] | None
    disconnected: bool


class DeadlineClock:
    """Ends requests whose deadline has passed, some milliseconds later: a timer for all of them.

    Belongs to one event loop, on which all of its methods are called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # By the step that their deadline is in.
        self._waiting: dict[int, set[Cancellation]] = {}
        self._next: asyncio.TimerHandle | None = None

    def add(self, each: "Cancellation") -> None:
        """End it once its deadline has passed, unless it is removed before."""
        step = each.step = int(each.deadline.at / _STEP_S)
        waiting = self._waiting.get(step)
        if waiting is None:
            self._waiting[step] = {each}
            if self._next is None:
                self._next = self.loop.call_later(_STEP_S, self._look)
        else:
            waiting.add(each)

    def remove(self, each: "Cancellation") -> None:
        """It is over."""
        waiting = self._waiting.get(each.step)
        if waiting is not None:
            waiting.discard(each)
            if not waiting:
                del self._waiting[each.step]

    def _look(self) -> None:
        now = int(time.perf_counter() / _STEP_S)
        for step in [step for step in self._waiting if step < now]:
            for each in self._waiting.pop(step):
                each.end_late()
        self._next = self.loop.call_later(_STEP_S, self._look) if self._waiting else None


class Cancellation:
    """That of one request; a context manager for the time it is under way.

    `error` says what ended it, if anything did. Where the connection is not ours, `receive` is
    awaited in a task of its own: the body has been read, so the next message is that the client has
    gone.
    """

    def __init__(
        self,
        deadline: Deadline,
        clock: DeadlineClock,
        departure: Departure | None,
        receive: Receive,
    ) -> None:
        self.error: ClozeError | None = None
        self.deadline = deadline
        self.step = 0  # the clock's
        self._clock = clock
        self._departure = departure
        self._receive = receive
        self._watch: asyncio.Future[Any] | None = None
        self._awaited: asyncio.Future[Any] | None = None

    def __enter__(self) -> Self:
        departure = self._departure
        if departure is None:
            self._watch = asyncio.ensure_future(self._receive())
            self._watch.add_done_callback(
                lambda done: None if done.cancelled() else self._note_departure()
            )
        elif departure.disconnected:
            self._note_departure()
        else:
            departure.on_departure = self._note_departure
        self._clock.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.remove(self)
        if self._watch is not None:
            self._watch.cancel()
        elif self._departure is not None:
            self._departure.on_departure = None

    def _note_departure(self) -> None:
        self._end(ClientGone("client gone"))

    def end_late(self) -> None:
        """End it: its deadline has passed."""
        self._end(DeadlinePassed(f"no answer within {self.deadline.timeout_s:g} s"))

    async def wait(self, future: "asyncio.Future[ResultT]") -> ResultT:
        """Await it, and raise what ended it."""
        self.check()
        self._awaited = future
        return await future

    def check(self) -> None:
        """Raise what ended it; from any thread."""
        if self.error is not None:
            raise self.error

    def while_it_lasts(self, items: Iterable[ResultT]) -> Iterator[ResultT]:
        """The items, for as long as they are wanted: raises what ended it."""
        for item in items:
            self.check()
            yield item

    async def run(
        self,
        threads: ThreadPoolExecutor,
        work: Callable[[], ResultT],
        over: Callable[[], None] | None = None,
    ) -> ResultT:
        """Do the work in one of the threads; what has not begun when this ends never does.

        `over` is called once, from any thread, when the work has ended or never will begin: later
        than this ends, where nobody waits for work that has begun.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()

        def tell(done: Future[ResultT]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, future, done)

        # In the request's context, so that what is logged there has its id.
        begun = threads.submit(contextvars.copy_context().run, work)
        begun.add_done_callback(tell)
        if over is not None:
            begun.add_done_callback(lambda _: over())
        try:
            return await self.wait(future)
        finally:
            begun.cancel()

    def _end(self, error: ClozeError) -> None:
        self.error = self.error or error
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(self.error)


def _settle(future: "asyncio.Future[Any]", done: Future[Any]) -> None:
    """Hand over how the work ended, unless nobody waits for it any more."""
    if future.done() or done.cancelled():
        return
    error = done.exception()
    if error is None:
        future.set_result(done.result())
    else:
        future.set_exception(error)
