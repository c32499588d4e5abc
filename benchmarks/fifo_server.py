"""`python -m service` with an unbounded queue in order of arrival, to compare with.

What a batching server without admission does: it takes whatever comes, and computes it in turn.
The same graphs, the same code before and after the queue.
"""

import sys
from collections import deque

from models.heads import Job
from service.__main__ import main
from service.scheduling import batcher
from service.scheduling.queue import Batch, Queue
from service.scheduling.ticket import Ticket


class InTurn(Queue):
    """Every text in order of arrival, as many in a batch as its tokens allow."""

    _turn: deque[tuple[Ticket, Job]]

    def add(self, ticket: Ticket, now: float) -> None:
        """Queue the texts of a ticket behind all others."""
        if not hasattr(self, "_turn"):
            self._turn = deque()
        self._turn.extend((ticket, job) for job in ticket.jobs)

    @property
    def texts(self) -> int:
        """How many wait."""
        return len(getattr(self, "_turn", ()))

    def take(self, now: float) -> Batch | None:
        """The texts that have waited longest."""
        entries: list[tuple[Ticket, Job]] = []
        tokens = width = 0
        turn: deque[tuple[Ticket, Job]] = getattr(self, "_turn", deque())
        while turn:
            ticket, job = turn[0]
            if ticket.over:
                turn.popleft()
                continue
            if entries and tokens + job.tokens > self.limits.max_batch_tokens:
                break
            entries.append(turn.popleft())
            tokens, width = tokens + job.tokens, max(width, job.tokens)
        if not entries:
            return None
        return Batch(entries[0][0].lane, entries, tokens, self.costs.batch_s(tokens, width))


if __name__ == "__main__":
    batcher.Queue = InTurn  # type: ignore[attr-defined]
    sys.exit(main())
