"""Every metric of the service moves with what it counts, and is documented."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.endpoint import NOWHERE
from service.observability.metrics import Metrics, find_outcome
from service.observability.request_record import RequestRecord
from service.scheduling.batcher import BatchRecord
from tests.helpers.server import STAGES, Server, hold, serve, wait_until

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
OUTCOMES = {
    "ok",
    "invalid",
    "unauthorized",
    "overloaded",
    "deadline",
    "gone",
    "not_ready",
    "error",
}


def read_document() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric in docs/metrics.md, by name."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$",
        DOCUMENT.read_text(),
        re.MULTILINE,
    )
    assert len(rows) == len({row[0] for row in rows}), "a metric is documented twice"
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, *_ in rows}


def read_told(text: str) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric that is told, by the name that a query begins with."""
    found = {}
    for family in text_string_to_metric_families(text):
        samples = family.samples
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = set().union(*(sample.labels for sample in samples)) - {"le"}
        found[name] = (family.type, labels)
    return found


def test_every_metric_is_documented_and_every_documented_one_is_told(
    pretraining_bundle: Path,
) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        metrics = server.app.state.metrics
        server.answer("/v1/embeddings", {"input": "rain"})
        server.refuse("/v1/embeddings", {"input": ""}, 400, "empty_input", "input[0]")
        metrics.observe_drop(model.name, "client_gone", 1)
        told = read_told(metrics.render().decode())
        # What has no sample yet would be missed above.
        assert all(metric.samples for metric in metrics.registry.collect())
    assert read_document() == told


def test_answers_move_the_counts(tiny: Server) -> None:
    name = tiny.models[0].name

    def read() -> dict[str, float]:
        found = {
            "tokens": tiny.read_metric("cloze_tokens_total", model=name, task="embed"),
            "batches": tiny.read_metric("cloze_batch_seconds_count", model=name),
            "batch outcomes": tiny.read_metric("cloze_batches_total", model=name, outcome="ok"),
            "batch texts": tiny.read_metric("cloze_batch_texts_sum", model=name),
            "batch tokens": tiny.read_metric("cloze_batch_tokens_sum", model=name),
            "requests": tiny.read_metric("cloze_request_seconds_count", route="/v1/embeddings"),
            "answered": tiny.read_metric(
                "cloze_requests_total", route="/v1/embeddings", model=name, outcome="ok"
            ),
        }
        for stage in STAGES:
            found[stage] = tiny.read_metric("cloze_stage_seconds_count", stage=stage)
        return found

    before = read()
    answer = tiny.answer("/v1/embeddings", {"input": ["rain", "snow and rain"]})
    after = read()
    tokens = answer["usage"]["prompt_tokens"]
    assert {key: after[key] - before[key] for key in after} == {
        "tokens": tokens,
        "batches": 1,
        "batch outcomes": 1,
        "batch texts": 2,
        "batch tokens": tokens,
        "requests": 1,
        "answered": 1,
        "tokenize": 1,
        "queue": 1,
        "infer": 1,
        "decode": 1,
    }
    assert tiny.read_metric("cloze_batch_seconds_sum", model=name) > 0
    assert tiny.read_metric("cloze_batch_predicted_seconds_total", model=name) > 0


def test_refused_requests_are_no_tokens_but_counted_by_reason(tiny: Server) -> None:
    name = tiny.models[0].name
    refused = [
        ("/v1/embeddings", {"input": ["rain", ""]}, 400, "empty_input", "input[1]"),
        ("/v1/embeddings", {"input": "rain", "x": 1}, 400, "unknown_field", "x"),
        ("/v1/embeddings", {"input": "rain", "model": "x"}, 404, "model_not_found", "model"),
        ("/nothing", {}, 404, "route_not_found", None),
    ]
    for path, body, status, code, param in refused:
        reasons = tiny.read_metric("cloze_rejections_total", reason=code)
        tokens = tiny.read_metric("cloze_batch_tokens_sum", model=name)
        tiny.refuse(path, body, status, code, param)
        assert tiny.read_metric("cloze_rejections_total", reason=code) == reasons + 1
        assert tiny.read_metric("cloze_batch_tokens_sum", model=name) == tokens


