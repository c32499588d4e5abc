"""Looks into a model: what is asked of its graph and not of a head, which no batch computes.

One at a time, in a thread of its own that gives way to those that answer everybody else. Owns who
waits for it, and how many may. Holds a model until the thread is done with it, whether or not
anybody still waits for the answer.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from models.errors import InternalError, OperatorError
from models.machine.priority import give_way
from models.pipeline import Pipeline
from service.answering.cancellation import Cancellation, DeadlineClock, Departure
from service.errors import Overloaded
from service.limits.deadline import Deadline
from service.observability.metrics import Metrics
from service.observability.request_record import RequestRecord
from service.registry.loaded_model import LoadedModel
from service.registry.registry import Registry

# At once, the one that is computed among them. Each takes a second at most, most some milliseconds.
MOST_LOOKS = 16

# Raises where nobody waits any more.
Check = Callable[[], None]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What a request asks of a model itself, by the name that metrics have for it.

    `answer` computes in the thread and writes the whole answer; it gives the tokens that it read,
    too. `fits` says which models could, for a request that names none.
    """

    name: str
    items: Sequence[Any]
    answer: Callable[[Pipeline, Check], tuple[bytes, int]]
    fits: Callable[[Pipeline], bool]
    model: str | None = None


class Looker:
    """Has looks answered, in the order in which they are asked for. One for each application."""

    def __init__(
        self, registry: Registry, metrics: Metrics, find_clock: Callable[[], DeadlineClock]
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._find_clock = find_clock
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="looker", initializer=give_way)
        self._inside = 0
        self._counting = threading.Lock()

    def close(self) -> None:
        """Let go of the thread."""
        self._threads.shutdown(cancel_futures=True)

    async def answer(
        self,
        look: Look,
        deadline: Deadline,
        record: RequestRecord,
        client: tuple[Departure | None, Any],
    ) -> bytes:
        """The whole answer. Raises a CallerError, Overloaded, or what time did to it."""
        record.items = len(look.items)
        with Cancellation(deadline, self._find_clock(), *client) as cancellation:
            model = self._take(look)
            record.model, record.task = model.name, look.name
            began = ended = record.submitted = time.perf_counter()

            def compute() -> tuple[bytes, int]:
                nonlocal began, ended
                began = time.perf_counter()
                try:
                    cancellation.check()
                    return look.answer(model.pipeline, cancellation.check)
                except OperatorError as error:
                    # It was sound when it was loaded: its files are others now.
                    _log.error("cannot look into a bundle", model=model.name, reason=str(error))
                    raise InternalError("the bundle cannot be read any more") from None
                finally:
                    ended = time.perf_counter()

            content, tokens = await cancellation.run(
                self._threads, compute, lambda: self._let_go(model)
            )
        record.queue, record.infer = began - record.submitted, ended - began
        record.tokens = tokens
        self._metrics.observe_answer(model.name, look.name, tokens, record)
        return content

    def _take(self, look: Look) -> LoadedModel:
        """The model for a look that there is room for, until both are let go of."""
        model = self._registry.take(look.model, look.name, lambda each: look.fits(each.pipeline))
        with self._counting:
            full = self._inside >= MOST_LOOKS
            self._inside += not full
        if full:
            self._registry.release(model)
            raise Overloaded(
                f"{MOST_LOOKS} requests for attention or words are under way, which are answered "
                "one by one; try again later"
            )
        return model

    def _let_go(self, model: LoadedModel) -> None:
        with self._counting:
            self._inside -= 1
        self._registry.release(model)
