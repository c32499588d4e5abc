"""The conductor: from the items of a request to their answers, through each room once.

Items become jobs, jobs wait in the model's queue, the trunk and the heads run in the batcher's
thread, and the outputs become answers. Knows nothing of HTTP but that a client can go away.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from models.errors import ClozeError, InternalError, OperatorError, TooManyInputs
from models.heads import Head, Job, spread
from models.pipeline import prepare
from service.errors import (
    BundleRefused,
    ChangeUnderWay,
    ClientGone,
    DeadlinePassed,
    InvalidRequest,
    NotReady,
    Overloaded,
)
from service.memory import release_memory
from service.metrics import LaneState, Metrics, ModelState
from service.model import Model
from service.registry import Registry
from service.settings import Settings
from service.states import Entry
from service.terms import Terms, read_terms
from service.ticket import Lane, Ticket
from service.times import Times

# Above these a request is tokenised and decoded off the event loop, which others wait for.
# A character costs about 0.2 microseconds to tokenise, a hand-over to a thread about 100.
_LARGE_CHARACTERS = 4_000
_LARGE_ITEMS = 16
# Each keeps a core busy, perhaps, and its graphs in memory.
_MOST_STUCK = 3
# Of the length of a body that is surely not bulk: below ten kilobytes.
_SMALL_DIGITS = 4

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
        self.draining = False
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
            self.ready = not self._closed

    def reload(self) -> None:
        """Read the set of bundles again while serving; blocks. What fails is logged."""
        with self._reading:
            if self._closed or self.draining or not self.ready:
                return
            try:
                self.registry.reload(self.settings, self.metrics)
            except Exception:
                _log.exception("the bundles could not be read again")
            release_memory()

    def add_bundle(self, path: str, precision: str | None) -> Entry:
        """Load the bundle there, in place of a model of its name; blocks until that has gone.

        Raises PathRefused, BundleRefused with the reason, ChangeUnderWay, or NotReady.
        """
        refused: BundleRefused | None = None
        with self._change():
            try:
                return self.registry.add(path, precision, self.settings, self.metrics)
            except OperatorError as error:
                _log.warning("bundle refused", reason=str(error))
                refused = BundleRefused(str(error), param="path", code=error.code)
        # Outside, where nothing refers any more to what was loaded of it.
        raise refused

    def remove_bundle(self, name: str) -> Entry:
        """Let a model answer no more; blocks until it has gone.

        Raises ModelNotFound, LastModel, ChangeUnderWay, or NotReady.
        """
        with self._change():
            return self.registry.remove(name)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Change the set of models, and give back what that leaves behind."""
        self.check_loaded()
        if not self._reading.acquire(blocking=False):
            raise ChangeUnderWay(
                "the set of models is being changed already; ask again when that is over "
                "(GET /admin/bundles shows it)"
            )
        try:
            yield
            release_memory()
        finally:
            self._reading.release()

    def drain(self) -> None:
        """Be ready for nothing new from now on, while what is under way is finished.

        Sets one flag: may be called from a signal's handler.
        """
        self.draining = True

    def close(self) -> None:
        """Take nothing more, finish what is queued, and let go of the threads."""
        self.ready, self.reason, self._closed = False, "the service is shutting down", True
        self.registry.close()
        self._threads.shutdown()

    def check_ready(self) -> None:
        """Raise NotReady, with the reason, unless new requests would be answered by any model."""
        if self.draining:
            raise NotReady("the service is shutting down; ask another replica")
        self.check_loaded()
        if not self.registry.alive:
            raise NotReady(self.registry.reason or "a model's thread has ended")

    def check_room(self, scope: Mapping[str, Any]) -> None:
        """Raise Overloaded where no model has room for a request with these headers.

        Without its body it is not known which model it asks, nor how much: that is checked later.
        A large one may be bulk, and is let through.
        """
        if any(
            name == b"content-length" and len(value) > _SMALL_DIGITS
            for name, value in scope["headers"]
        ):
            return
        try:
            terms = read_terms(scope["headers"], time.perf_counter(), self.settings.timeout_s)
        except InvalidRequest:
            return  # which the route tells
        lane = terms.lane or Lane.INTERACTIVE
        full: Overloaded | None = None
        for model in self.registry:
            try:
                model.batcher.check_room(lane, terms.deadline)
            except Overloaded as error:
                full = error
            else:
                return
        if full is not None:
            raise full

    def check_live(self) -> None:
        """Raise NotReady where only a new process can help."""
        stuck = sum(model.batcher.stuck for model in self.registry)
        if stuck >= _MOST_STUCK:
            raise NotReady(f"{stuck} computations stand still and cannot be ended")

    def check_loaded(self) -> None:
        """Raise NotReady, with the reason, before the models are loaded and at the end."""
        if not self.ready:
            raise NotReady(self.reason)

    def _is_ready(self) -> bool:
        return self.ready and not self.draining and self.registry.alive

    def _tell_models(self) -> Iterator[ModelState]:
        for model in self.registry:
            yield ModelState(
                name=model.name,
                family=model.pipeline.manifest.family,
                precision=model.pipeline.precision,
                fingerprint=model.fingerprint,
                lanes=tuple(
                    LaneState(lane, model.batcher.queued_ms(lane), model.batcher.limit_ms(lane))
                    for lane in Lane
                ),
                queued_texts=model.batcher.queued_texts,
            )

    async def answer(
        self,
        question: Question,
        terms: Terms,
        times: Times,
        disconnected: Callable[[], Awaitable[Any]],
    ) -> Reply:
        """Answer a question. Raises a CallerError, or what time did to it.

        `disconnected` returns when the client has gone; its items are then dropped unrun.
        """
        self.check_loaded()
        times.items = len(question.items)
        if self.settings.log_texts:
            times.texts = question.items
        with self.registry.use_head(question.model, question.task, question.head) as found:
            return await self._answer(question, terms, found, times, disconnected)

    async def _answer(
        self,
        question: Question,
        terms: Terms,
        found: tuple[Model, Head[Any, Any, Any]],
        times: Times,
        disconnected: Callable[[], Awaitable[Any]],
    ) -> Reply:
        model, head = found
        times.model = model.name
        check_count(len(question.items), self.settings.max_inputs, question.field)
        bulk = len(question.items) > self.settings.bulk_inputs
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
            self.metrics.observe_drop(model.name, error.code, ticket.pending)
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
        self.metrics.observe_answer(model.name, head.task.name, tokens, times)
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
