"""Work that blocks, off the event loop, in threads that the end of the process does not wait for.

asyncio's own threads are joined before it can end: a model that is still loading would hold it up.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def run_blocking(work: Callable[[], ResultT], name: str) -> ResultT:
    """The result of `work`, or what it raised, from a thread of its own of that name."""
    future: Future[ResultT] = Future()
    # From here on it cannot be cancelled, only left to itself.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(future)
