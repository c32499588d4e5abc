"""Every metric of the service, by name. Observed in two places: the HTTP edge and the engine."""

import math
from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from models.engines import find_memory_limit
from service.times import Times

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TOKENS = (8, 16, 32, 64, 128, 256, 384, 512, 768, 1024, 2048)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "cloze_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "cloze_request_seconds",
            "Seconds from the first byte of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "cloze_stage_seconds",
            "Seconds a request spent in each stage: tokenize, queue, infer, decode.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "cloze_tokens", "Tokens answered.", ["model", "task"], registry=self.registry
        )
        self.batch_tokens = Histogram(
            "cloze_batch_tokens",
            "Tokens in a batch.",
            ["model"],
            buckets=_TOKENS,
            registry=self.registry,
        )
        self.batch_texts = Histogram(
            "cloze_batch_texts",
            "Texts in a batch.",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "cloze_batch_seconds",
            "Seconds to compute a batch, heads included.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        memory_limit = Gauge(
            "cloze_memory_limit_bytes",
            "Bytes of memory above which the kernel ends the process; +Inf without a limit.",
            registry=self.registry,
        )
        memory_limit.set(find_memory_limit() or math.inf)
        ProcessCollector(registry=self.registry)
        self._stages = {
            stage: self.stage_seconds.labels(stage)
            for stage in ("tokenize", "queue", "infer", "decode")
        }

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self.requests.labels(route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def count_refused(self, status: int) -> None:
        """Count an answer that was given before there was a request: to no route, in no time."""
        self.requests.labels("unknown", str(status)).inc()

    def observe_answer(self, model: str, task: str, tokens: int, times: Times) -> None:
        """Count what an answer took."""
        self.tokens.labels(model, task).inc(tokens)
        for stage, histogram in self._stages.items():
            histogram.observe(getattr(times, stage))

    def batch_observer(self, model: str) -> Callable[[int, int, float], None]:
        """What a batcher calls with the texts, tokens and seconds of each batch."""
        texts_of, tokens_of = self.batch_texts.labels(model), self.batch_tokens.labels(model)
        seconds_of = self.batch_seconds.labels(model)

        def observe(texts: int, tokens: int, seconds: float) -> None:
            texts_of.observe(texts)
            tokens_of.observe(tokens)
            seconds_of.observe(seconds)

        return observe

    def render(self) -> bytes:
        """The exposition format of Prometheus."""
        return generate_latest(self.registry)
