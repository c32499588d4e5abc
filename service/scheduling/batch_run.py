"""One batch under way: computed whole, or else halved until a guilty text stands alone."""

import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from models.errors import ClozeError, InternalError
from models.heads import Job
from models.text.packing import Extent
from service.errors import NotReady
from service.scheduling.graphs import Graphs, GraphState
from service.scheduling.queue import Batch
from service.scheduling.ticket import Lane, Ticket, list_requests, settle_soon

Entry = tuple[Ticket, Job]

_NOTHING = Extent(0, 0)

_log = structlog.get_logger(__name__)


class GivenUp(Exception):
    """The thread that hears this was taken for stuck: another one does its work."""


class BatchRun:
    """A batch, what is left of it, and when it would be stuck.

    `changed` guards what other threads see; `release` gives up what waits of a ticket, and is
    called with it held.
    """

    def __init__(
        self,
        batch: Batch,
        *,
        graphs: Graphs,
        changed: threading.Condition,
        release: Callable[[Ticket], None],
        stall_s: float,
    ) -> None:
        self.batch = batch
        self.began = time.perf_counter()
        self.left = {id(job): (ticket, job) for ticket, job in batch.entries}
        self.step: list[Entry] = []  # what is computed at this moment
        self.stuck_at = math.inf
        self.failed = False
        self.given_up = False
        self._graphs = graphs
        self._changed = changed
        self._release = release
        self._stall_s = stall_s
        for ticket, _ in batch.entries:
            ticket.started = ticket.started or self.began

    @property
    def links(self) -> tuple[Any, ...]:
        """What the makers of its tickets wanted to find again."""
        tickets = {id(ticket): ticket for ticket, _ in self.batch.entries}
        return tuple(each.context for each in tickets.values() if each.context is not None)

    @property
    def interactive(self) -> bool:
        """Whether somebody waits for it."""
        return self.batch.lane is Lane.INTERACTIVE

    def compute(self) -> Extent:
        """Compute the batch, whatever it takes; every ticket of it hears how that ended.

        Raises GivenUp where another thread has taken over.
        """
        try:
            return self._compute(self.batch.entries)
        except NotReady as error:
            self.fail(list(self.left.values()), error)
            return _NOTHING

    def fail(self, entries: Iterable[Entry], error: ClozeError) -> None:
        """Give these up: their requests hear why."""
        failed = []
        with self._changed:
            self._check()
            for ticket, job in entries:
                self.left.pop(id(job), None)
                if not ticket.over:
                    ticket.error = error
                    self._release(ticket)
                    failed.append(ticket)
        settle_soon(failed)

    def _compute(self, entries: list[Entry]) -> Extent:
        entries = [entry for entry in entries if not entry[0].over]
        if not entries:
            return _NOTHING
        try:
            return self._step(entries)
        except Exception:
            self._note_failure(entries)
        if self._repair():
            try:
                return self._step(entries)
            except Exception:
                self._note_failure(entries)
            self._repair()
        if len(entries) == 1:
            entries[0][0].guilty = entries[0][1]
            self.fail(entries, InternalError("the text could not be computed"))
            return _NOTHING
        middle = len(entries) // 2
        first, second = self._compute(entries[:middle]), self._compute(entries[middle:])
        return Extent(first.rows + second.rows, first.cells + second.cells)

    def _step(self, entries: list[Entry]) -> Extent:
        """Compute these together, and let those know whose request is done."""
        self._watch(entries)
        extent = self._graphs.compute([job for _, job in entries])
        ended = time.perf_counter()
        done = []
        with self._changed:
            self._check()
            self.stuck_at = math.inf
            for ticket, job in entries:
                del self.left[id(job)]
                ticket.pending -= 1
                if ticket.pending == 0 and ticket.error is None:
                    ticket.finished = ended
                    done.append(ticket)
        settle_soon(done)
        return extent

    def _repair(self) -> bool:
        """See whether a known text is computed; if not, load the graphs anew and return True.

        Raises NotReady where they cannot be loaded.
        """
        self._watch([])
        sound = self._graphs.probe()
        with self._changed:
            self._check()
            self.stuck_at = math.inf
        if sound:
            return False
        self._graphs.replace()
        with self._changed:
            self._changed.wait_for(
                lambda: self.given_up or self._graphs.state is not GraphState.REPLACING
            )
            self._check()
            if self._graphs.state is GraphState.FAILED:
                raise NotReady(self._graphs.reason)
        return True

    def _watch(self, entries: list[Entry]) -> None:
        with self._changed:
            self._check()
            self.step = entries
            self.stuck_at = time.perf_counter() + self._stall_s
            self._changed.notify_all()

    def _note_failure(self, entries: list[Entry]) -> None:
        with self._changed:
            self._check()
            self.stuck_at = math.inf
            self.failed = True
            self._changed.notify_all()
        _log.exception("batch failed", texts=len(entries), requests=list_requests(self.links))

    def _check(self) -> None:
        if self.given_up:
            raise GivenUp
