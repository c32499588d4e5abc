"""Who is let into the queue: only those that will be answered in time, by what the work costs.

Refusing at once costs microseconds, and the client knows when to come again; a request that waits
in vain costs its client the wait, and often the trunk its work.
"""

import math
from dataclasses import dataclass

from service.errors import Overloaded
from service.scheduling.costs import Pace
from service.scheduling.queue import BULK_SHARE, Queue
from service.scheduling.ticket import Lane

# Answers take longer than their computation: requests wait for the event loop too, and predictions
# are off. By how many times is learned, so that of those let in one in 200 takes longer.
_LATE = 0.005
_STEP = 0.02
_MEMORY_S = 60.0
_LEAST_MARGIN, _FIRST_MARGIN, _MOST_MARGIN = 1.1, 1.25, 4.0
# A queue is full for a short text when it would be full for a long one: else the short ones would
# always take the last place. So much of the time left may be kept free for that, and so long after
# the last long one.
_RESERVED = 0.25
_RESERVED_S = 10.0
# So many times the bound may wait of all callers together, where each has no more than its share.
_MOST_TOGETHER = 2.0
# One in so many that a model refuses while it has nothing to do is computed all the same: what it
# costs was measured once, perhaps on a bad day.
_TRIED = 16
# Of answers that come sooner, a good part is not computing.
_SHORT_S = 0.02


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait, in predicted seconds, by lane."""

    max_queue_s: float
    max_bulk_queue_s: float

    def of(self, lane: Lane) -> float:
        """The most that may wait in a lane."""
        return self.max_bulk_queue_s if lane is Lane.BULK else self.max_queue_s


class Admission:
    """Predicts when a request would be answered. Called by the holder of the queue's lock."""

    def __init__(self, queue: Queue, pace: Pace, bounds: Bounds) -> None:
        self._queue = queue
        self._pace = pace
        self._bounds = bounds
        self._margin = _FIRST_MARGIN
        self._learned = 0.0
        self._largest, self._seen = 0.0, 0.0
        self._idle_refusals = 0

    def learn(self, predicted_s: float, seconds: float, now: float) -> None:
        """Learn from an answer how far predictions fall short: the margin is that quantile.

        By stochastic approximation (Robbins and Monro 1951), so nothing is kept of the answers.
        What a machine that stood still has taught is forgotten again within minutes.
        """
        if predicted_s > _SHORT_S:
            kept = math.exp((self._learned - now) / _MEMORY_S)
            self._learned = now
            margin = _FIRST_MARGIN + (self._margin - _FIRST_MARGIN) * kept
            margin += _STEP * (1.0 - _LATE if seconds > margin * predicted_s else -_LATE)
            self._margin = min(max(margin, _LEAST_MARGIN), _MOST_MARGIN)

    def check(
        self,
        lane: Lane,
        work: float,
        *,
        deadline: float,
        now: float,
        under_way: float,
        caller: str = "",
    ) -> float:
        """The seconds that an answer would take by prediction.

        Raises Overloaded, with when to come again, where it would not be in time.

        `work` are its own predicted seconds, `under_way` those left of the batch that runs.
        """
        waiting = self._queue.waiting_s(lane)
        bound = self._bounds.of(lane)
        left = max(0.0, deadline - now)
        judged = self._reserve(work, min(left, bound), now) if lane is Lane.INTERACTIVE else work
        # An empty queue takes any request: one that is too large alone would never get in.
        if waiting > 0 and self._is_full(lane, caller, waiting, judged, bound):
            raise Overloaded(
                f"work for {waiting:.3g} s is waiting, this counts for {judged:.3g} s, and "
                f"together {bound:g} s may wait; try again later, or send fewer inputs",
                retry_after_s=min(waiting, waiting + judged - bound),
            )
        begin = self._queue.begin(lane, caller, now)
        wait = self._predict(lane, judged, begin, now, under_way) * self._margin
        idle = not waiting and not under_way
        if wait <= left or (idle and left > 0 and self._try()):
            return self._predict(lane, work, begin, now, under_way)
        fits = work * self._margin <= left
        remedy = "try again later" if fits else "send fewer inputs"
        raise Overloaded(
            f"an answer would take about {wait:.3g} s, and {left:.3g} are left of the time it is "
            f"wanted in; {remedy}, or with a longer X-Request-Timeout",
            # What does not fit at all fits best once nothing waits.
            retry_after_s=wait - left if fits else under_way + waiting,
        )

    def _try(self) -> bool:
        """Whether one is let in though it would come too late: nothing else shows that it does."""
        self._idle_refusals = (self._idle_refusals + 1) % _TRIED
        return not self._idle_refusals

    def _is_full(
        self, lane: Lane, caller: str, waiting: float, judged: float, bound: float
    ) -> bool:
        """Whether more than may wait would; who has less than its share waiting still gets in."""
        if waiting + judged <= bound:
            return False
        own, callers = self._queue.share_s(lane, caller)
        over = waiting + judged > _MOST_TOGETHER * bound
        return not caller or over or own + judged > bound / callers

    def _reserve(self, work: float, most: float, now: float) -> float:
        """The work a request is judged by: as large as the largest of late, within bounds."""
        kept = math.exp((self._seen - now) / _RESERVED_S)
        self._largest, self._seen = max(work, self._largest * kept), now
        # All that it adds to the prediction counts: that it may be overtaken, and the margin.
        added = self._margin * (1.0 + self._queue.limits.overtaking)
        return max(work, min(self._largest, _RESERVED * most / added))

    def _predict(
        self, lane: Lane, work: float, begin: float, now: float, under_way: float
    ) -> float:
        """Seconds until a request that comes now, and counts from `begin`, would be answered."""
        queue, busy = self._queue, self._pace.busy(now)
        # It overtakes what is due after its last text.
        due = begin + queue.limits.overtaking * work
        if lane is Lane.INTERACTIVE:
            # Shorter texts that come meanwhile may overtake it.
            ahead = under_way + queue.ahead_s(lane, due)
            return ahead + work * (1.0 + queue.limits.overtaking * busy)
        ahead = under_way + queue.waiting_s(Lane.INTERACTIVE)
        # What interactive requests leave, and at least its share.
        return ahead + (queue.ahead_s(lane, due) + work) / max(BULK_SHARE, 1.0 - busy)
