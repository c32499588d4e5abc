"""A thread that looks at every model now and then, and has repaired what has stopped."""

import threading
from collections.abc import Callable, Iterable

import structlog

from service.scheduling.batcher import Batcher

_INTERVAL_S = 0.25

_log = structlog.get_logger(__name__)


class Watchdog:
    """Checks the batchers that `find` gives, until it is closed."""

    def __init__(self, find: Callable[[], Iterable[Batcher]]) -> None:
        self._find = find
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look at nothing more."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(_INTERVAL_S):
            self._look()

    def _look(self) -> None:
        # In a frame of its own: while this waits it refers to no model, which may be let go of.
        for batcher in self._find():
            try:
                batcher.check()
            except Exception:
                # Whatever it is, the next look may do better, and other models are looked at.
                _log.exception("a model could not be checked")