def test_a_model_that_does_not_exist_is_no_label(tiny: Server) -> None:
    asked = "a-model-that-nobody-made"
    tiny.refuse(
        "/v1/embeddings", {"input": "rain", "model": asked}, 404, "model_not_found", "model"
    )
    assert asked not in tiny.client.get("/metrics").text


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (304, "ok"),
        (400, "invalid"),
        (401, "unauthorized"),
        (404, "invalid"),
        (422, "invalid"),
        (429, "overloaded"),
        (499, "gone"),
        (500, "error"),
        (503, "not_ready"),
        (504, "deadline"),
        (0, "error"),
    ],
)
def test_an_outcome_is_one_of_few_words(status: int, outcome: str) -> None:
    assert find_outcome(status) == outcome


def test_there_are_no_other_outcomes() -> None:
    assert {find_outcome(status) for status in range(600)} == OUTCOMES
    assert all(f"`{outcome}`" in DOCUMENT.read_text() for outcome in OUTCOMES)


def test_a_batch_is_told_with_its_rows_and_waste() -> None:
    metrics = Metrics()
    seen: list[tuple[str, BatchRecord]] = []
    metrics.on_batch.append(lambda model, ran: seen.append((model, ran)))
    ran = BatchRecord(
        jobs=3,
        tokens=30,
        rows=2,
        cells=40,
        seconds=0.5,
        lane="bulk",
        predicted_s=0.25,
        began_s=0.0,
        links=(),
        failed=True,
    )
    metrics.batch_observer("one")(ran)
    assert seen == [("one", ran)]

    def read(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"model": "one", **labels})

    assert read("cloze_batch_rows_sum") == 2
    assert read("cloze_batch_waste_ratio_sum") == 0.25
    assert read("cloze_batch_predicted_seconds_total") == 0.25
    assert read("cloze_batches_total", lane="bulk", outcome="failed") == 1
    assert read("cloze_session_restarts_total") == 0
    metrics.replacement_observer("one")()
    assert read("cloze_session_restarts_total") == 1


def test_what_waits_and_what_is_dropped_is_told(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, timeout_s=2.0) as server:
        (model,) = server.models
        server.answer("/v1/embeddings", {"input": "rain"})
        with hold(model.pipeline, model.batcher):
            assert server.read_metric("cloze_queued_texts", model=model.name) == 0
            with ThreadPoolExecutor(1) as threads:
                body = {"input": ["rain"] * 3}
                late = threads.submit(
                    server.refuse, "/v1/embeddings", body, 504, "deadline_passed", None
                )
                wait_until(lambda: model.batcher.queued_texts == 3)
                labels = {"model": model.name, "lane": "interactive"}
                waiting = server.read_metric("cloze_queued_milliseconds", **labels)
                limit = server.read_metric("cloze_queue_limit_milliseconds", **labels)
                assert 0 < waiting < limit
                assert server.read_metric("cloze_queued_texts", model=model.name) == 3
                assert late.result()
            # Its place is free at once, while the trunk is still held.
            assert server.read_metric("cloze_queued_milliseconds", model=model.name) == 0
        dropped = server.read_metric(
            "cloze_inputs_dropped_total", model=model.name, reason="deadline_passed"
        )
        assert dropped == 3


def test_models_are_told_as_they_come_and_go(
    pretraining_bundle: Path, classify_bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(pretraining_bundle, tmp_path / "one")
    with serve(tmp_path) as server:

        def read() -> dict[str, str]:
            families = text_string_to_metric_families(server.client.get("/metrics").text)
            (info,) = (family for family in families if family.name == "cloze_model_info")
            assert all(sample.value == 1 for sample in info.samples)
            return {one.labels["model"]: one.labels["fingerprint"] for one in info.samples}

        assert server.read_metric("cloze_ready") == 1
        assert read() == {model.name: model.fingerprint for model in server.models}
        (first,) = read()
        shutil.copytree(classify_bundle, tmp_path / "two")
        server.manager.reload()
        assert len(read()) == 2
        shutil.rmtree(tmp_path / "one")
        server.manager.reload()
        assert read() == {model.name: model.fingerprint for model in server.models}
        assert first not in read()
    assert not server.app.state.metrics.registry.get_sample_value("cloze_ready")


def test_it_is_not_ready_before_it_has_loaded(tmp_path: Path) -> None:
    with serve(tmp_path / "nothing", wait=False) as server:
        assert server.read_metric("cloze_ready") == 0


def test_the_times_of_a_request_need_no_model() -> None:
    metrics = Metrics()
    metrics.observe_request(NOWHERE, 0, 0.1, RequestRecord())
    labels = {"route": "unknown", "model": "", "status": "0", "outcome": "error"}
    assert metrics.registry.get_sample_value("cloze_requests_total", labels) == 1
    assert metrics.registry.get_sample_value("cloze_rejections_total", {"reason": "error"}) == 1
