"""The graphs of one model while it serves: whether they compute, and loading them anew if not."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

import structlog

from models.heads import Job
from models.text.packing import Extent
from service.scheduling.stuck_threads import StuckThreads

_RETRY_S = 5.0
_LONGEST_RETRY_S = 60.0

_log = structlog.get_logger(__name__)


class Trunk(Protocol):
    """What a batcher computes with."""

    def compute(self, jobs: Sequence[Job]) -> Extent:
        """Set the output of each job."""

    def probe(self) -> None:
        """Compute a known text; raises where that cannot be done."""

    def stop(self) -> None:
        """End what is being computed, from another thread, as far as it can be ended."""

    def reopen(self) -> None:
        """Load the graphs anew, and prove their answers; raises where that cannot be done."""


class GraphState(StrEnum):
    """What becomes of the texts that wait."""

    RUNNING = "running"
    REPLACING = "replacing"  # the graphs are being loaded anew: they go on waiting
    FAILED = "failed"  # the graphs could not be loaded: none are taken, and it is tried again
    CLOSED = "closed"


class Graphs:
    """A trunk, and its state. `changed` guards it, and is notified whenever it changes.

    Loading anew may take `limit_s`; a thread that takes longer is given up, to the `stuck_threads`.
    """

    def __init__(
        self,
        trunk: Trunk,
        *,
        name: str,
        changed: threading.Condition,
        stuck_threads: StuckThreads,
        limit_s: float,
        on_replace: Callable[[], None] | None = None,
    ) -> None:
        self._trunk = trunk
        self._name = name
        self._changed = changed
        self._stuck_threads = stuck_threads
        self._limit_s = limit_s
        self._on_replace = on_replace
        self.compute = trunk.compute
        self.stop = trunk.stop
        self.state = GraphState.RUNNING
        self.reason = ""  # why it does not compute; empty while it does
        self._retry_s = _RETRY_S
        self._retry_at = math.inf
        self._latest: threading.Thread | None = None  # that loaded them anew
        self._overdue_at = math.inf

    def probe(self) -> bool:
        """Whether a known text is computed."""
        try:
            self._trunk.probe()
        except Exception:
            _log.exception("not even a known text is computed", model=self._name)
            return False
        return True

    def replace(self) -> None:
        """Begin to load the graphs anew in a thread of its own, unless that is under way.

        `state` says what comes of it.
        """
        with self._changed:
            if self._under_way:
                return
            if self.state is GraphState.RUNNING:
                self._set(GraphState.REPLACING, "are being loaded anew")
            self._retry_at, self._overdue_at = math.inf, time.perf_counter() + self._limit_s
            name = f"graphs-{self._name}"
            self._latest = threading.Thread(target=self._load, name=name, daemon=True)
            self._latest.start()
            self._stuck_threads.add(self._latest, self._overdue_at)

    def check(self) -> None:
        """Give up loading that takes too long, and begin again what is due to be tried again."""
        with self._changed:
            now = time.perf_counter()
            overdue = self._under_way and now >= self._overdue_at
            if overdue:
                self._fail(f"are not loaded after {self._limit_s:g} s")
            if now >= self._retry_at:
                self.replace()
            elif self._retry_at < math.inf and self._latest and self._latest.is_alive():
                # It may be a run of them that does not end; nothing else is computed.
                self.stop()
        if overdue:
            _log.error("loading graphs stands still", model=self._name, seconds=self._limit_s)

    @property
    def _under_way(self) -> bool:
        return self.state is not GraphState.RUNNING and self._retry_at == math.inf

    def _load(self) -> None:
        """Load them. What comes of it counts, however late, unless it is being tried again."""
        _log.warning("loading graphs anew", model=self._name)
        try:
            self._trunk.reopen()
        except Exception as error:
            with self._changed:
                if self._latest is threading.current_thread() and self._under_way:
                    self._fail(f"cannot be loaded: {error}")
            _log.exception("graphs cannot be loaded", model=self._name)
            return
        with self._changed:
            if self._latest is not threading.current_thread():
                return
            if self._on_replace is not None:
                self._on_replace()
            self._retry_s, self._retry_at = _RETRY_S, math.inf
            self._set(GraphState.RUNNING, "")
        _log.warning("graphs loaded anew", model=self._name)

    def _fail(self, why: str) -> None:
        self._retry_at = time.perf_counter() + self._retry_s
        self._retry_s = min(2.0 * self._retry_s, _LONGEST_RETRY_S)
        self._set(GraphState.FAILED, why)

    def _set(self, state: GraphState, why: str) -> None:
        self.state, self.reason = state, f"the graphs of {self._name} {why}" if why else ""
        self._changed.notify_all()
