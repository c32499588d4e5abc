"""The threads of a model that were given up, and go on standing where they stand."""

import threading
import time


class StuckThreads:
    """Threads that count as stuck from some time on, until they end; for use from any thread.

    Refers to nothing of the model: what hangs may outlive it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, float] = {}

    def add(self, thread: threading.Thread, since: float = 0.0) -> None:
        """Count a thread that was started: from now on, or from a time of time.perf_counter()."""
        with self._lock:
            self._forget_ended()
            self._threads[thread] = since

    def count(self) -> int:
        """How many stand still at this moment."""
        now = time.perf_counter()
        with self._lock:
            self._forget_ended()
            return sum(now >= since for since in self._threads.values())

    @property
    def over(self) -> bool:
        """Whether none is left, of those either whose time has not come."""
        with self._lock:
            self._forget_ended()
            return not self._threads

    def _forget_ended(self) -> None:
        self._threads = {
            thread: since for thread, since in self._threads.items() if thread.is_alive()
        }
