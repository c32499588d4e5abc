"""The graphs of one model while it serves: whether they compute, and loading them anew if not."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

import structlog

from models.heads import Job
from models.packing import Extent

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


class State(StrEnum):
    """What becomes of the texts that wait."""

    RUNNING = "running"
    REPLACING = "replacing"  # the graphs are being loaded anew: they go on waiting
    FAILED = "failed"  # the graphs could not be loaded: none are taken, and it is tried again
    CLOSED = "closed"


class Graphs:
    """A trunk, and its state. `changed` is notified whenever that changes."""

    def __init__(
        self,
        trunk: Trunk,
        *,
        name: str,
        changed: threading.Condition,
        on_replace: Callable[[], None] | None = None,
    ) -> None:
        self._trunk = trunk
        self._name = name
        self._changed = changed
        self._on_replace = on_replace
        self.compute = trunk.compute
        self.stop = trunk.stop
        self.state = State.RUNNING
        self.reason = ""  # why it does not compute; empty while it does
        self._retry_s = _RETRY_S
        self._retry_at = math.inf

    @property
    def due(self) -> bool:
        """Whether what could not be loaded is to be tried again now."""
        return self.state is State.FAILED and time.perf_counter() >= self._retry_at

    def probe(self) -> bool:
        """Whether a known text is computed."""
        try:
            self._trunk.probe()
        except Exception:
            _log.exception("not even a known text is computed", model=self._name)
            return False
        return True

    def replace(self) -> bool:
        """Load the graphs anew, and return whether that could be done."""
        self._set(State.REPLACING, f"the graphs of {self._name} are being loaded anew")
        _log.warning("loading graphs anew", model=self._name)
        try:
            self._trunk.reopen()
        except Exception as error:
            _log.exception("graphs cannot be loaded", model=self._name, retry_s=self._retry_s)
            self._retry_at = time.perf_counter() + self._retry_s
            self._retry_s = min(2.0 * self._retry_s, _LONGEST_RETRY_S)
            self._set(State.FAILED, f"the graphs of {self._name} cannot be loaded: {error}")
            return False
        self._retry_s, self._retry_at = _RETRY_S, math.inf
        self._set(State.RUNNING, "")
        _log.warning("graphs loaded anew", model=self._name)
        if self._on_replace is not None:
            self._on_replace()
        return True

    def _set(self, state: State, reason: str) -> None:
        with self._changed:
            self.state, self.reason = state, reason
            self._changed.notify_all()
