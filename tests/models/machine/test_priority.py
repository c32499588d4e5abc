"""A thread that gives way does so alone."""

import os
import sys
import threading

import pytest

from models.machine.priority import give_way


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own there")
def test_only_the_thread_that_asks_gives_way() -> None:
    found: list[int] = []

    def look() -> None:
        for step in (lambda: None, give_way):
            step()
            found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    before, after = found
    assert after > before
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    before = os.getpriority(os.PRIO_PROCESS, 0)
    give_way()
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
