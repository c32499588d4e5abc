"""Work that blocks, off the event loop, in threads that the end of the process does not wait for.

asyncio's own threads are joined before it can end: a model that is still loading would hold it up.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def run_blocking(work: Callable[[], ResultT], name: str) -> ResultT:
    """The result of `work`, or what it raised, from a thread of its own of that name."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ResultT] = loop.create_future()

    def settle(set_outcome: Callable[[], None]) -> None:
        if not future.done():  # nobody waits for it any more
            set_outcome()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failure = error
            outcome = lambda: future.set_exception(failure)  # noqa: E731
        else:
            outcome = lambda: future.set_result(result)  # noqa: E731
        try:
            loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:
            return  # the loop is closed

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future
