"""Every metric of the service, by name; docs/metrics.md says what each is for.

Counted where it happens: the instrument, the answerer, the batcher. What has a present state
(models, queues, readiness) is asked when Prometheus asks, so it is never out of date. Labels are
bounded: `model` is a name that was loaded, `route` a path that is routed, never what a client sent.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.machine.memory import find_memory_limit
from service.endpoint import Endpoint
from service.error_response import find_outcome
from service.observability.request_record import RequestRecord
from service.scheduling.batcher import BatchRecord

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TOKENS = (8, 16, 32, 64, 128, 256, 384, 512, 768, 1024, 2048)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)

CONTENT_TYPE = CONTENT_TYPE_LATEST

# When a series began: as many samples again, and process_start_time_seconds tells it.
disable_created_metrics()  # type: ignore[no-untyped-call]

ObserveBatch = Callable[[BatchRecord], None]
# The status, the seconds it took, and what is known of it.
ObserveWork = Callable[[int, float, RequestRecord], None]


@dataclass(frozen=True, slots=True)
class LaneState:
    """What waits in a lane of a model's queue now, and how much may: milliseconds of computing."""

    lane: str
    queued_ms: float
    limit_ms: float


@dataclass(frozen=True, slots=True)
class ModelState:
    """A loaded model as it is now: what it is, and what waits for it."""

    name: str
    family: str
    precision: str
    engine: str
    fingerprint: str
    lanes: tuple[LaneState, ...]
    queued_texts: int


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter(
            "cloze_requests",
            "Requests by route, model, status and outcome.",
            ("route", "model", "status", "outcome"),
        )
        self.work = self._counter(
            "cloze_work",
            "Requests to models by dialect, task, model, status and outcome.",
            ("dialect", "task", "model", "status", "outcome"),
        )
        self.rejections = self._counter(
            "cloze_rejections", "Requests answered with an error, by its code.", ("reason",)
        )
        self.request_seconds = self._histogram(
            "cloze_request_seconds",
            "Seconds from the end of a request's headers to its answer.",
            ("route",),
            SECONDS,
        )
        self.stage_seconds = self._histogram(
            "cloze_stage_seconds",
            "Seconds a request spent in each stage: tokenize, queue, infer, decode.",
            ("stage",),
            SECONDS,
        )
        self.tokens = self._counter("cloze_tokens", "Tokens answered.", ("model", "task"))
        self.dropped = self._counter(
            "cloze_inputs_dropped",
            "Texts that were not computed, since nobody waited for them any more.",
            ("model", "reason"),
        )
        self.restarts = self._counter(
            "cloze_session_restarts", "Sessions that were made anew.", ("model",)
        )
        self.log_lines_dropped = self._counter(
            "cloze_log_lines_dropped", "Lines of the log that could not be written.", ()
        )
        self._make_batches()
        memory_limit = Gauge(
            "cloze_memory_limit_bytes",
            "Bytes of memory above which the kernel ends the process; +Inf without a limit.",
            registry=self.registry,
        )
        memory_limit.set(find_memory_limit() or math.inf)
        ProcessCollector(registry=self.registry)
        self._stages = [
            self.stage_seconds.labels(stage) for stage in ("tokenize", "queue", "infer", "decode")
        ]
        # A label's child is looked up for every request: this is cheaper than the library's way.
        self._ended: dict[tuple[str, str, int, str, str], tuple[Counter, Counter | None, Histogram]]
        self._ended = {}
        self._answered: dict[tuple[str, str], Counter] = {}
        # Told of every batch, and of all work that is over.
        self.on_batch: list[Callable[[str, BatchRecord], None]] = []
        self.on_work: list[ObserveWork] = []
        self.find_models: Callable[[], Iterable[ModelState]] = tuple

    def _make_batches(self) -> None:
        self.batches = self._counter(
            "cloze_batches", "Batches by lane and outcome.", ("model", "lane", "outcome")
        )
        self.batch_tokens = self._histogram(
            "cloze_batch_tokens", "Tokens in a batch.", ("model",), TOKENS
        )
        self.batch_texts = self._histogram(
            "cloze_batch_texts", "Texts in a batch.", ("model",), COUNTS
        )
        self.batch_rows = self._histogram(
            "cloze_batch_rows", "Rows that attention sees in a batch.", ("model",), COUNTS
        )
        self.batch_waste = self._histogram(
            "cloze_batch_waste_ratio",
            "Part of the cells of a batch's rows that no token stands in.",
            ("model",),
            _SHARES,
        )
        self.batch_seconds = self._histogram(
            "cloze_batch_seconds",
            "Seconds to compute a batch, heads included.",
            ("model",),
            SECONDS,
        )
        self.predicted_seconds = self._counter(
            "cloze_batch_predicted_seconds",
            "Seconds that batches were predicted to take.",
            ("model",),
        )

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...]
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=bounds, registry=self.registry)

    def watch(self, models: Callable[[], Iterable[ModelState]], ready: Callable[[], bool]) -> None:
        """Ask these whenever the metrics are asked for."""
        self.find_models = models
        self.registry.register(_Present(models, ready))

    def watch_pending(self, held: Callable[[], int]) -> None:
        """Ask this for the bytes of requests, likewise."""
        pending = Gauge(
            "cloze_pending_bytes",
            "Bytes of requests that are held, from their arrival to their answer.",
            registry=self.registry,
        )
        pending.set_function(held)

    def observe_request(
        self, endpoint: Endpoint, status: int, seconds: float, times: RequestRecord
    ) -> None:
        """Count a request that is over."""
        route, spoken = endpoint.path, endpoint.spoken
        key = (route, spoken, status, times.model, times.task)
        found = self._ended.get(key)
        if found is None:
            labels = (times.model, str(status), find_outcome(status))
            work = self.work.labels(spoken, times.task, *labels) if spoken else None
            found = (self.requests.labels(route, *labels), work, self.request_seconds.labels(route))
            self._ended[key] = found
        requests, work, durations = found
        requests.inc()
        durations.observe(seconds)
        if work is not None:
            work.inc()
        if times.code or not 0 < status < 400:
            self.rejections.labels(times.code or find_outcome(status)).inc()
        if spoken:
            for tell in self.on_work:
                tell(status, seconds, times)

    def count_refused(self, status: int, code: str) -> None:
        """Count an answer that was given before there was a request: to no route, in no time."""
        self.requests.labels("unknown", "", str(status), find_outcome(status)).inc()
        self.rejections.labels(code).inc()

    def observe_answer(self, model: str, task: str, tokens: int, times: RequestRecord) -> None:
        """Count what an answer took."""
        answered = self._answered.get((model, task))
        if answered is None:
            answered = self._answered[model, task] = self.tokens.labels(model, task)
        answered.inc(tokens)
        for histogram, seconds in zip(
            self._stages, (times.tokenize, times.queue, times.infer, times.decode), strict=True
        ):
            histogram.observe(seconds)

    def observe_drop(self, model: str, reason: str, texts: int) -> None:
        """Count texts that nobody waits for any more, by the code of the error."""
        self.dropped.labels(model, reason).inc(texts)

    def replacement_observer(self, model: str) -> Callable[[], None]:
        """What a batcher calls when its sessions were made anew."""
        return self.restarts.labels(model).inc

    def batch_observer(self, model: str) -> ObserveBatch:
        """What a batcher tells each batch."""
        self.restarts.labels(model)  # told from the start: the first is seen to happen
        texts_of, tokens_of = self.batch_texts.labels(model), self.batch_tokens.labels(model)
        rows_of, waste_of = self.batch_rows.labels(model), self.batch_waste.labels(model)
        seconds_of = self.batch_seconds.labels(model)
        predicted_of = self.predicted_seconds.labels(model)

        def observe(ran: BatchRecord) -> None:
            self.batches.labels(model, ran.lane, "failed" if ran.failed else "ok").inc()
            texts_of.observe(ran.jobs)
            tokens_of.observe(ran.tokens)
            rows_of.observe(ran.rows)
            waste_of.observe(ran.waste)
            seconds_of.observe(ran.seconds)
            predicted_of.inc(ran.predicted_s)
            for tell in self.on_batch:
                tell(model, ran)

        return observe

    def render(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)


