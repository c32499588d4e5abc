"""The process: what signals do to it, and how it ends."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from service.observability.log_stream import LOG

_SWITCH_INTERVAL_S = 0.0005
# So long the last lines of the log may take at most, whoever reads it.
_LAST_WORDS_S = 1.0
# Objects that may be garbage, before it is looked for; Python's 700 are those of a few requests.
_COLLECT_AFTER = 20_000


def end_early_without_loss() -> None:
    """Let SIGTERM and SIGINT end the process with 0 while there is nothing yet to be finished."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end_process(0))


def reload_at_hangup(reload: Callable[[], None] | None) -> None:
    """Call it after a SIGHUP, in a thread of its own; None ignores the signal.

    One call covers all signals that came before it began.
    """
    if sys.platform == "win32":
        return
    if reload is None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return
    # Its put may be interrupted by itself: a signal may come amid the handler of another.
    signals: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        while True:
            signals.get()
            with suppress(Empty):
                while True:
                    signals.get_nowait()
            reload()

    threading.Thread(target=work, name="reload", daemon=True).start()
    # The handler runs on the event loop, which others wait for.
    signal.signal(signal.SIGHUP, lambda *_: signals.put(None))


def leave_the_cores() -> None:
    """Let the interpreter disturb the trunk as little as can be."""
    # The batcher's thread waits at most so long for it while the event loop is busy; Python's
    # default of 5 ms is half a small batch, for which the trunk would stand still.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # What is imported stays: collections need not walk it again and again. Models come later, and
    # what is left of one that was replaced is still found. A request leaves nothing to collect.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


def end_process(code: int) -> None:
    """End the process with that exit code, whatever its threads still load or compute."""
    LOG.drain(_LAST_WORDS_S)
    with suppress(OSError, ValueError):  # nobody reads it any more
        sys.stdout.flush()
    os._exit(code)
