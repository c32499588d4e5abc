"""The spans of requests and batches, and the thread that makes them.

A request is a server span with its stages below it. A batch is a span of its own that links to the
requests in it, and each of these has an infer span that links back. All but the beginning of a
request's span is made in a thread of its own: neither the event loop nor the trunk waits for it.
No span has what a caller sent.
"""

import queue
import threading
import time
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from service.endpoint import Endpoint, Kind
from service.error_response import find_outcome
from service.observability.request_record import RequestRecord
from service.scheduling.batcher import BatchRecord
from service.scope import ENDPOINT

_CARRIED = {b"traceparent": "traceparent", b"tracestate": "tracestate"}
_MOST_CARRIED_BYTES = 512
_MOST_WAITING = 10_000
_FLUSH_S = 5.0

_log = structlog.get_logger(__name__)


class Spans:
    """The spans of one application, and the thread that makes them."""

    def __init__(self, version: str) -> None:
        resource = Resource.create({"service.version": version})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "cloze"}))
        self._exporter = OTLPSpanExporter()
        self._processor = BatchSpanProcessor(self._exporter)
        # Whether a request is traced, the environment says; what belongs to one that is, always is.
        asking = TracerProvider(resource=resource, shutdown_on_exit=False)
        always = TracerProvider(resource=resource, sampler=ALWAYS_ON, shutdown_on_exit=False)
        asking.add_span_processor(self._processor)
        always.add_span_processor(self._processor)
        self._requests = asking.get_tracer("cloze", version)
        self._inner = always.get_tracer("cloze", version)
        self._propagator = TraceContextTextMapPropagator()
        self._waiting: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._offset_ns = time.time_ns() - time.perf_counter_ns()
        self._thread = threading.Thread(target=self._work, name="tracing", daemon=True)
        self._thread.start()

    def begin(self, scope: Scope, times: RequestRecord) -> None:
        """Begin the span of a request, below its caller's; none for what surrounds the service."""
        if scope[ENDPOINT].kind is Kind.OPERATION:
            return
        carried: dict[str, str] = {}
        for name, value in scope["headers"]:
            known = _CARRIED.get(name)
            if known is not None and len(value) <= _MOST_CARRIED_BYTES:
                carried[known] = value.decode("latin-1")
        context = self._propagator.extract(carried, Context())
        span = self._requests.start_span(
            scope["method"], context, SpanKind.SERVER, start_time=self._tell_ns(times.began)
        )
        if span.is_recording():
            times.span = span

    def finish(
        self, method: str, endpoint: Endpoint, status: int, ended: float, times: RequestRecord
    ) -> None:
        """End the span of a request, and make those of its stages, soon."""
        self._hand_over((self._end_request, method, endpoint, status, ended, times))

    def observe_batch(self, model: str, ran: BatchRecord) -> None:
        """Make the span of a batch, and the infer spans of its requests, soon."""
        spans = [times.span for times in ran.links if times.span is not None]
        if spans:
            self._hand_over((self._tell_batch, model, ran, spans))

    def close(self) -> None:
        """Send what there is, but wait for an endpoint that is down no longer than 5 s."""
        self._waiting.put(None)
        self._thread.join(_FLUSH_S)
        flush = threading.Thread(target=self._processor.shutdown, name="traces", daemon=True)
        flush.start()
        flush.join(_FLUSH_S)
        if flush.is_alive():
            _log.warning("the last traces were lost: their endpoint does not take them")
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _hand_over(self, work: tuple[Any, ...]) -> None:
        # What is too much for the thread is lost, as the SDK loses what its queue cannot hold.
        if self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put(work)

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            do, *what = work
            try:
                do(*what)
            except Exception:
                _log.exception("a span was lost", requests=[])

    def _end_request(
        self, method: str, endpoint: Endpoint, status: int, ended: float, times: RequestRecord
    ) -> None:
        span = times.span
        stages = (
            ("tokenize", times.prepared, times.tokenize),
            ("queue", times.submitted, times.queue),
            ("decode", times.decoded, times.decode),
        )
        below = _below(span)
        for name, began, seconds in stages:
            if began:
                stage = self._inner.start_span(name, below, start_time=self._tell_ns(began))
                # A stage that has no end lasted until the request failed in it.
                stage.end(self._tell_ns(began + seconds if seconds else ended))
        span.update_name(f"{method} {endpoint.path}")
        span.set_attributes(
            {
                "http.request.method": method,
                "http.route": endpoint.path,
                "http.response.status_code": status,
                "cloze.request_id": times.request_id,
                "cloze.outcome": find_outcome(status),
                "cloze.items": times.items,
                "cloze.tokens": times.tokens,
            }
        )
        told = {
            "cloze.dialect": endpoint.spoken,
            "cloze.model": times.model,
            "cloze.task": times.task,
            "error.type": times.code,
        }
        span.set_attributes({name: value for name, value in told.items() if value})
        if not 0 < status < 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(self._tell_ns(ended))

    def _tell_batch(self, model: str, ran: BatchRecord, spans: list[Span]) -> None:
        began, ended = self._tell_ns(ran.began_s), self._tell_ns(ran.began_s + ran.seconds)
        batch = self._inner.start_span(
            "batch",
            Context(),
            links=[Link(span.get_span_context()) for span in spans],
            start_time=began,
            attributes={
                "cloze.model": model,
                "cloze.batch.lane": str(ran.lane),
                "cloze.batch.texts": ran.jobs,
                "cloze.batch.tokens": ran.tokens,
                "cloze.batch.rows": ran.rows,
                "cloze.batch.waste": ran.waste,
                "cloze.batch.predicted_s": ran.predicted_s,
            },
        )
        links = [Link(batch.get_span_context())]
        for span in spans:
            stage = self._inner.start_span("infer", _below(span), links=links, start_time=began)
            if ran.failed:
                stage.set_status(Status(StatusCode.ERROR))
            stage.end(ended)
        if ran.failed:
            batch.set_status(Status(StatusCode.ERROR))
        batch.end(ended)

    def _tell_ns(self, moment: float) -> int:
        """A time.perf_counter() as nanoseconds since 1970."""
        offset = time.time_ns() - time.perf_counter_ns()
        if abs(offset - self._offset_ns) > 1_000_000:
            self._offset_ns = offset
        return int(moment * 1e9) + self._offset_ns


def _below(span: Span) -> Context:
    """The context in which a span is the parent of the next."""
    return set_span_in_context(span)
