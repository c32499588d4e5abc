"""The queue of one trunk, the thread that empties it, and the repairs that keep it going.

The thread never waits on a clock: whenever the trunk is free it computes the batch that the queue
gives it. What nobody waits for any more is dropped before it is packed.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from models.errors import ClozeError, InternalError
from models.text.packing import Extent
from service.errors import NotReady
from service.scheduling.admission import Admission, Bounds
from service.scheduling.batch_run import BatchRun, GivenUp
from service.scheduling.costs import Costs, Pace
from service.scheduling.graphs import Graphs, GraphState, Trunk
from service.scheduling.queue import Limits, Queue
from service.scheduling.stuck_threads import StuckThreads
from service.scheduling.ticket import Lane, Ticket, settle_soon

# How long a batch that was told to end may take to hear it.
_GRACE_S = 1.0
# A batch stands still when it has taken the time allowed, and so many times what was predicted.
_STALLED = 10.0
# Whoever looks after it comes four times a second.
_PAUSED_S = 2.0
# Loading graphs anew stands still when it takes so many times as long as a batch, and a minute.
_LOADING_STALLED = 10.0
_LEAST_LOADING_S = 60.0
_SHUTTING_DOWN = "the service is shutting down; ask another replica"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch that was run: how much it was, what it took, and whose it was.

    `began_s` by time.perf_counter(); `links` are the contexts of its tickets.
    """

    jobs: int
    tokens: int
    rows: int
    cells: int
    seconds: float
    lane: Lane
    predicted_s: float
    began_s: float
    links: tuple[Any, ...]
    failed: bool

    @property
    def waste(self) -> float:
        """The part of its cells that no token stands in."""
        return 1 - self.tokens / self.cells if self.cells else 0.0


