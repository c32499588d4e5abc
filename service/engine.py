"""The conductor: from the items of a request to their answers, through each room once.

Items become jobs, jobs wait in the model's queue, the trunk and the heads run in the batcher's
thread, and the outputs become answers. Knows nothing of HTTP but that a client can go away.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from models.errors import TooManyInputs
from models.heads import Head, Job, spread
from models.pipeline import prepare
from service.batcher import Ticket
from service.errors import ClientGone, DeadlinePassed, NotReady
from service.metrics import LaneState, Metrics, ModelState
from service.registry import Model, Registry
from service.settings import Settings
from service.times import Times

# Above these a request is tokenised and decoded off the event loop, which others wait for.
# A character costs about 0.2 microseconds to tokenise, a hand-over to a thread about 100.
_LARGE_CHARACTERS = 4_000
_LARGE_ITEMS = 16

ResultT = TypeVar("ResultT")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks. `field` is the name its items have there, for error messages."""

    task: str
    items: Sequence[Any]
    options: Any
    model: str | None = None
    head: str | None = None
    field: str = "inputs"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answers, in the order of the items, and which of these were truncated."""

    model: str
    answers: Sequence[Any]
    truncated: Sequence[bool]
    tokens: int


class Engine:
    """Answers questions from the loaded models. One for each application."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.registry = Registry()
        self.ready = False
        self.reason = "the models are loading"
        self.started = int(time.time())
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenizer")
        self._reading = threading.Lock()
        self._closed = False
        metrics.watch(self._tell_models, self._is_ready)

    def load(self) -> None:
        """Load every bundle; blocks. Raises an OperatorError that says what to mend."""
        with self._reading:
            try:
                self.registry.load(self.settings, self.metrics)
            except Exception as error:
                self.reason = str(error)
                raise
            self.ready = True

    def reload(self) -> None:
        """Read the set of bundles again while serving; blocks. What fails is logged."""
        with self._reading:
            if self._closed or not self.ready:
                return
            try:
                self.registry.reload(self.settings, self.metrics)
            except Exception:
                _log.exception("the bundles could not be read again")

    def close(self) -> None:
        """Take nothing more, finish what is queued, and let go of the threads."""
        self.ready, self.reason, self._closed = False, "the service is shutting down", True
        self.registry.close()
        self._threads.shutdown()

    def check_ready(self) -> None:
        """Raise NotReady, with the reason, unless every model would answer."""
        if not self.ready:
            raise NotReady(self.reason)
        if not self.registry.alive:
            raise NotReady("a model's thread has ended; restart the service")

    def _is_ready(self) -> bool:
        return self.ready and self.registry.alive

    def _tell_models(self) -> Iterator[ModelState]:
        for model in self.registry:
            yield ModelState(
                name=model.name,
                family=model.pipeline.manifest.family,
                precision=model.pipeline.precision,
                fingerprint=model.fingerprint,
                lanes=(LaneState("interactive", model.batcher.queued_ms, model.batcher.limit_ms),),
                queued_texts=model.batcher.queued_texts,
            )

    async def answer(
        self, question: Question, times: Times, disconnected: Callable[[], Awaitable[Any]]
    ) -> Reply:
        """Answer a question. Raises a CallerError, or what time did to it.

        `disconnected` returns when the client has gone; its items are then dropped unrun.
        """
        self.check_ready()
        times.items = len(question.items)
        if self.settings.log_texts:
            times.texts = question.items
        with self.registry.use_head(question.model, question.task, question.head) as found:
            return await self._answer(question, found, times, disconnected)

    async def _answer(
        self,
        question: Question,
        found: tuple[Model, Head[Any, Any, Any]],
        times: Times,
        disconnected: Callable[[], Awaitable[Any]],
    ) -> Reply:
        model, head = found
        times.model = model.name
        self._check_count(question)
        options = head.resolve(question.options)
        times.prepared = time.perf_counter()
        jobs = await self._offload(
            _is_large(question.items),
            lambda: prepare(head, question.items, options, question.field),
        )
        times.tokenize = time.perf_counter() - times.prepared
        sequences = spread(jobs)
        if sequences:
            await self._run(model, sequences, times, disconnected)
        times.decoded = time.perf_counter()
        answers = await self._offload(
            len(sequences) > _LARGE_ITEMS, lambda: [head.decode(job) for job in jobs]
        )
        times.decode = time.perf_counter() - times.decoded
        return self._reply(model, head, jobs, answers, times)

    def _check_count(self, question: Question) -> None:
        limit = self.settings.max_inputs
        if len(question.items) > limit:
            raise TooManyInputs(
                f"{len(question.items)} items are more than the {limit} one request may carry; "
                "send several requests",
                param=question.field,
            )

    async def _offload(self, large: bool, work: Callable[[], ResultT]) -> ResultT:  # noqa: FBT001
        if large:
            # In the request's context, so that what is logged there has its id.
            run = contextvars.copy_context().run
            return await asyncio.get_running_loop().run_in_executor(self._threads, run, work)
        return work()

    async def _run(
        self,
        model: Model,
        jobs: Sequence[Job],
        times: Times,
        disconnected: Callable[[], Awaitable[Any]],
    ) -> None:
        ticket = Ticket(jobs, self.settings.timeout_s, context=times)
        model.batcher.submit(ticket)
        times.submitted = ticket.submitted
        watch = asyncio.ensure_future(disconnected())
        watch.add_done_callback(
            lambda done: None if done.cancelled() else ticket.drop(ClientGone("client gone"))
        )
        alarm = asyncio.get_running_loop().call_later(
            self.settings.timeout_s,
            ticket.drop,
            DeadlinePassed(f"no answer within {self.settings.timeout_s:g} s"),
        )
        try:
            await ticket.future
        except (ClientGone, DeadlinePassed) as error:
            self.metrics.observe_drop(model.name, error.code, ticket.pending)
            raise
        finally:
            ticket.dropped = True
            alarm.cancel()
            watch.cancel()
        times.queue = ticket.started - ticket.submitted
        times.infer = ticket.finished - ticket.started

    def _reply(
        self,
        model: Model,
        head: Head[Any, Any, Any],
        jobs: Sequence[Job],
        answers: Sequence[Any],
        times: Times,
    ) -> Reply:
        times.tokens = tokens = sum(job.tokens for job in spread(jobs))
        self.metrics.observe_answer(model.name, head.task.name, tokens, times)
        return Reply(
            model=model.name,
            answers=answers,
            truncated=[job.encoded.truncated for job in jobs],
            tokens=tokens,
        )


def _is_large(items: Sequence[Any]) -> bool:
    if len(items) > _LARGE_ITEMS:
        return True
    return sum(_count_characters(item) for item in items) > _LARGE_CHARACTERS


def _count_characters(item: Any) -> int:
    return sum(map(len, item)) if isinstance(item, tuple) else len(item)
