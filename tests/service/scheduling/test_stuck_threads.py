"""Which threads count as given up: those that live, from their time on."""

import math
import threading
import time
from collections.abc import Iterator

import pytest

from service.scheduling.stuck_threads import StuckThreads


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def begin(let_go: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=let_go.wait, daemon=True)
    thread.start()
    return thread


def test_a_thread_counts_until_it_has_ended(let_go: threading.Event) -> None:
    stuck_threads = StuckThreads()
    first, second = begin(let_go), begin(let_go)
    for thread in (first, first, second):
        stuck_threads.add(thread)
    assert (stuck_threads.count(), stuck_threads.over) == (2, False)
    let_go.set()
    first.join()
    second.join()
    assert (stuck_threads.count(), stuck_threads.over) == (0, True)


def test_a_thread_counts_from_its_time_on(let_go: threading.Event) -> None:
    stuck_threads = StuckThreads()
    stuck_threads.add(begin(let_go), since=math.inf)
    assert (stuck_threads.count(), stuck_threads.over) == (0, False)
    stuck_threads.add(begin(let_go), since=time.perf_counter())
    assert stuck_threads.count() == 1
