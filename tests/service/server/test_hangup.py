"""A storm of SIGHUP: what is reread is what is there after the last, and few times."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from service.server.process import reload_at_hangup


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_one_reload_covers_the_signals_that_came_before_it() -> None:
    begun, let_go = threading.Event(), threading.Event()
    times: list[float] = []

    def reload() -> None:
        times.append(time.monotonic())
        begun.set()
        let_go.wait(30)

    reload_at_hangup(reload)
    os.kill(os.getpid(), signal.SIGHUP)
    assert begun.wait(30)
    threads = threading.active_count()
    for _ in range(3_000):
        os.kill(os.getpid(), signal.SIGHUP)
    assert threading.active_count() == threads
    last = time.monotonic()
    let_go.set()
    end = time.monotonic() + 30
    while len(times) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(times) == 2
    assert times[1] >= last
