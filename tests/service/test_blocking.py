"""Blocking work off the event loop, and what becomes of it where nobody waits."""

import asyncio
import threading

import pytest

from service.blocking import run_blocking
from tests.helpers.server import PATIENCE_S


def test_it_gives_the_result_from_a_thread_of_that_name() -> None:
    thread = asyncio.run(run_blocking(threading.current_thread, "loading"))
    assert thread.name == "loading"
    assert thread is not threading.main_thread()
    # The end of the process does not wait for it.
    assert thread.daemon


def test_it_raises_what_the_work_raised() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(run_blocking(fail, "loading"))


def test_work_that_nobody_waits_for_goes_on() -> None:
    entered, opened, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        opened.wait(PATIENCE_S)
        ended.set()

    async def give_up() -> None:
        task = asyncio.create_task(run_blocking(work, "loading"))
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # Ends while the work does not: the loop is closed by then.
    asyncio.run(give_up())
    assert not ended.is_set()
    opened.set()
    assert ended.wait(PATIENCE_S)
