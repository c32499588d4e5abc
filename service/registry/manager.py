"""The life of the service: which models answer, whether they do, and who is let in to ask them.

Loads and changes the set of models, says whether it is ready and why not, and hands each question
to the model it is for.
"""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from models.errors import OperatorError
from service.answering.answerer import Answerer, Question, Reply
from service.errors import (
    BundleRefused,
    ChangeUnderWay,
    InvalidRequest,
    NotReady,
    Overloaded,
)
from service.limits.deadline import Terms, read_terms
from service.observability.metrics import LaneState, Metrics, ModelState
from service.observability.request_record import Times
from service.registry.inventory import Entry
from service.registry.memory import release_memory
from service.registry.registry import Registry
from service.scheduling.ticket import Lane
from service.settings import Settings

# Each keeps a core busy, perhaps, and its graphs in memory.
_MOST_STUCK = 3
# Of the length of a body that is surely not bulk: below ten kilobytes.
_SMALL_DIGITS = 4

_log = structlog.get_logger(__name__)


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
        self._answerer = Answerer(settings, metrics)
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
        self._answerer.close()

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
        stuck = self.registry.count_stuck()
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
            return await self._answerer.answer(question, terms, found, times, disconnected)
