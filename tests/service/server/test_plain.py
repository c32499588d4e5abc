"""The application under a plain ASGI server, which has not our connections."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.helpers.server import (
    JSON,
    Server,
    check_error,
    check_same,
    hold,
    read_times,
    run,
    wait_until,
)


@pytest.fixture(scope="module")
def plain(pretraining_bundle: Path, classify_bundle: Path) -> Iterator[Server]:
    """Serves two tiny models as any ASGI application is served, with small bodies."""
    bundles = (pretraining_bundle, classify_bundle)
    app = create_app(Settings(bundles=bundles, max_body_bytes=2_000))
    with run(app, plain=True) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield Server(app, client)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["rain", "snow"]}),
        ("/v1/fill-mask", {"inputs": "the [MASK] rain"}),
        ("/v1/next-sentence", {"inputs": {"first": "rain", "second": "snow"}}),
        ("/v1/classify", {"inputs": "rain"}),
    ],
)
def test_it_answers_the_same(
    path: str, body: dict[str, object], plain: Server, tiny: Server
) -> None:
    check_same(plain.answer(path, body), tiny.answer(path, body))


def test_it_refuses_the_same(plain: Server) -> None:
    plain.refuse("/v1/classify", b"{", 400, "invalid_json", None)
    plain.refuse("/v1/classify", {"inputs": ""}, 422, "empty_input", "inputs[0]")
    plain.refuse("/v1/classify", b" " * 2_001, 413, "body_too_large", None)

    def pieces() -> Iterator[bytes]:
        yield from (b" " * 500 for _ in range(10))

    response = plain.client.post("/v1/classify", content=pieces(), headers=JSON)
    check_error(response, 413, "body_too_large", None)
    check_error(plain.client.get("/nothing"), 404, "route_not_found", None)
    check_error(plain.client.get("/v1/classify"), 405, "method_not_allowed", None)


def test_head_and_documents(plain: Server) -> None:
    assert plain.client.head("/health/live").status_code == 200
    assert plain.client.get("/docs").headers["content-type"].startswith("text/html")
    read_times(plain.client.get("/openapi.json"))


def test_a_client_that_leaves_is_not_computed_for(plain: Server) -> None:
    model = plain.models[0]
    before = plain.read_metric("cloze_inputs_dropped_total")
    where = urlsplit(str(plain.client.base_url))
    body = json.dumps({"input": "rain"}).encode()
    with hold(model.pipeline, model.batcher):
        with socket.create_connection((where.hostname or "", where.port or 0)) as connection:
            connection.sendall(
                b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            wait_until(lambda: model.batcher.queued_texts > 0)
        wait_until(lambda: plain.read_metric("cloze_inputs_dropped_total") == before + 1)


def test_a_deadline_is_kept(plain: Server) -> None:
    model = plain.models[0]
    with hold(model.pipeline, model.batcher):
        response = plain.client.post(
            "/v1/embeddings", json={"input": "rain"}, headers={"X-Request-Timeout": "0.3"}
        )
    assert response.status_code in (429, 504)


def test_it_is_drained(pretraining_bundle: Path) -> None:
    app = create_app(Settings(bundles=(pretraining_bundle,)))
    with run(app, plain=True) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        app.state.drain.begin()
        response = client.post("/v1/embeddings", json={"input": "rain"})
        check_error(response, 503, "not_ready", None)
        with httpx.Client(base_url=client.base_url) as other:
            assert other.get("/health/live").status_code == 200