class _Present(Collector):
    """What is so at this moment."""

    def __init__(
        self, models: Callable[[], Iterable[ModelState]], ready: Callable[[], bool]
    ) -> None:
        self._models = models
        self._ready = ready

    def collect(self) -> Iterator[Metric]:
        """The gauges, read now."""
        info = GaugeMetricFamily(
            "cloze_model_info",
            "1 for each model that answers, with what it is.",
            labels=("model", "family", "precision", "engine", "fingerprint"),
        )
        queued = GaugeMetricFamily(
            "cloze_queued_milliseconds",
            "Milliseconds of computing that wait.",
            labels=("model", "lane"),
        )
        limit = GaugeMetricFamily(
            "cloze_queue_limit_milliseconds",
            "Milliseconds of computing that may wait before requests are refused.",
            labels=("model", "lane"),
        )
        texts = GaugeMetricFamily("cloze_queued_texts", "Texts that wait.", labels=("model",))
        for model in self._models():
            labels = (model.name, model.family, model.precision, model.engine, model.fingerprint)
            info.add_metric(labels, 1)
            for each in model.lanes:
                queued.add_metric((model.name, each.lane), each.queued_ms)
                limit.add_metric((model.name, each.lane), each.limit_ms)
            texts.add_metric((model.name,), model.queued_texts)
        yield info
        yield queued
        yield limit
        yield texts
        yield GaugeMetricFamily(
            "cloze_ready", "1 if every model answers, else 0.", value=float(self._ready())
        )
