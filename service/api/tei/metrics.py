"""The service's state by the names that text-embeddings-inference's dashboards ask for.

They count all work, in whatever words it was asked for: what decides how many replicas there are
must see it. Names without `_total`, as that server tells its counters (router/src/http/server.rs
and core/src/infer.rs at 0d124dc).
"""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.observability.metrics import COUNTS, SECONDS, TOKENS, Metrics
from service.observability.request_record import RequestRecord
from service.scheduling.batcher import BatchRecord

# Its words for our tasks; whatever else a model does has none there.
_WORDS = {"embed": "embed", "retrieve": "embed", "classify": "predict", "rerank": "predict"}
_STAGES = ("duration", "tokenization_duration", "queue_duration", "inference_duration")
_FAILURES = {429: "overloaded", 500: "backend", 503: "unhealthy", 504: "backend"}


class TeiMetrics(Collector):
    """Beside the service's own metrics, in the same answer."""

    def __init__(self, metrics: Metrics) -> None:
        """Watch the work of these metrics from now on."""
        self._metrics = metrics
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

        def make(name: str, unit: str, bounds: tuple[float, ...]) -> Histogram:
            text = f"As text-embeddings-inference has it: {unit}."
            return Histogram(name, text, buckets=bounds, registry=metrics.registry)

        self._seconds = {
            word: [make(f"te_{word}_{stage}", "seconds", SECONDS) for stage in _STAGES]
            for word in ("request", "embed", "predict")
        }
        self._length = make("te_request_input_length", "tokens of an input", TOKENS)
        self._texts = make("te_batch_next_size", "texts in a batch", COUNTS)
        self._tokens = make("te_batch_next_tokens", "tokens in a batch", TOKENS)
        metrics.on_work.append(self._observe)
        metrics.on_batch.append(self._observe_batch)
        metrics.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The counts, and what waits now."""
        metrics: dict[str, Metric] = {}
        for (name, labels), count in list(self._counts.items()):
            metric = metrics.setdefault(
                name, Metric(name, "As text-embeddings-inference counts.", "unknown")
            )
            metric.add_sample(name, dict(labels), count)
        yield from metrics.values()
        waiting = Metric("te_queue_size", "Texts that wait.", "gauge")
        texts = sum(model.queued_texts for model in self._metrics.find_models())
        waiting.add_sample("te_queue_size", {}, texts)
        yield waiting

    def _observe(self, status: int, seconds: float, record: RequestRecord) -> None:
        method = (("method", "single" if record.items == 1 else "batch"),)
        self._counts["te_request_count", method] += 1
        word = _WORDS.get(record.task)
        if word is not None:
            self._counts[f"te_{word}_count", ()] += record.items
        if status != 200:
            kind = _FAILURES.get(status, "validation")
            self._counts["te_request_failure", (("err", kind),)] += 1
            return
        self._counts["te_request_success", method] += 1
        told = (seconds, record.tokenize, record.queue, record.infer)
        for name in ("request",) if word is None else ("request", word):
            for histogram, value in zip(self._seconds[name], told, strict=True):
                histogram.observe(value)
        if word is not None:
            self._counts[f"te_{word}_success", ()] += record.items
        if record.items:
            self._length.observe(record.tokens / record.items)

    def _observe_batch(self, _model: str, ran: BatchRecord) -> None:
        self._texts.observe(ran.jobs)
        self._tokens.observe(ran.tokens)
