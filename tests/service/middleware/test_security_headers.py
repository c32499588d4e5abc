"""The headers that every answer carries, and which pages of other origins may read it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.endpoint import Endpoint
from service.settings import Settings
from tests.helpers.server import JSON, Server, check_error, read_times, run, serve

BODY = {"inputs": "[MASK]"}
PATH = "/v1/fill-mask"
PAGE = "https://page.example"
OTHER = "https://other.example"
ASKED = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type",
}


@pytest.fixture(scope="module")
def crossed(pretraining_bundle: Path) -> Iterator[Server]:
    """Lets two pages ask, with a key, and not too often."""
    with serve(
        pretraining_bundle,
        api_keys="right,quick",
        cors_origins=f"{PAGE}, http://localhost:3000",
        max_body_bytes=2000,
        rate_limit=0.001,
        rate_burst=100,
    ) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/embeddings", b'{"input": "rain"}', 200),
        ("POST", "/v1/embeddings", b"{", 400),
        ("POST", "/v1/embeddings", b'{"input": ""}', 400),
        ("POST", "/v1/embeddings", b" " * 3_000, 413),
        ("GET", "/v1/embeddings", b"", 405),
        ("GET", "/nothing", b"", 404),
        ("GET", "/v1/models", b"", 200),
        ("GET", "/health/ready", b"", 200),
        ("GET", "/metrics", b"", 200),
        ("GET", "/docs", b"", 200),
        ("GET", "/openapi.json", b"", 200),
    ],
)
def test_every_answer_has_the_headers(
    method: str, path: str, body: bytes, status: int, narrow: Server
) -> None:
    response = narrow.client.request(method, path, content=body, headers=JSON)
    assert response.status_code == status
    check_headers(response)
    # A page of our own has a policy of its own, and no other answer shows anything.
    strict = "default-src 'none'; frame-ancestors 'none'"
    assert (response.headers["content-security-policy"] == strict) == (path != "/docs")


def check_headers(response: httpx.Response) -> None:
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert response.headers.get_list("referrer-policy") == ["no-referrer"]
    assert response.headers.get_list("cache-control") == ["no-store"]
    (policy,) = response.headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_without_origins_no_page_may_read(narrow: Server) -> None:
    for response in (
        narrow.client.get("/v1/models", headers={"origin": PAGE}),
        narrow.client.options(PATH, headers=ASKED),
    ):
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_pages_ask_first_and_without_a_key(crossed: Server) -> None:
    response = crossed.client.options(PATH, headers=ASKED)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "authorization" in response.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in response.headers
    read_times(response)
    check_headers(response)


# What a client asks whether it may send: of OpenAI's, fetch's and tracers', and any other.
SENT = [
    "authorization,content-type,user-agent,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout,x-stainless-helper-method",
    "openai-organization,openai-project,openai-beta,idempotency-key",
    "x-api-key,api-key,helicone-auth,http-referer,x-title",
    "baggage,traceparent,tracestate,b3,x-b3-traceid,sentry-trace,x-datadog-trace-id",
    "content-encoding,x-priority,x-request-id,x-request-timeout,cache-control,pragma,range",
    "x-of-somebodys-own",
]


@pytest.mark.parametrize("sent", SENT)
def test_a_page_may_send_any_header(crossed: Server, sent: str) -> None:
    asked = ASKED | {"access-control-request-headers": sent}
    response = crossed.client.options(PATH, headers=asked)
    assert response.status_code == 200
    allowed = response.headers["access-control-allow-headers"].lower()
    assert {each.strip() for each in allowed.split(",")} >= set(sent.split(","))
    assert "Access-Control-Request-Headers" in response.headers["vary"]


def test_a_page_of_the_web_may_ask_a_private_address(crossed: Server) -> None:
    asked = ASKED | {"access-control-request-private-network": "true"}
    response = crossed.client.options(PATH, headers=asked)
    assert response.headers["access-control-allow-private-network"] == "true"
    refused = crossed.client.options(PATH, headers=asked | {"origin": OTHER})
    assert refused.status_code == 403


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": OTHER},
        {"origin": "null"},
        {"origin": f"{PAGE}.evil.example"},
        {"origin": f"{PAGE}:8443"},
        {"origin": "http://page.example"},
        {"access-control-request-method": "DELETE"},
    ],
)
def test_other_pages_and_other_requests_are_refused(
    changed: dict[str, str], crossed: Server
) -> None:
    response = crossed.client.options(PATH, headers=ASKED | changed)
    check_error(response, 403, "cors_refused", None)
    # It names what is refused, and what would help.
    (value,) = changed.values()
    message = response.json()["error"]["message"]
    assert repr(value) in message
    assert ("CLOZE_CORS_ORIGINS" if "origin" in changed else "send GET or POST") in message
    if "origin" in changed:
        assert "access-control-allow-origin" not in response.headers


def test_pages_may_read_errors_too(crossed: Server) -> None:
    right = {"authorization": "Bearer right"}
    quick = {"authorization": "Bearer quick"}
    for _ in range(100):
        crossed.client.get("/v1/models", headers=quick)
    answers = {
        200: crossed.client.post(PATH, json=BODY, headers=right | {"origin": PAGE}),
        401: crossed.client.post(PATH, json=BODY, headers={"origin": PAGE}),
        404: crossed.client.get("/nothing", headers={"origin": PAGE}),
        413: crossed.client.post(PATH, content=b" " * 3000, headers=right | {"origin": PAGE}),
        422: crossed.client.post(PATH, json={}, headers=right | {"origin": PAGE}),
        429: crossed.client.post(PATH, json=BODY, headers=quick | {"origin": PAGE}),
    }
    for status, response in answers.items():
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == PAGE
        exposed = response.headers["access-control-expose-headers"].split(", ")
        assert {"Server-Timing", "X-Request-ID", "Retry-After", "X-Truncated"} <= set(exposed)
        assert "Origin" in response.headers["vary"]
    other = crossed.client.post(PATH, json=BODY, headers=right | {"origin": OTHER})
    assert other.status_code == 200
    assert "access-control-allow-origin" not in other.headers


def test_pages_may_read_errors_of_our_own(pretraining_bundle: Path) -> None:
    app = create_app(Settings(bundles=(pretraining_bundle,), cors_origins=PAGE))

    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    app.state.endpoints["/broken"] = Endpoint("/broken", handlers={"GET": broken})

    with run(app) as client:
        response = client.get("/broken", headers={"origin": PAGE})
        check_error(response, 500, "internal_error", None)
        assert response.headers["access-control-allow-origin"] == PAGE
        check_headers(response)


def test_any_page_may_ask_where_that_is_wanted(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, cors_origins="*") as server:
        response = server.client.options(PATH, headers=ASKED | {"origin": OTHER})
        assert response.headers["access-control-allow-origin"] == "*"
        response = server.client.post(PATH, json=BODY, headers={"origin": OTHER, "cookie": "a=b"})
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in response.headers
