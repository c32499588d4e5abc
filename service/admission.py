"""Who is let into the queue: only those that will be answered in time, by what the work costs.

Refusing at once costs microseconds, and the client knows when to come again; a request that waits
in vain costs its client the wait, and often the trunk its work.
"""

from dataclasses import dataclass

from service.costs import Pace
from service.errors import Overloaded
from service.queue import BULK_SHARE, Queue
from service.ticket import Lane

# A prediction is off by so much now and then; whoever is let in is to be answered in time.
_MARGIN = 1.25


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

    def check(
        self, lane: Lane, work: float, *, deadline: float, now: float, under_way: float
    ) -> None:
        """Raise Overloaded, with when to come again, where a request would not be in time.

        `work` are its own predicted seconds, `under_way` those left of the batch that runs.
        """
        waiting = self._queue.waiting_s(lane)
        bound = self._bounds.of(lane)
        # An empty queue takes any request: one that is too large alone would never get in.
        if waiting > 0 and waiting + work > bound:
            raise Overloaded(
                f"work for {waiting:.2f} s is waiting, and {bound:g} s may; try again later",
                retry_after_s=min(waiting, waiting + work - bound),
            )
        left = max(0.0, deadline - now)
        wait = self._predict(lane, work, now, under_way) * _MARGIN
        if wait <= left:
            return
        fits = work * _MARGIN <= left
        remedy = "try again later" if fits else "send fewer inputs"
        raise Overloaded(
            f"an answer would take about {wait:.2f} s, and it is wanted within {left:.2f}; "
            f"{remedy}, or with a longer X-Request-Timeout",
            retry_after_s=wait - left,
        )

    def _predict(self, lane: Lane, work: float, now: float, under_way: float) -> float:
        """Seconds until a request that comes now would be answered."""
        queue, busy = self._queue, self._pace.busy(now)
        ahead = under_way + queue.waiting_s(Lane.INTERACTIVE)
        if lane is Lane.INTERACTIVE:
            # Shorter texts that come meanwhile may overtake it.
            return ahead + work * (1.0 + queue.limits.overtaking * busy)
        # What interactive requests leave, and at least its share.
        return ahead + (queue.waiting_s(Lane.BULK) + work) / max(BULK_SHARE, 1.0 - busy)
