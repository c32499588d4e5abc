"""From the items of a request to their answers, through each room once.

Items become jobs, jobs wait in the model's queue, the trunk and the heads run in the batcher's
thread, and the outputs become answers. Knows nothing of HTTP but that a client can go away.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.types import Receive

from models.asking import HeadName
from models.errors import CallerError, ClozeError, InternalError, InvalidValue, TooManyInputs
from models.heads import Head, Job, spread
from models.pipeline import MAX_ANSWER_CHARACTERS, prepare
from models.text.encoded import Cut
from models.text.encoder import Encoder
from service.answering.cancellation import Cancellation, DeadlineClock, Departure
from service.answering.looker import Looker
from service.errors import ClientGone, DeadlinePassed
from service.limits.deadline import Deadline
from service.observability.metrics import Metrics
from service.observability.request_record import RequestRecord
from service.registry.loaded_model import LoadedModel
from service.registry.registry import Registry
from service.scheduling.ticket import Lane, Ticket
from service.settings import Settings

# Above these a request is tokenised and decoded off the event loop, which others wait for.
# A character costs about 0.2 microseconds to tokenise, a hand-over to a thread about 100.
_LARGE_CHARACTERS = 4_000
_LARGE_ITEMS = 16
# Above these, an item counted as what it costs beside its characters, it takes longer than 20
# milliseconds, and has threads of its own: others do not wait until it has been read.
_LONG_CHARACTERS = 100_000
_ITEM_CHARACTERS = 125
# Of the texts of one request together, besides the first of each. They take four kilobytes each.
_MAX_WINDOWS = 1 << 14
# Of a request whose items may fail alone, in the computation: each has the others computed anew.
_MOST_FAILURES = 4

# Whom to ask when the client leaves, and what comes from it: see Cancellation.
Client = tuple[Departure | None, Receive]


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks. `field` is the name its items have there, for error messages.

    The first `beside` of the items stand beside that field, and do not count. With `skip` an item
    that cannot be answered fails alone.
    """

    task: str
    items: Sequence[Any]
    options: Any
    model: str | None = None
    head: HeadName = None
    field: str = "inputs"
    beside: int = 0
    skip: bool = False


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a request asks of a model's tokenizer alone, by the name that metrics have for it.

    `convert` makes of an item its result as JSON, and says of how many tokens it is.
    """

    name: str
    items: Sequence[Any]
    convert: Callable[[Encoder, Any], tuple[bytes, int]]
    model: str | None = None
    field: str = "inputs"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answers, in the order of the items, and where these were cut, None for whole ones.

    `failed` are the errors of items that have none, by their places. `weight` is about how much
    the answers are to write, where a vector is 1.
    """

    model: str
    answers: Sequence[Any]
    truncated_at: Sequence[Cut | None]
    tokens: int
    weight: int
    failed: Mapping[int, ClozeError] = field(default_factory=dict)

    @property
    def places(self) -> list[int]:
        """Those of the items that have answers."""
        count = len(self.answers) + len(self.failed)
        return [place for place in range(count) if place not in self.failed]

    @property
    def truncated(self) -> list[bool]:
        """Which of the items were cut."""
        return [at is not None for at in self.truncated_at]


