"""The outermost layer: times on every answer, counts, and 500 for the unexpected."""

import re

import pytest
from fastapi import FastAPI

from service.endpoint import Endpoint
from service.middleware.instrument import Instrument, write_times
from service.observability.metrics import Metrics
from service.observability.request_record import RequestRecord
from tests.helpers.server import Server, check_error, read_times, run

FORMAT = (
    r"tokenize;dur=\d+\.\d{3}, queue;dur=\d+\.\d{3}, infer;dur=\d+\.\d{3}, decode;dur=\d+\.\d{3}"
)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/embeddings", b'{"input": "rain"}', 200),
        ("POST", "/v1/embeddings", b"{", 400),
        ("POST", "/v1/embeddings", b'{"input": "rain", "model": "x"}', 404),
        ("POST", "/v1/embeddings", b'{"input": ""}', 400),
        ("POST", "/v1/fill-mask", b'{"inputs": 5}', 422),
        ("POST", "/v1/embeddings", b" " * 3_000, 413),
        ("GET", "/v1/embeddings", b"", 405),
        ("GET", "/nothing", b"", 404),
        ("GET", "/v1/models", b"", 200),
        ("GET", "/health/live", b"", 200),
        ("GET", "/health/ready", b"", 200),
        ("GET", "/metrics", b"", 200),
        ("GET", "/docs", b"", 200),
        ("GET", "/openapi.json", b"", 200),
    ],
)
def test_every_answer_tells_its_times(
    method: str, path: str, body: bytes, status: int, narrow: Server
) -> None:
    headers = {"content-type": "application/json"}
    response = narrow.client.request(method, path, content=body, headers=headers)
    assert response.status_code == status
    assert re.fullmatch(FORMAT, response.headers["server-timing"])


def test_the_header_tells_milliseconds() -> None:
    record = RequestRecord(tokenize=0.0012, queue=1.5, infer=0.0, decode=0.0000004)
    assert write_times(record) == (
        b"tokenize;dur=1.200, queue;dur=1500.000, infer;dur=0.000, decode;dur=0.000"
    )


def test_what_was_computed_took_time(tiny: Server) -> None:
    response = tiny.post("/v1/embeddings", {"input": ["rain", "snow"] * 20})
    times = read_times(response)
    assert min(times["tokenize"], times["infer"], times["decode"]) > 0
    refused = tiny.post("/v1/embeddings", {"input": ""})
    assert set(read_times(refused).values()) == {0.0}


def test_requests_are_counted_by_route_and_status(tiny: Server) -> None:
    def count(route: str, status: int) -> float:
        return tiny.read_metric("cloze_requests_total", route=route, status=str(status))

    before = count("/v1/classify", 200), count("/v1/classify", 422), count("unknown", 404)
    tiny.answer("/v1/classify", {"inputs": "rain"})
    tiny.answer("/v1/classify", {"inputs": "rain"})
    tiny.post("/v1/classify", {"inputs": ""})
    # A path that nobody routed is not a label: there is no end of those.
    for path in ("/one", "/two", "/three"):
        tiny.client.get(path)
    after = count("/v1/classify", 200), count("/v1/classify", 422), count("unknown", 404)
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1, 3]
    assert "/two" not in tiny.client.get("/metrics").text


def test_what_has_a_path_of_its_own_is_counted_under_it(tiny: Server) -> None:
    paths = ("/openapi.json", "/docs", "/metrics", "/health/live")
    before = [tiny.read_metric("cloze_requests_total", route=path) for path in paths]
    for path in paths:
        assert tiny.client.get(path).status_code == 200
    after = [tiny.read_metric("cloze_requests_total", route=path) for path in paths]
    assert all(b < a for b, a in zip(before, after, strict=True))
    # Whatever the method.
    wrong = {"route": "/v1/embeddings", "status": "405"}
    before_wrong = tiny.read_metric("cloze_requests_total", **wrong)
    assert tiny.client.put("/v1/embeddings").status_code == 405
    assert tiny.read_metric("cloze_requests_total", **wrong) == before_wrong + 1


def test_what_nobody_expected_is_ours(capfd: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics()
    app = FastAPI()
    endpoint = Endpoint(path="/broken")
    app.add_middleware(Instrument, metrics=metrics, find=lambda _: endpoint)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a secret of the house")

    with run(app) as client:
        message = check_error(client.get("/broken"), 500, "internal_error", None)
        assert "secret" not in message
        assert client.get("/broken").status_code == 500
    # Told without internals, logged whole.
    assert "a secret of the house" in "".join(capfd.readouterr())
    sample = 'cloze_requests_total{model="",outcome="error",route="/broken",status="500"} 2.0'
    assert sample in metrics.render().decode()
