"""From the items of a request to their answers, through each room once.

Items become jobs, jobs wait in the model's queue, the trunk and the heads run in the batcher's
thread, and the outputs become answers. Knows nothing of HTTP but that a client can go away.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from models.errors import InternalError, TooManyInputs
from models.heads import Head, Job, spread
from models.pipeline import prepare
from service.answering.cancellation import Patience
from service.errors import ClientGone, DeadlinePassed
from service.limits.deadline import Terms
from service.observability.metrics import Metrics
from service.observability.request_record import Times
from service.registry.loaded_model import Model
from service.scheduling.ticket import Lane, Ticket
from service.settings import Settings

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
        self._tokenizing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenizer")
        # Apart, so that what is computed is answered however much waits to be tokenised.
        self._decoding = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoder")

    def close(self) -> None:
        """Let go of the threads."""
        self._tokenizing.shutdown(cancel_futures=True)
        self._decoding.shutdown()

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
        with Patience(terms, disconnected) as patience:
            times.prepared = time.perf_counter()
            jobs = await self._prepare(head, question, patience)
            times.tokenize = time.perf_counter() - times.prepared
            sequences = spread(jobs)
            if sequences:
                ticket = Ticket(sequences, deadline=terms.deadline, lane=lane, context=times)
                try:
                    await self._run(model, ticket, times, patience)
                except InternalError as error:
                    raise _name_item(error, ticket, jobs, question.field) from None
            times.decoded = time.perf_counter()
            answers = await self._offload(
                self._decoding,
                len(sequences) > _LARGE_ITEMS,
                lambda: [head.decode(job) for job in patience.while_it_lasts(jobs)],
                patience,
            )
        times.decode = time.perf_counter() - times.decoded
        return self._reply(model, head, jobs, answers, times)

    async def _prepare(
        self, head: Head[Any, Any, Any], question: Question, patience: Patience
    ) -> list[Job]:
        """The items as jobs, their texts tokenised."""
        options = await self._offload(
            self._tokenizing,
            head.is_large(question.options),
            lambda: head.resolve(question.options),
            patience,
        )
        return await self._offload(
            self._tokenizing,
            _is_large(question.items),
            lambda: prepare(head, patience.while_it_lasts(question.items), options, question.field),
            patience,
        )

    async def _offload(
        self,
        threads: ThreadPoolExecutor,
        large: bool,  # noqa: FBT001
        work: Callable[[], ResultT],
        patience: Patience,
    ) -> ResultT:
        return await patience.run(threads, work) if large else work()

    async def _run(self, model: Model, ticket: Ticket, times: Times, patience: Patience) -> None:
        """Have the texts computed, which a request whose patience ends gives up."""
        model.batcher.submit(ticket)
        times.submitted = ticket.submitted
        try:
            await patience.wait(ticket.future)
        except (ClientGone, DeadlinePassed) as error:
            self._metrics.observe_drop(model.name, error.code, ticket.pending)
            if isinstance(error, DeadlinePassed):
                model.batcher.learn(ticket)
            raise
        finally:
            model.batcher.drop(ticket)
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
