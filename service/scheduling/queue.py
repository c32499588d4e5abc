"""The texts that wait for one trunk, and which of them it computes next.

Not thread-safe, and without a clock of its own: its owner holds the lock and says what time it is.

Texts lie in classes of about equal length. Each is due at a time: that of its arrival, less the
lead of a caller who has less waiting than others (service/scheduling/callers.py), and `overtaking`
times its own predicted seconds (and those of the texts before it in its request).
A batch begins with the text that is due first, so shorter texts that came a little later overtake
a long one, and later ones cannot: nobody is starved. Others join it while that is a gain for all,
see `Queue._joins`.

Bulk texts run when no interactive one waits, and otherwise get a share of the time.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from models.heads import Job
from service.errors import DeadlinePassed
from service.scheduling.callers import Callers
from service.scheduling.costs import Costs, Pace
from service.scheduling.due_times import DueTimes
from service.scheduling.ticket import Lane, Ticket

# Interactive texts wait for a bulk batch that has just begun: it may last a part of the others.
_BULK_BATCH = 0.5
BULK_SHARE = 0.125
# At full load every moment that is saved is saved for all who come: counted this often at most.
_CROWD = 20.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch may hold, and how long a text may be overtaken by shorter ones.

    `overtaking` counts in the text's own predicted seconds; with 0, order of arrival.
    """

    max_batch_tokens: int
    max_batch_s: float
    overtaking: float = 2.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be computed together, and the seconds it should take but for the pace."""

    lane: Lane
    entries: list[tuple[Ticket, Job]]
    tokens: int
    predicted_s: float


@dataclass(slots=True)
class _Piece:
    """The texts of one request in one class of length, with the times they are due, in order."""

    ticket: Ticket
    jobs: deque[tuple[float, Job]]


@dataclass(slots=True)
class _Class:
    """Texts of about equal length: pieces by the time their first text is due."""

    heap: list[tuple[float, int, _Piece]] = field(default_factory=list)
    texts: int = 0


@dataclass(slots=True)
class _Waiting:
    """One lane."""

    classes: dict[int, _Class] = field(default_factory=dict)
    dues: DueTimes = field(default_factory=DueTimes)
    callers: Callers = field(default_factory=Callers)
    texts: int = 0
    work_s: float = 0.0
    dropped: int = 0


class Queue:
    """Tickets in two lanes, until `take` hands out their texts."""

    def __init__(self, costs: Costs, limits: Limits, pace: Pace) -> None:
        self.costs = costs
        self.limits = limits
        self._pace = pace
        self._lanes = {lane: _Waiting() for lane in Lane}
        self._alone: deque[tuple[Ticket, Job]] = deque()
        self._number = count()
        self._owed_s = 0.0  # to the bulk lane
        self._work_s: dict[int, float] = {}  # of a text, by its tokens: no more than a model takes
        self.late: list[Ticket] = []  # found past their deadline; whoever takes batches tells them

    @property
    def texts(self) -> int:
        """How many wait."""
        return len(self._alone) + sum(lane.texts for lane in self._lanes.values())

    def waiting_s(self, lane: Lane) -> float:
        """Predicted seconds of work that wait in a lane."""
        return self._lanes[lane].work_s * self._pace.factor

    def ahead_s(self, lane: Lane, due: float) -> float:
        """The part of it that is due by then, and so goes before what is due later."""
        return self._lanes[lane].dues.before(due) * self._pace.factor

    def begin(self, lane: Lane, caller: str, now: float) -> float:
        """When a caller's text that comes now counts as having come."""
        return now - self._lanes[lane].callers.find_lead(caller) * self._pace.factor

    def share_s(self, lane: Lane, caller: str) -> tuple[float, int]:
        """Seconds of the caller's own work that wait, and among how many callers it is one."""
        callers = self._lanes[lane].callers
        return callers.waiting_s(caller) * self._pace.factor, callers.count_with(caller)

    def work_s(self, tokens: int) -> float:
        """What a waiting text is counted with: its own, and its part of a half-full batch."""
        known = self._work_s.get(tokens)
        if known is None:
            part = 2.0 * tokens / self.limits.max_batch_tokens
            known = self.costs.share_s(tokens, tokens) + self.costs.fixed_s * min(1.0, part)
            self._work_s[tokens] = known
        return known

    def predict_s(self, jobs: Iterable[Job]) -> float:
        """Seconds the jobs will take at the present pace."""
        return sum(self.work_s(job.tokens) for job in jobs) * self._pace.factor

    def add(self, ticket: Ticket, now: float) -> None:
        """Queue the texts of a ticket."""
        waiting = self._lanes[ticket.lane]
        pieces: dict[int, _Piece] = {}
        due, total = self.begin(ticket.lane, ticket.caller, now), 0.0
        for job in ticket.jobs:
            work = self.work_s(job.tokens)
            total += work
            due += self.limits.overtaking * work * self._pace.factor
            name = _classify(job.tokens)
            if name not in pieces:
                pieces[name] = _Piece(ticket, deque())
            pieces[name].jobs.append((due, job))
            waiting.dues.add(due, work)
        for name, piece in pieces.items():
            found = waiting.classes.setdefault(name, _Class())
            heapq.heappush(found.heap, (piece.jobs[0][0], next(self._number), piece))
            found.texts += len(piece.jobs)
        waiting.texts += len(ticket.jobs)
        waiting.work_s += total
        ticket.waiting_s, ticket.waiting = total, len(ticket.jobs)
        ticket.pieces = tuple(pieces.values())
        waiting.callers.add(ticket.caller, len(ticket.jobs), total)

    def release(self, ticket: Ticket) -> None:
        """Give up the place of what still waits of a ticket. May be called more than once."""
        waiting = self._lanes[ticket.lane]
        waiting.texts -= ticket.waiting
        waiting.work_s = max(0.0, waiting.work_s - ticket.waiting_s) if waiting.texts else 0.0
        waiting.dropped += ticket.waiting
        waiting.callers.remove(ticket.caller, ticket.waiting, ticket.waiting_s)
        ticket.waiting_s, ticket.waiting = 0.0, 0
        for piece in ticket.pieces:
            for due, job in piece.jobs:
                waiting.dues.remove(due, self.work_s(job.tokens))
        ticket.pieces = ()
        if waiting.dropped > max(1024, waiting.texts):
            self._sweep(waiting)

    def put_back(self, entries: Iterable[tuple[Ticket, Job]]) -> None:
        """Have these computed next, each in a batch of its own."""
        self._alone.extend(entries)

    def clear(self) -> list[Ticket]:
        """Take everything out, and return the tickets it belonged to."""
        found = {id(ticket): ticket for ticket, _ in self._alone}
        for waiting in self._lanes.values():
            for each in waiting.classes.values():
                found |= {id(piece.ticket): piece.ticket for _, _, piece in each.heap}
        for ticket in found.values():
            ticket.waiting_s, ticket.waiting, ticket.pieces = 0.0, 0, ()
        self._alone.clear()
        self._lanes = {lane: _Waiting() for lane in Lane}
        return list(found.values())

    def take(self, now: float) -> Batch | None:
        """The next batch, or None where nothing waits that still has somebody to wait for it."""
        while self._alone:
            ticket, job = self._alone.popleft()
            if not ticket.over:
                predicted_s = self.costs.batch_s(job.tokens, job.tokens)
                return Batch(ticket.lane, [(ticket, job)], job.tokens, predicted_s)
        for lane in self._order_lanes():
            while (batch := self._fill(lane, now)) is None and self._lanes[lane].texts:
                pass  # what was taken was found late by then
            if batch is not None:
                self._settle_share(batch)
                return batch
        return None

    def _fill(self, lane: Lane, now: float) -> Batch | None:
        """A batch around the text that is due first: of the rest, by due time, those that join."""
        waiting = self._lanes[lane]
        heads = [(each.heap[0][0], name) for name, each in waiting.classes.items() if each.heap]
        heapq.heapify(heads)
        crowd = min(_CROWD, 1.0 / max(1e-9, 1.0 - self._pace.busy(now)))
        entries: list[tuple[Ticket, Job]] = []
        tokens, width = 0, 0
        while heads:
            due, name = heapq.heappop(heads)
            found = waiting.classes[name]
            # At the last moment: a request that is found late in one class is so in all of them.
            if not self._trim(found, now):
                continue
            if found.heap[0][0] > due:
                heapq.heappush(heads, (found.heap[0][0], name))
                continue
            length = found.heap[0][2].jobs[0][1].tokens
            if entries and not self._joins(
                lane, length, len(entries), tokens, width, found.texts, waiting.texts * crowd
            ):
                continue
            ticket, job = self._pop(waiting, found)
            entries.append((ticket, job))
            tokens, width = tokens + length, max(width, length)
            if found.heap:
                heapq.heappush(heads, (found.heap[0][0], name))
        if self.late:
            # A request may be late for a long text when its short ones were taken already.
            entries = [entry for entry in entries if not entry[0].over]
            lengths = [job.tokens for _, job in entries]
            tokens, width = sum(lengths), max(lengths, default=0)
        return Batch(lane, entries, tokens, self.costs.batch_s(tokens, width)) if entries else None

    def _joins(  # noqa: PLR0917
        self,
        lane: Lane,
        length: int,
        texts: int,
        tokens: int,
        width: int,
        alike: int,
        crowd: float,
    ) -> bool:
        """Whether a text of that length joins a batch of so many texts, tokens, and width.

        It lengthens the wait of the texts in the batch by what it adds. In another batch it costs
        its own work, and a part of that batch's fixed cost, for all who wait after it. For n equal
        texts this gives batches of sqrt(waiting * fixed / own) texts, which is where the sum of
        all waiting times is least.
        """
        if tokens + length > self.limits.max_batch_tokens:
            return False
        costs = self.costs
        after = costs.batch_s(tokens + length, max(width, length))
        bound = self.limits.max_batch_s * (_BULK_BATCH if lane is Lane.BULK else 1.0)
        if after * self._pace.factor > bound:
            return False
        added = after - costs.batch_s(tokens, width)
        saved = costs.fixed_s / min(texts, alike) + costs.share_s(length, length) - added
        # Who is in bulk waits for nothing: only the sum of the work counts.
        return saved > 0 if lane is Lane.BULK else texts * added <= crowd * saved

    def _pop(self, waiting: _Waiting, found: _Class) -> tuple[Ticket, Job]:
        _, number, piece = found.heap[0]
        due, job = piece.jobs.popleft()
        if piece.jobs:
            heapq.heapreplace(found.heap, (piece.jobs[0][0], number, piece))
        else:
            heapq.heappop(found.heap)
        work = self.work_s(job.tokens)
        waiting.dues.remove(due, work)
        found.texts -= 1
        waiting.texts -= 1
        waiting.work_s = max(0.0, waiting.work_s - work) if waiting.texts else 0.0
        waiting.callers.remove(piece.ticket.caller, 1, work)
        piece.ticket.waiting_s -= work
        piece.ticket.waiting -= 1
        return piece.ticket, job

    def _order_lanes(self) -> tuple[Lane, Lane]:
        """Interactive texts first, but while the bulk lane is owed a batch."""
        batch_s = self.limits.max_batch_s * _BULK_BATCH
        if self._owed_s >= batch_s * (1.0 - BULK_SHARE):
            return Lane.BULK, Lane.INTERACTIVE
        return Lane.INTERACTIVE, Lane.BULK

    def _settle_share(self, batch: Batch) -> None:
        """Count what the bulk lane is owed while both lanes wait: its share of the time."""
        spent = batch.predicted_s * self._pace.factor
        if not self._lanes[Lane.BULK].texts:
            self._owed_s = 0.0
        elif batch.lane is Lane.INTERACTIVE:
            self._owed_s += spent * BULK_SHARE
        elif self._lanes[Lane.INTERACTIVE].texts:
            self._owed_s = max(0.0, self._owed_s - spent * (1.0 - BULK_SHARE))

    def _trim(self, found: _Class, now: float) -> bool:
        """Whether a text is first that somebody waits for, once the others are gone."""
        while found.heap:
            piece = found.heap[0][2]
            ticket = piece.ticket
            soonest = now + self.work_s(piece.jobs[0][1].tokens) * self._pace.factor
            if not ticket.over and ticket.deadline < soonest:
                ticket.error = DeadlinePassed("the request waited longer than it may")
                self.release(ticket)  # which may sweep this very class
                self.late.append(ticket)
                continue
            if not ticket.over:
                return True
            found.texts -= len(piece.jobs)
            heapq.heappop(found.heap)
        return False

    def _sweep(self, waiting: _Waiting) -> None:
        """Let go of the texts nobody waits for, once they are more than the others."""
        for found in waiting.classes.values():
            found.heap = [entry for entry in found.heap if not entry[2].ticket.over]
            heapq.heapify(found.heap)
            found.texts = sum(len(piece.jobs) for _, _, piece in found.heap)
        waiting.dropped = 0


def _classify(tokens: int) -> int:
    """The class of a length: four for each doubling."""
    return math.ceil(4 * math.log2(max(1, tokens)))
