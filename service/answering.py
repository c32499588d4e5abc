"""From the items of a request to their answers, through each room once.

Items become jobs, jobs wait in the model's queue, the trunk and the heads run in the batcher's
thread, and the outputs become answers. Knows nothing of HTTP but that a client can go away.
"""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from models.errors import ClozeError, InternalError, TooManyInputs
from models.heads import Head, Job, spread
from models.pipeline import prepare
from service.errors import ClientGone, DeadlinePassed
from service.metrics import Metrics
from service.model import Model
from service.settings import Settings
from service.terms import Terms
from service.ticket import Lane, Ticket
from service.times import Times

# Above these a request is tokenised and decoded off the event loop, which others wait for.
# A character costs about 0.2 microseconds to tokenise, a hand-over to a thread about 100.
_LARGE_CHARACTERS = 4_000
_LARGE_ITEMS = 16

ResultT = TypeVar("ResultT")


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


class Answerer:
    """Answers questions of models that were found. One for each application."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenizer")

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown()

    async def answer(
        self,
        question: Question,
        terms: Terms,
        found: tuple[Model, Head[Any, Any, Any]],
        times: Times,
        disconnected: Callable[[], Awaitable[Any]],
    ) -> Reply:
        """The answers of the head that was found. Raises a CallerError, or what time did to it."""
        model, head = found
        times.model = model.name
        check_count(len(question.items), self._settings.max_inputs, question.field)
        bulk = len(question.items) > self._settings.bulk_inputs
        lane = terms.lane or (Lane.BULK if bulk else Lane.INTERACTIVE)
        # Before it is tokenised: what is refused anyway is refused for little.
        model.batcher.check_room(lane, terms.deadline)
        targets = getattr(question.options, "targets", None) or ()
        options = await self._offload(
            len(targets) > _LARGE_ITEMS, lambda: head.resolve(question.options)
        )
        times.prepared = time.perf_counter()
        jobs = await self._offload(
            _is_large(question.items),
            lambda: prepare(head, question.items, options, question.field),
        )
        times.tokenize = time.perf_counter() - times.prepared
        sequences = spread(jobs)
        if sequences:
            ticket = Ticket(sequences, deadline=terms.deadline, lane=lane, context=times)
            try:
                await self._run(model, ticket, terms, times, disconnected)
            except InternalError as error:
                raise _name_item(error, ticket, jobs, question.field) from None
        times.decoded = time.perf_counter()
        answers = await self._offload(
            len(sequences) > _LARGE_ITEMS, lambda: [head.decode(job) for job in jobs]
        )
        times.decode = time.perf_counter() - times.decoded
        return self._reply(model, head, jobs, answers, times)

    async def _offload(self, large: bool, work: Callable[[], ResultT]) -> ResultT:  # noqa: FBT001
        if large:
            # In the request's context, so that what is logged there has its id.
            run = contextvars.copy_context().run
            return await asyncio.get_running_loop().run_in_executor(self._threads, run, work)
        return work()

    async def _run(
        self,
        model: Model,
        ticket: Ticket,
        terms: Terms,
        times: Times,
        disconnected: Callable[[], Awaitable[Any]],
    ) -> None:
        loop = asyncio.get_running_loop()

        def give_up(error: ClozeError) -> None:
            model.batcher.drop(ticket)
            if not ticket.future.done():
                ticket.future.set_exception(error)

        model.batcher.submit(ticket)
        times.submitted = ticket.submitted
        watch = asyncio.ensure_future(disconnected())
        watch.add_done_callback(
            lambda done: None if done.cancelled() else give_up(ClientGone("client gone"))
        )
        late = DeadlinePassed(f"no answer within {terms.timeout_s:g} s")
        # The loop's clock is another one than the deadline's.
        alarm = loop.call_later(ticket.deadline - time.perf_counter(), give_up, late)
        try:
            await ticket.future
        except (ClientGone, DeadlinePassed) as error:
            self._metrics.observe_drop(model.name, error.code, ticket.pending)
            raise
        finally:
            model.batcher.drop(ticket)
            alarm.cancel()
            watch.cancel()
        model.batcher.learn(ticket)
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
        self._metrics.observe_answer(model.name, head.task.name, tokens, times)
        return Reply(
            model=model.name,
            answers=answers,
            truncated=[job.encoded.truncated for job in jobs],
            tokens=tokens,
        )


def _name_item(
    error: InternalError, ticket: Ticket, jobs: Sequence[Job], field: str
) -> InternalError:
    """The error, saying which item it is about where that is known."""
    for place, job in enumerate(jobs):
        if ticket.guilty is not None and any(ticket.guilty is part for part in spread([job])):
            return InternalError(error.message, param=f"{field}[{place}]")
    return error


def check_count(items: int, limit: int, field: str) -> None:
    """Raise TooManyInputs for more items than one request may carry."""
    if items > limit:
        raise TooManyInputs(
            f"{items} items are more than the {limit} one request may carry; send several requests",
            param=field,
        )


def _is_large(items: Sequence[Any]) -> bool:
    if len(items) > _LARGE_ITEMS:
        return True
    return sum(_count_characters(item) for item in items) > _LARGE_CHARACTERS


def _count_characters(item: Any) -> int:
    return sum(map(len, item)) if isinstance(item, tuple) else len(item)
