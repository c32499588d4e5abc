"""The names that text-embeddings-inference's dashboards and autoscalers ask for."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.server import Server, serve

DOCUMENT = Path(__file__).parents[4] / "docs" / "metrics.md"


@pytest.fixture(scope="module")
def server(pretraining_bundle: Path, classify_bundle: Path) -> Iterator[Server]:
    with serve(pretraining_bundle, classify_bundle, tei_metrics=True) as server:
        yield server


def test_work_is_counted_whoever_asks(server: Server) -> None:
    server.answer("/v1/embeddings", {"input": "rain"})
    assert server.client.post("/embed", json={"inputs": ["rain", "snow"]}).status_code == 200
    assert server.client.post("/predict", json={"inputs": "rain"}).status_code == 200
    server.refuse("/v1/embeddings", {"input": ""}, 400, "empty_input", "input[0]")
    server.client.get("/health/ready")
    read = server.read_metric
    assert read("te_request_count", method="single") == 3
    assert read("te_request_count", method="batch") == 1
    assert read("te_request_success") == 3
    assert read("te_request_failure", err="validation") == 1
    assert (read("te_embed_count"), read("te_embed_success")) == (4, 3)
    assert (read("te_predict_count"), read("te_predict_success")) == (1, 1)
    stages = ("duration", "tokenization_duration", "queue_duration", "inference_duration")
    for stage in stages:
        counts = [read(f"te_{word}_{stage}_count") for word in ("request", "embed", "predict")]
        assert counts == [3, 2, 1]
    assert read("te_request_inference_duration_sum") == pytest.approx(
        read("te_embed_inference_duration_sum") + read("te_predict_inference_duration_sum")
    )
    assert read("te_request_duration_sum") > read("te_request_inference_duration_sum") > 0
    assert read("te_request_input_length_count") == 3
    assert read("te_batch_next_size_sum") >= 4
    assert read("te_batch_next_tokens_sum") == read("cloze_batch_tokens_sum") > 0
    assert read("te_queue_size") == 0


def test_each_is_documented(server: Server) -> None:
    text = server.client.get("/metrics").text
    told = set(re.findall(r"^# TYPE (te_\w+)", text, re.MULTILINE))
    section = DOCUMENT.read_text().partition("## Names of text-embeddings-inference")[2]
    documented = set(re.findall(r"`(te_\w+)`", section))
    parts = ("tokenization_duration", "queue_duration", "inference_duration")
    documented |= {f"te_{word}_{part}" for word in ("embed", "predict") for part in parts}
    assert told == documented


def test_without_the_setting_there_is_none(tiny: Server) -> None:
    assert "te_request" not in tiny.client.get("/metrics").text
