"""Traces, end to end: what a collector gets over HTTP, and what happens without one."""

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models.errors import SettingsError
from service.app import VERSION, create_app
from service.observability.tracing import start_tracing
from service.settings import Settings
from tests.helpers.collector import Collector, Span, collect
from tests.helpers.process import ROOT, start_service
from tests.helpers.server import PATIENCE_S, hold, serve, wait_until

ROUTE = "/v1/embeddings"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER = 2  # SPAN_KIND_SERVER of OTLP
SECRET = "a-very-private-thought"


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


def ask(bundle: Path, *requests: tuple[str, Any], **headers: str) -> None:
    """Serve until these are answered, and all spans are sent."""
    with serve(bundle) as server:
        for path, body in requests:
            server.client.post(path, json=body, headers=headers)


def test_a_request_is_a_span_with_its_stages_below(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collect(monkeypatch) as collector:
        parent = f"00-{TRACE}-{PARENT}-01"
        body = {"input": ["rain", "snow and rain"]}
        ask(
            pretraining_bundle,
            (ROUTE, body),
            **{"traceparent": parent, "x-request-id": "the-first"},
        )
    (request,) = collector.find(f"POST {ROUTE}")
    assert (request.trace, request.parent, request.kind) == (TRACE, PARENT, SERVER)
    told = request.attributes
    assert told["http.request.method"] == "POST"
    assert told["http.route"] == ROUTE
    assert told["http.response.status_code"] == 200
    assert told["cloze.request_id"] == "the-first"
    assert told["cloze.outcome"] == "ok"
    assert told["cloze.items"] == 2
    assert (told["cloze.dialect"], told["cloze.task"]) == ("openai", "embed")
    assert told["cloze.tokens"] > 0
    below = collector.below(request)
    assert {name: len(spans) for name, spans in below.items()} == {
        "tokenize": 1,
        "queue": 1,
        "infer": 1,
        "decode": 1,
    }
    (batch,) = collector.find("batch")
    (infer,) = below["infer"]
    assert batch.parent == ""
    assert batch.links == ((request.trace, request.id),)
    assert infer.links == ((batch.trace, batch.id),)
    assert batch.attributes["cloze.model"] == told["cloze.model"]
    assert batch.attributes["cloze.batch.texts"] == 2
    assert batch.attributes["cloze.batch.tokens"] == told["cloze.tokens"]
    order = [below[name][0] for name in ("tokenize", "queue", "infer", "decode")]
    moments = [moment for span in order for moment in (span.began_ns, span.ended_ns)]
    assert moments == sorted(moments)
    assert request.began_ns <= moments[0]
    assert moments[-1] <= request.ended_ns
    assert request.resource["service.name"] == "cloze"
    assert request.resource["service.version"] == VERSION


def test_requests_that_share_a_batch_are_linked_to_it(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        collect(monkeypatch) as collector,
        serve(pretraining_bundle) as server,
        ThreadPoolExecutor(3) as threads,
    ):
        (model,) = server.models
        bodies = [{"input": "rain"}, {"input": ["snow"] * 2}, {"input": ["sun", "moon", "sea"]}]
        with hold(model.pipeline, model.batcher):
            waiting = [threads.submit(server.answer, ROUTE, body) for body in bodies]
            wait_until(lambda: model.batcher.queued_texts == 6)
        for future in waiting:
            future.result()
    requests = collector.find(f"POST {ROUTE}")
    assert len({request.trace for request in requests}) == 3
    # What held the trunk was no request, so nothing was traced of it.
    (batch,) = collector.find("batch")
    assert set(batch.links) == {(request.trace, request.id) for request in requests}
    for request in requests:
        (infer,) = collector.below(request)["infer"]
        assert infer.links == ((batch.trace, batch.id),)
        (waited,) = collector.below(request)["queue"]
        assert waited.ended_ns > waited.began_ns


def test_failures_are_spans_too(pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collect(monkeypatch) as collector, serve(pretraining_bundle, timeout_s=0.05) as server:
        (model,) = server.models
        server.refuse(ROUTE, {"input": ""}, 400, "empty_input", "input[0]")
        with hold(model.pipeline, model.batcher):
            server.refuse(ROUTE, {"input": "rain"}, 504, "deadline_passed", None)
        server.client.get("/nothing")
        for path in ("/health/live", "/health/ready", "/metrics"):
            server.client.get(path)
    refused, late = collector.find(f"POST {ROUTE}")
    assert (refused.failed, refused.attributes["error.type"]) == (False, "empty_input")
    assert (late.failed, late.attributes["error.type"]) == (True, "deadline_passed")
    assert late.attributes["cloze.outcome"] == "deadline"
    (waited,) = collector.below(late)["queue"]
    assert waited.ended_ns == late.ended_ns
    assert [span.attributes["http.route"] for span in collector.find("GET unknown")] == ["unknown"]
    # What asks for health and metrics, every few seconds, is not traced.
    assert {span.name for span in collector.spans if span.kind == SERVER} == {
        f"POST {ROUTE}",
        "GET unknown",
    }


def find_requests(collector: Collector) -> list[Span]:
    return [span for span in collector.spans if span.kind == SERVER]


@pytest.mark.parametrize(
    ("sampler", "sampled", "spans"),
    [
        ("always_off", "01", 0),
        ("always_on", "00", 1),
        ("parentbased_always_on", "00", 0),
        ("parentbased_always_off", "01", 1),
        ("parentbased_always_off", None, 0),
    ],
)
def test_the_environment_says_what_is_sampled(
    pretraining_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    sampled: str | None,
    spans: int,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    headers = {} if sampled is None else {"traceparent": f"00-{TRACE}-{PARENT}-{sampled}"}
    with collect(monkeypatch) as collector:
        ask(pretraining_bundle, (ROUTE, {"input": "rain"}), **headers)
    assert len(find_requests(collector)) == spans
    # The batch of a request that is sampled is told, whatever the sampler; of others it is not.
    assert len(collector.find("batch")) == spans
    assert (len(collector.spans) > 0) == bool(spans)


@pytest.mark.parametrize("parent", ["", "x" * 600, f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}"])
def test_a_parent_that_is_none_begins_a_trace(
    parent: str, pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collect(monkeypatch) as collector:
        headers = {"traceparent": parent, "tracestate": "=,=" * 100}
        ask(pretraining_bundle, (ROUTE, {"input": "rain"}), **headers)
    (request,) = find_requests(collector)
    assert (request.parent, request.trace == TRACE) == ("", False)


def test_no_span_has_what_a_caller_sent(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collect(monkeypatch) as collector:
        ask(
            pretraining_bundle,
            (ROUTE, {"input": SECRET}),
            (ROUTE, {"input": SECRET, "model": SECRET}),
            (ROUTE, {"input": {SECRET: SECRET}}),
            (f"{ROUTE}?{SECRET}={SECRET}", {"input": SECRET}),
            (f"/{SECRET}", {"input": SECRET}),
            **{"user-agent": SECRET, "authorization": f"Bearer {SECRET}", "x-request-id": "one"},
        )
    assert len(find_requests(collector)) == 5
    assert not any(SECRET.encode() in content for content in collector.raw)


def test_the_operators_name_wins(monkeypatch: pytest.MonkeyPatch, pretraining_bundle: Path) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=here")
    with collect(monkeypatch) as collector:
        ask(pretraining_bundle, (ROUTE, {"input": "rain"}))
    (request,) = find_requests(collector)
    assert request.resource["service.name"] == "ours"
    assert request.resource["deployment.environment.name"] == "here"


def test_a_protocol_that_is_not_spoken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'.*4318"):
        create_app(Settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
    ],
)
def test_what_is_switched_off_is_off(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv(name, value)
    assert start_tracing(VERSION) is None


def test_an_endpoint_that_is_down_costs_nobody_an_answer(pretraining_bundle: Path) -> None:
    with socket.socket() as taken:
        # Bound, but not listening: whoever connects is refused, and nobody else can take it.
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with start_service(
            "--bundle",
            str(pretraining_bundle),
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_BSP_SCHEDULE_DELAY="10",
            OTEL_BSP_MAX_QUEUE_SIZE="8",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4",
        ) as (process, client):
            for _ in range(50):
                assert client.post(ROUTE, json={"input": "rain"}).status_code == 200
            process.terminate()
            _, written = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0
    lines = [json.loads(line) for line in written.splitlines()]
    about = [line["event"] for line in lines if line["level"] != "info"]
    # It is told, and told once.
    assert any("Transient error" in event for event in about)
    assert len(about) == len(set(about)) <= 8


@pytest.mark.parametrize(
    ("start", "named"),
    [
        # FastAPI brings the API of OpenTelemetry itself; what is slow is not the API.
        (
            "import service.app\n"
            "from service.settings import Settings\n"
            "service.app.create_app(Settings()).state.manager.close()\n",
            ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "google"),
        ),
        (
            "from service.__main__ import main\n"
            "try:\n"
            "    main(['--help'])\n"
            "except SystemExit:\n"
            "    pass\n",
            ("opentelemetry", "fastapi"),
        ),
    ],
)
def test_without_an_endpoint_nothing_of_it_is_imported(start: str, named: tuple[str, ...]) -> None:
    program = f"import sys\n{start}sys.exit(any(n.startswith({named}) for n in sys.modules))\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_fastapi_sends_nothing_of_its_own(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    with collect(monkeypatch) as collector:
        ask(pretraining_bundle, (f"{ROUTE}?{SECRET}", {"input": SECRET}))
    assert len(find_requests(collector)) == 1
    assert not any(b"fastapi" in content for content in collector.raw)
    assert not any(SECRET.encode() in content for content in collector.raw)
