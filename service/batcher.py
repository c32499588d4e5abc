"""The queue of one trunk, and the thread that empties it.

The thread never waits on a clock: whenever the trunk is free it takes what is queued, up to a
budget of tokens. Requests take turns, one item each, so a request with a thousand items does not
hold up the others. What nobody waits for any more is dropped before it is packed.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from models.errors import ClozeError, InternalError
from models.heads import Job
from service.errors import DeadlinePassed, NotReady, Overloaded
from service.logs import list_requests

Compute = Callable[[Sequence[Job]], None]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ran:
    """A batch that was run: how much it was, what it took, and whose it was."""

    jobs: int
    tokens: int
    rows: int
    cells: int
    seconds: float
    lane: str  # interactive, bulk, or mixed
    predicted_s: float
    began_s: float  # time.perf_counter()
    links: tuple[Any, ...]  # the contexts of the tickets in it
    failed: bool

    @property
    def waste(self) -> float:
        """The part of its cells that no token stands in."""
        return 1 - self.tokens / self.cells if self.cells else 0.0


Observe = Callable[[Ran], None]


class Ticket:
    """The items of one request in the queue, and the future its caller awaits.

    Only the queue's lock holder may change what decides about running; the future belongs to the
    event loop that made the ticket.
    """

    __slots__ = (
        "_loop",
        "context",
        "deadline",
        "dropped",
        "error",
        "finished",
        "future",
        "jobs",
        "next",
        "pending",
        "started",
        "submitted",
    )

    def __init__(self, jobs: Sequence[Job], timeout_s: float, *, context: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        self.jobs = jobs
        self.context = context  # whatever its maker wants to find again
        self.future: asyncio.Future[None] = self._loop.create_future()
        self.next = 0
        self.pending = len(jobs)
        self.dropped = False
        self.error: ClozeError | None = None
        self.submitted = time.perf_counter()
        self.deadline = self.submitted + timeout_s
        self.started = 0.0
        self.finished = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing of it needs to run any more."""
        return self.dropped or self.error is not None

    def drop(self, error: ClozeError) -> None:
        """Give up: nothing more of it is run, and its caller hears why. Called on the loop."""
        self.dropped = True
        if not self.future.done():
            self.future.set_exception(error)

    def settle(self) -> None:
        """Tell the caller that the answers are there, or why not. Called on the loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(None)

    def settle_soon(self) -> None:
        """The same, from the batcher's thread; a loop that is closed has nobody to tell."""
        try:
            self._loop.call_soon_threadsafe(self.settle)
        except RuntimeError:
            _log.debug("loop closed before its answer")


class Batcher:
    """Runs `compute` on batches of jobs, in a thread of its own, until it is closed."""

    def __init__(
        self,
        compute: Compute,
        *,
        name: str,
        max_batch_tokens: int,
        max_queue_tokens: int,
        observe: Observe | None = None,
    ) -> None:
        self._compute = compute
        self._observe = observe
        self._max_batch_tokens = max_batch_tokens
        self._max_queue_tokens = max_queue_tokens
        self._changed = threading.Condition()
        self._queue: deque[Ticket] = deque()
        self._queued_tokens = 0
        self._token_s = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name=f"batcher-{name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests handed in will be run."""
        return self._thread.is_alive() and not self._closed

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait to be computed."""
        return self._queued_tokens

    @property
    def queued_ms(self) -> float:
        """Milliseconds that what waits will take, at the pace of the last batch."""
        return self._queued_tokens * self._token_s * 1e3

    @property
    def limit_ms(self) -> float:
        """The same of as much as may wait."""
        return self._max_queue_tokens * self._token_s * 1e3

    @property
    def queued_texts(self) -> int:
        """Texts that wait to be computed."""
        with self._changed:
            return sum(len(ticket.jobs) - ticket.next for ticket in self._queue)

    def submit(self, ticket: Ticket) -> None:
        """Queue a request. Raises Overloaded if the queue is full, NotReady after `close`."""
        tokens = sum(job.tokens for job in ticket.jobs)
        with self._changed:
            if self._closed:
                raise NotReady("the service is shutting down; ask another replica")
            # An empty queue takes any request: one that is too large alone would never get in.
            if self._queue and self._queued_tokens + tokens > self._max_queue_tokens:
                raise Overloaded(
                    f"{self._queued_tokens} tokens are waiting, at most "
                    f"{self._max_queue_tokens} may; try again shortly"
                )
            self._queue.append(ticket)
            self._queued_tokens += tokens
            self._changed.notify()

    def close(self) -> None:
        """Run what is queued, take nothing more, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if not self._queue:
                    return
                batch, over = self._take()
            for ticket in over:
                ticket.settle_soon()
            if batch:
                self._run(batch)

    def _take(self) -> tuple[list[tuple[Ticket, Job]], list[Ticket]]:
        """The next batch, an item of each request in turn, and the requests found to be late."""
        batch: list[tuple[Ticket, Job]] = []
        late: list[Ticket] = []
        room = self._max_batch_tokens
        now = time.perf_counter()
        while self._queue:
            ticket = self._queue.popleft()
            if not ticket.over and ticket.deadline < now:
                ticket.error = DeadlinePassed("the request waited longer than it may")
                late.append(ticket)
            if ticket.over:
                self._queued_tokens -= sum(job.tokens for job in ticket.jobs[ticket.next :])
                continue
            job = ticket.jobs[ticket.next]
            if batch and job.tokens > room:
                self._queue.appendleft(ticket)
                break
            batch.append((ticket, job))
            room -= job.tokens
            self._queued_tokens -= job.tokens
            ticket.next += 1
            if ticket.next < len(ticket.jobs):
                self._queue.append(ticket)
        return batch, late

    def _run(self, batch: Sequence[tuple[Ticket, Job]]) -> None:
        """Compute one batch. Whatever it raises is for its own requests; the thread lives on."""
        began = time.perf_counter()
        for ticket, _ in batch:
            ticket.started = ticket.started or began
        failure: ClozeError | None = None
        tickets = {id(ticket): ticket for ticket, _ in batch}.values()
        links = tuple(ticket.context for ticket in tickets if ticket.context is not None)
        try:
            self._compute([job for _, job in batch])
        except Exception:
            _log.exception("batch failed", texts=len(batch), requests=list_requests(links))
            failure = InternalError("the batch could not be computed")
        ended = time.perf_counter()
        settled = []
        for ticket, _ in batch:
            ticket.pending -= 1
            if failure is not None and ticket.error is None:
                ticket.error = failure
                settled.append(ticket)
            elif ticket.pending == 0 and ticket.error is None:
                ticket.finished = ended
                settled.append(ticket)
        for ticket in settled:
            ticket.settle_soon()
        tokens, seconds = sum(job.tokens for _, job in batch), ended - began
        self._token_s = seconds / tokens if tokens else self._token_s
        if self._observe is not None:
            self._observe(
                Ran(
                    jobs=len(batch),
                    tokens=tokens,
                    rows=len(batch),
                    cells=tokens,
                    seconds=seconds,
                    lane="interactive",
                    predicted_s=seconds,
                    began_s=began,
                    links=links,
                    failed=failure is not None,
                )
            )
