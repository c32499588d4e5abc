"""A request in the queue: its texts, until when it may wait, and who waits for it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

import structlog

from models.errors import ClozeError
from models.heads import Job

_log = structlog.get_logger(__name__)


class Lane(StrEnum):
    """Who goes first: requests that somebody waits for, or those that have time."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class Ticket:
    """The texts of one request, and the future its caller awaits.

    Only the holder of the queue's lock may change what decides about running; the future belongs
    to the event loop that made the ticket. `context` is whatever its maker wants to find again.
    """

    __slots__ = (
        "_loop",
        "caller",
        "context",
        "deadline",
        "dropped",
        "error",
        "finished",
        "future",
        "guilty",
        "jobs",
        "lane",
        "pending",
        "pieces",
        "predicted_s",
        "started",
        "submitted",
        "waiting",
        "waiting_s",
    )

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        deadline: float,
        lane: Lane = Lane.INTERACTIVE,
        caller: str = "",
        context: Any = None,
    ) -> None:
        """`deadline` by time.perf_counter(); `caller` is who shares the trunk with others."""
        self._loop = asyncio.get_running_loop()
        self.jobs = jobs
        self.lane = lane
        self.caller = caller
        self.context = context
        self.future: asyncio.Future[None] = self._loop.create_future()
        self.pending = len(jobs)
        self.dropped = False
        self.error: ClozeError | None = None
        self.guilty: Job | None = None  # the text for which it failed, if it is known
        self.submitted = time.perf_counter()
        self.deadline = deadline
        self.predicted_s = 0.0  # until its answer, when it was let in
        # The queue's: how many of its texts wait, their predicted seconds, and where they lie.
        self.waiting, self.waiting_s = 0, 0.0
        self.pieces: Sequence[Any] = ()
        self.started = 0.0
        self.finished = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing of it needs to run any more."""
        return self.dropped or self.error is not None

    def settle(self) -> None:
        """Tell the caller that the answers are there, or why not. Called on the loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(None)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Have the loop that made the ticket call this, once what is ready has had its turn."""
        self._loop.call_soon(callback)


def settle_soon(tickets: Sequence[Ticket]) -> None:
    """Settle these from another thread, all at once; a loop that is closed has nobody to tell."""
    for loop in {ticket._loop for ticket in tickets}:
        mine = [ticket for ticket in tickets if ticket._loop is loop]
        try:
            loop.call_soon_threadsafe(_settle_all, mine)
        except RuntimeError:
            _log.debug("loop closed before its answer")


def _settle_all(tickets: Sequence[Ticket]) -> None:
    for ticket in tickets:
        ticket.settle()


def list_requests(contexts: Iterable[Any]) -> list[str]:
    """The ids of the requests that made these, where they have one."""
    found = (getattr(context, "request_id", "") for context in contexts)
    return list(dict.fromkeys(one for one in found if one))
