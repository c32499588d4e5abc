"""Where the log is written: by a thread of its own, so that no line is worth a request.

A line waits in a bounded queue for whoever reads stderr. Where there is no room for it, or it
cannot be written (nobody reads any more, the disk is full), it is dropped and counted, and the
writer goes on: what serves, repairs, starts and ends never waits for it. Once lines come through
again, one says how many were lost.
"""

import atexit
import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TextIO

# So many characters wait at most: some ten thousand lines.
_MOST_CHARACTERS = 1 << 22
_RETRY_S = 0.05
_SAYING_S = 1.0
_POLL_S = 0.002


class LogStream:
    """A stream that takes lines at once, from any thread. `on_drop` is told of each that is lost.

    What it writes to is sys.stderr as it is when the line comes.
    """

    def __init__(self, most_characters: int = _MOST_CHARACTERS) -> None:
        self.on_drop: Callable[[], None] = lambda: None
        self.dropped = 0
        self._most = most_characters
        self._lines: SimpleQueue[tuple[TextIO, str]] = SimpleQueue()
        # Characters that came and that are done with. No lock is needed to compare them.
        self._taken = self._done = 0
        self._untold = 0
        # A finalizer may log amid a line of the same thread.
        self._changing = threading.RLock()
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> int:
        """Take a line, with its end; never waits and never raises."""
        with self._changing:
            if self._taken - self._done + len(line) > self._most:
                self._drop()
                return len(line)
            self._taken += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
                # A daemon's lines would be lost where the interpreter ends by itself.
                atexit.register(self.drain, _SAYING_S)
        self._lines.put((sys.stderr, line))
        return len(line)

    def flush(self) -> None:
        """Nothing: a line is on its way as soon as it was taken."""

    def drain(self, timeout_s: float) -> bool:
        """Wait, at most so long, until all that came is written or lost; whether it is."""
        end = time.monotonic() + timeout_s
        while self._done < self._taken:
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)
        return True

    def _run(self) -> None:
        while True:
            stream, line = self._lines.get()
            try:
                if self._untold and _write(stream, _tell_lost(self._untold)):
                    self._untold = 0
                if not _write(stream, line):
                    with self._changing:
                        self._drop()
            except Exception:  # whatever a stream that somebody put there raises
                with self._changing:
                    self._drop()
            self._done += len(line)

    def _drop(self) -> None:
        self.dropped += 1
        self._untold += 1
        self.on_drop()


def _write(stream: TextIO, line: str) -> bool:
    """Write it whole, past any buffer: what stays in one would be tried again for ever."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        with suppress(OSError, ValueError):
            stream.write(line)
            stream.flush()
            return True
        return False
    rest = line.encode("utf-8", "backslashreplace")
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK):
                return False
            time.sleep(_RETRY_S)
    return True


def _tell_lost(count: int) -> str:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    told = {"event": "lines of the log were lost", "count": count}
    return json.dumps({**told, "level": "warning", "timestamp": now}) + "\n"


# Of this process, which has one stderr.
LOG = LogStream()


def say(line: str) -> None:
    """A line for whoever started the process, behind those of the log; waits a second at most."""
    LOG.write(f"{line}\n")
    LOG.drain(_SAYING_S)