class Answerer:
    """Answers questions of the models that are loaded. One for each application."""

    def __init__(self, registry: Registry, settings: Settings, metrics: Metrics) -> None:
        self._registry = registry
        self._settings = settings
        self._metrics = metrics
        self._clock: DeadlineClock | None = None
        self._tokenizing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenizer")
        # Apart, so that none of the other requests waits for megabytes to be read.
        self._reading = ThreadPoolExecutor(max_workers=2, thread_name_prefix="reader")
        # Apart, so that what is computed is answered however much waits to be tokenised.
        self._decoding = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoder")
        self.looker = Looker(registry, metrics, self._find_clock)

    def close(self) -> None:
        """Let go of the threads."""
        self._tokenizing.shutdown(cancel_futures=True)
        self._reading.shutdown(cancel_futures=True)
        self._decoding.shutdown()
        self.looker.close()

    def _find_clock(self) -> DeadlineClock:
        loop = asyncio.get_running_loop()
        if self._clock is None or self._clock.loop is not loop:
            self._clock = DeadlineClock(loop)
        return self._clock

    async def answer(
        self, question: Question, deadline: Deadline, record: RequestRecord, client: Client
    ) -> Reply:
        """The answers to a question. Raises a CallerError, or what time did to it.

        When the client has gone, its items are dropped unrun.
        """
        record.items = len(question.items)
        if self._settings.log_texts:
            record.texts = question.items
        model, head = self._registry.take_head(question.model, question.task, question.head)
        try:
            record.model, record.task = model.name, head.task.name
            return await self._answer(question, deadline, (model, head), record, client)
        finally:
            self._registry.release(model)

    async def _answer(
        self,
        question: Question,
        deadline: Deadline,
        found: tuple[LoadedModel, Head[Any, Any, Any]],
        record: RequestRecord,
        client: Client,
    ) -> Reply:
        model, head = found
        counted = len(question.items) - question.beside
        check_count(counted, self._settings.max_inputs, question.field)
        bulk = len(question.items) > self._settings.bulk_inputs
        lane = deadline.lane or (Lane.BULK if bulk else Lane.INTERACTIVE)
        if not deadline.asked:
            # Before it is tokenised: what is refused anyway is refused for little.
            model.batcher.check_room(lane, deadline.at, record.caller)
        with Cancellation(deadline, self._find_clock(), *client) as cancellation:
            record.prepared = time.perf_counter()
            failed: dict[int, ClozeError] = {}
            tries = _MOST_FAILURES if question.skip else 0
            jobs = await self._prepare(head, question, cancellation, failed)
            record.tokenize = time.perf_counter() - record.prepared
            places = [place for place in range(len(question.items)) if place not in failed]
            sequences = spread(jobs) if any(job.more for job in jobs) else jobs
            while sequences:
                ticket = Ticket(
                    sequences,
                    deadline=deadline.at,
                    lane=lane,
                    caller=record.caller,
                    context=record,
                )
                try:
                    await self._run(model, ticket, record, cancellation)
                    break
                except InternalError as error:
                    guilty = _find_guilty(ticket, jobs)
                    if guilty is None:
                        raise
                    named = f"{question.field}[{places[guilty]}]"
                    found_out = InternalError(error.message, param=named)
                    if not tries:
                        raise found_out from None
                # The others are computed again without it.
                tries -= 1
                failed[places.pop(guilty)] = found_out
                jobs = jobs[:guilty] + jobs[guilty + 1 :]
                sequences = spread(jobs)
            record.decoded = time.perf_counter()
            weight = sum(map(head.weigh, jobs))
            answers = await self._decode(head, jobs, cancellation, large=weight > _LARGE_ITEMS)
        record.decode = time.perf_counter() - record.decoded
        record.tokens = tokens = sum(job.tokens for job in sequences)
        self._metrics.observe_answer(model.name, head.task.name, tokens, record)
        cuts = [job.encoded.truncated_at for job in jobs]
        return Reply(model.name, answers, cuts, tokens, weight, failed)

    async def _decode(
        self,
        head: Head[Any, Any, Any],
        jobs: Sequence[Job],
        cancellation: Cancellation,
        *,
        large: bool,
    ) -> list[Any]:
        """The answers of jobs that were computed; `large` ones off the event loop."""
        if not large:
            return [head.decode(job) for job in jobs]
        wanted = cancellation.while_it_lasts(jobs)
        return await cancellation.run(self._decoding, lambda: [head.decode(job) for job in wanted])

    async def convert(
        self, wanted: Conversion, deadline: Deadline, record: RequestRecord, client: Client
    ) -> tuple[str, list[bytes], int]:
        """The name of the model, its results, and of how many tokens they are.

        Raises a CallerError, or what time did to the request.
        """
        items, field = wanted.items, wanted.field
        record.items = len(items)
        if self._settings.log_texts:
            record.texts = items
        check_count(len(items), self._settings.max_inputs, field)
        model = self._registry.take(wanted.model, wanted.name, lambda _: True)
        try:
            record.model, record.task = model.name, wanted.name
            encoder = model.pipeline.encoder
            with Cancellation(deadline, self._find_clock(), *client) as cancellation:
                record.prepared = time.perf_counter()

                def work() -> list[tuple[bytes, int]]:
                    lasting = cancellation.while_it_lasts(items)
                    return list(_convert_all(wanted, lasting, encoder))

                characters = sum(map(len, items)) + _ITEM_CHARACTERS * len(items)
                if characters > _LARGE_CHARACTERS:
                    long = characters > _LONG_CHARACTERS
                    threads = self._reading if long else self._tokenizing
                    found = await cancellation.run(threads, work)
                else:
                    found = work()
                record.tokenize = time.perf_counter() - record.prepared
            record.tokens = tokens = sum(count for _, count in found)
            self._metrics.observe_answer(model.name, wanted.name, tokens, record)
            return model.name, [content for content, _ in found], tokens
        finally:
            self._registry.release(model)

    async def _prepare(
        self,
        head: Head[Any, Any, Any],
        question: Question,
        cancellation: Cancellation,
        failed: dict[int, ClozeError],
    ) -> list[Job]:
        """The items as jobs, their texts tokenised; those that may fail alone are put there."""
        items, field = question.items, question.field
        if head.slow_options and head.is_large(question.options):
            options = await cancellation.run(self._reading, lambda: head.resolve(question.options))
        else:
            options = head.resolve(question.options)
        characters = sum(_count_characters(item) for item in items)
        if head.rereads:
            characters *= head.count_readings(options)
        alone = cast("dict[int, CallerError]", failed) if question.skip else None
        if len(items) > _LARGE_ITEMS or characters > _LARGE_CHARACTERS:
            wanted = cancellation.while_it_lasts(items)
            long = characters + _ITEM_CHARACTERS * len(items) > _LONG_CHARACTERS
            threads = self._reading if long else self._tokenizing
            return await cancellation.run(
                threads, lambda: prepare(head, wanted, options, field, _MAX_WINDOWS, failed=alone)
            )
        return prepare(head, items, options, field, _MAX_WINDOWS, failed=alone)

    async def _run(
        self, model: LoadedModel, ticket: Ticket, record: RequestRecord, cancellation: Cancellation
    ) -> None:
        """Have the texts computed, which a request that is cancelled gives up."""
        model.batcher.submit(ticket)
        record.submitted = ticket.submitted
        learn = False
        try:
            await cancellation.wait(ticket.future)
            learn = True
        except (ClientGone, DeadlinePassed) as error:
            self._metrics.observe_drop(model.name, error.code, ticket.pending)
            learn = isinstance(error, DeadlinePassed)
            raise
        finally:
            model.batcher.finish(ticket, learn=learn)
        record.queue = ticket.started - ticket.submitted
        record.infer = ticket.finished - ticket.started


def _convert_all(
    wanted: Conversion, items: Iterable[Any], encoder: Encoder
) -> Iterator[tuple[bytes, int]]:
    written = 0
    for place, item in enumerate(items):
        try:
            content, tokens = wanted.convert(encoder, item)
            written += len(content)
            if written > MAX_ANSWER_CHARACTERS:
                raise InvalidValue(
                    f"with this item the answer would have more than {MAX_ANSWER_CHARACTERS} "
                    "characters; send shorter texts or fewer of them"
                )
        except CallerError as error:
            raise error.at(wanted.field, place) from None
        yield content, tokens


def _find_guilty(ticket: Ticket, jobs: Sequence[Job]) -> int | None:
    """The place of the job whose computation failed, where that is known."""
    for place, job in enumerate(jobs):
        if ticket.guilty is not None and any(ticket.guilty is part for part in spread([job])):
            return place
    return None


def check_count(items: int, limit: int, field: str) -> None:
    """Raise TooManyInputs for more items than one request may carry."""
    if items > limit:
        raise TooManyInputs(
            f"{items} items are more than the {limit} one request may carry; send several requests",
            param=field,
        )


def _count_characters(item: Any) -> int:
    return sum(map(len, item)) if isinstance(item, tuple) else len(item)
