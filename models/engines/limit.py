"""An end for what a graph computes while it is loaded: one of a stranger's may have none."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import BundleDamaged

_STOPPING_S = 0.05


@contextmanager
def ends_within(seconds: float | None, stop: Callable[[], None], path: Path) -> Iterator[None]:
    """What is computed inside is stopped after so long, None: never; then BundleDamaged is raised.

    `stop` ends what runs now, and is called until nothing does: a computation of several runs goes
    on with the next.
    """
    if seconds is None:
        yield
        return
    ended, late = threading.Event(), threading.Event()

    def watch() -> None:
        if ended.wait(seconds):
            return
        late.set()
        while not ended.wait(_STOPPING_S):
            stop()

    thread = threading.Thread(target=watch, name="loading", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        if late.is_set():
            raise BundleDamaged(
                f"{path} did not compute what it is tried with within {seconds:g} s; give it "
                "longer (CLOZE_LOAD_TIMEOUT_S), or export it again"
            ) from error
        raise
    finally:
        ended.set()
        thread.join()