class Batcher:
    """Runs batches of tickets in a thread of its own, until it is closed."""

    def __init__(
        self,
        trunk: Trunk,
        *,
        name: str,
        costs: Costs,
        limits: Limits,
        bounds: Bounds,
        stall_s: float = 30.0,
        observe: Callable[[BatchRecord], None] | None = None,
        on_replace: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._stall_s = stall_s
        self._observe = observe
        # The lock alone where nobody is told: a condition costs calls, and this is asked each time.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self.stuck_threads = StuckThreads()
        self._graphs = Graphs(
            trunk,
            name=name,
            changed=self._changed,
            stuck_threads=self.stuck_threads,
            limit_s=max(_LOADING_STALLED * stall_s, _LEAST_LOADING_S),
            on_replace=on_replace,
        )
        self._pace = Pace(time.perf_counter())
        self._queue = Queue(costs, limits, self._pace)
        self._bounds = bounds
        self._admission = Admission(self._queue, self._pace, bounds)
        self._run: BatchRun | None = None
        self._closed = False
        self._waking = False
        self._checked = math.inf  # when it was last looked after
        self._thread: threading.Thread
        self._start()

    @property
    def state(self) -> GraphState:
        """What becomes of the texts that wait."""
        return GraphState.CLOSED if self._closed else self._graphs.state

    @property
    def reason(self) -> str:
        """Why it does not compute; empty while it does."""
        return self._graphs.reason

    @property
    def alive(self) -> bool:
        """Whether requests handed in now are run, and need not wait for a repair."""
        return self.state is GraphState.RUNNING and self._thread.is_alive()

    @property
    def stuck(self) -> int:
        """Threads that were given up and still stand where they stood."""
        return self.stuck_threads.count()

    def queued_ms(self, lane: Lane) -> float:
        """Predicted milliseconds of the work that waits in a lane."""
        return 1e3 * self._queue.waiting_s(lane)

    def limit_ms(self, lane: Lane) -> float:
        """The same of as much as may wait there."""
        return 1e3 * self._bounds.of(lane)

    @property
    def queued_s(self) -> float:
        """Predicted seconds of the work that waits."""
        return sum(self._queue.waiting_s(lane) for lane in Lane)

    @property
    def queued_texts(self) -> int:
        """Texts that wait."""
        return self._queue.texts

    def check_room(self, lane: Lane, deadline: float, caller: str = "") -> None:
        """Raise Overloaded where not even the caller's shortest text would be answered in time."""
        with self._lock:
            self._admit(lane, 0.0, deadline, caller)

    def submit(self, ticket: Ticket) -> None:
        """Queue a request.

        Raises Overloaded where it would not be answered before its deadline, or too much waits;
        NotReady after `close`, and while the graphs cannot be loaded.
        """
        with self._lock:
            if self._closed:
                raise NotReady(_SHUTTING_DOWN)
            if self._graphs.state is GraphState.FAILED:
                raise NotReady(self._graphs.reason)
            work = self._queue.predict_s(ticket.jobs)
            ticket.predicted_s = self._admit(ticket.lane, work, ticket.deadline, ticket.caller)
            self._queue.add(ticket, time.perf_counter())
            waking, self._waking = self._waking, True
        if not waking:
            # Not at once: what came at the same time joins the same batch.
            ticket.call_soon(self._wake)

    def _wake(self) -> None:
        with self._changed:
            self._waking = False
            self._changed.notify_all()

    def finish(self, ticket: Ticket, *, learn: bool = True) -> None:
        """Nobody waits for it any more: its place is free at once, and it is not run.

        To `learn` is to see how long it took its caller against what was predicted.
        """
        with self._lock:
            ticket.dropped = True
            self._queue.release(ticket)
            if learn and ticket.lane is Lane.INTERACTIVE:
                now = time.perf_counter()
                self._admission.learn(ticket.predicted_s, now - ticket.submitted, now)

    def close(self, timeout_s: float | None = None) -> None:
        """Take nothing more, run what is queued, and end the thread.

        What is not done after the timeout hears NotReady, and is ended, within a second.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        thread.join(timeout_s)
        with self._changed:
            if self._run is not None:
                # Before it is stopped: it goes on with nothing then.
                self._run.given_up = True
                self._changed.notify_all()
            self._fail_all(NotReady(_SHUTTING_DOWN))
        end = time.perf_counter() + _GRACE_S
        while thread.is_alive() and time.perf_counter() < end:
            # Told again for as long as in `_end`: nobody looks after it any more.
            self._graphs.stop()
            thread.join(_GRACE_S / 20)
        if thread.is_alive():
            self.stuck_threads.add(thread)

    def check(self) -> None:
        """Repair what has stopped; for a thread of its owner's to call now and then.

        A batch that stands still is ended. If that does not end it, its thread is given up, the
        graphs are loaded anew, and its texts are computed one by one in another thread. Graphs
        that could not be loaded, or not in time, are tried again, each time after a longer while.
        Takes about a second at most.
        """
        with self._changed:
            if self._closed:
                return
            run, thread = self._run, self._thread
            now, last = time.perf_counter(), self._checked
            self._checked = now
            if run is not None and now - last > _PAUSED_S:
                # The process stood still, or hardly got a core: that is no time of the batch's.
                run.stuck_at += now - last
            stuck_at = math.inf if run is None else run.stuck_at
        self._graphs.check()
        with self._changed:
            if self._graphs.state is GraphState.FAILED:
                self._fail_all(NotReady(self._graphs.reason))
                return
        if not thread.is_alive():
            _log.error("a batcher's thread has ended; another one begins", model=self._name)
            self._resume(run)
        elif run is not None and time.perf_counter() >= stuck_at:
            self._end(run, stuck_at)

    def _admit(self, lane: Lane, work: float, deadline: float, caller: str) -> float:
        now = time.perf_counter()
        under_way = 0.0
        if self._run is not None:
            expected = self._run.batch.predicted_s * self._pace.factor
            under_way = max(0.0, self._run.began + expected - now)
        return self._admission.check(
            lane, work, deadline=deadline, now=now, under_way=under_way, caller=caller
        )

    def _start(self) -> None:
        """Let another thread empty the queue; the one before ends, if it ever can."""
        thread = threading.Thread(target=self._loop, name=f"batcher-{self._name}", daemon=True)
        with self._changed:
            self._thread = thread
            thread.start()
            self._changed.notify_all()

    def _loop(self) -> None:
        """Compute batch after batch until there are none after `close`, or it is given up."""
        ended = time.perf_counter()
        while True:
            with self._changed:
                run, waited = self._next()
                if run is None:
                    return
                began = run.began if waited else ended
            try:
                extent = run.compute()
            except GivenUp:
                return
            ended = time.perf_counter()
            with self._changed:
                if run.given_up:
                    return
                self._run = None
                if extent.rows and not run.failed:
                    # What lies between two batches is time they take.
                    self._pace.learn(run.batch.predicted_s, ended - began)
                self._pace.work(began, ended, interactive=run.interactive)
            self._tell(run, extent, ended)

    def _next(self) -> tuple[BatchRun | None, bool]:
        """The next batch, and whether it was waited for; None when there will be no more.

        Called with the lock held.
        """
        waited = False
        while self._thread is threading.current_thread():
            if self._graphs.state is GraphState.RUNNING:
                batch = self._queue.take(time.perf_counter())
                late, self._queue.late = self._queue.late, []
                settle_soon(late)
                if batch is not None:
                    predicted_s = _STALLED * batch.predicted_s * self._pace.factor
                    self._run = BatchRun(
                        batch,
                        graphs=self._graphs,
                        changed=self._changed,
                        release=self._queue.release,
                        stall_s=max(self._stall_s, predicted_s),
                    )
                    return self._run, waited
            if self._closed:
                return None, waited
            waited = True
            self._changed.wait()
        return None, waited

    def _tell(self, run: BatchRun, extent: Extent, ended: float) -> None:
        if self._observe is not None:
            batch = run.batch
            self._observe(
                BatchRecord(
                    jobs=len(batch.entries),
                    tokens=batch.tokens,
                    rows=extent.rows,
                    cells=extent.cells,
                    seconds=ended - run.began,
                    predicted_s=batch.predicted_s * self._pace.factor,
                    began_s=run.began,
                    lane=batch.lane,
                    failed=run.failed,
                    links=run.links,
                )
            )

    def _end(self, run: BatchRun, stuck_at: float) -> None:
        """End a batch that stands still, or else give its thread up.

        `stuck_at` tells in which step it was found: where it has gone on, it is left alone.
        """
        _log.error("a batch stands still", model=self._name, texts=len(run.step))

        def goes_on() -> bool:
            return self._run is not run or run.stuck_at != stuck_at or run.given_up

        end = time.perf_counter() + _GRACE_S
        while time.perf_counter() < end:
            with self._changed:
                if self._changed.wait_for(goes_on, _GRACE_S / 20):
                    return  # it has ended, or raised and its thread does the rest
                # With the lock held, so that it is no later batch that hears it. Between two
                # graphs there is nothing to stop: told again, it hears it in the next.
                self._graphs.stop()
        with self._changed:
            if goes_on():
                return
            run.given_up = True
            self.stuck_threads.add(self._thread)
        _log.error("its thread is given up", model=self._name, stuck=self.stuck)
        self._graphs.replace()
        self._resume(run)

    def _resume(self, run: BatchRun | None) -> None:
        """Begin again in another thread, with what is left of a batch, one text at a time."""
        with self._changed:
            self._run = None
            if run is not None:
                run.given_up = True
                if len(run.step) == 1:
                    # It stood alone: it is the one.
                    [(ticket, job)] = run.step
                    ticket.guilty = job
                    self._fail(ticket, InternalError("the text could not be computed in time"))
                self._queue.put_back(entry for entry in run.left.values() if not entry[0].over)
            if not self._closed:
                self._start()

    def _fail_all(self, error: ClozeError) -> None:
        """Everybody who waits hears the error. Called with the lock held."""
        waiting = self._queue.clear()
        if self._run is not None and self._run.given_up:
            waiting += [ticket for ticket, _ in self._run.left.values()]
        for ticket in waiting:
            self._fail(ticket, error)

    def _fail(self, ticket: Ticket, error: ClozeError) -> None:
        if not ticket.over:
            ticket.error = error
            self._queue.release(ticket)
            settle_soon([ticket])
