"""The id of a request, and the line that the log has of it."""

import json
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.helpers.process import start_service
from tests.helpers.server import PATIENCE_S, Server

OWN = r"[0-9a-f]{32}"


@pytest.mark.parametrize("given", ["a", "Request-1_2.3", "x" * 64])
def test_an_id_that_is_one_is_kept_and_told_back(given: str, tiny: Server) -> None:
    for path, status in (("/health/live", 200), ("/nothing", 404), ("/v1/embeddings", 405)):
        response = tiny.client.get(path, headers={"x-request-id": given})
        assert (response.status_code, response.headers["x-request-id"]) == (status, given)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"x" * 65,
        b"two words",
        b'a","event":"b',
        b"a\tb",
        b"\xc3\xa9",
        b"\xe2\x80\xa8",
        b"a/b",
        b"a%0ab",
        b"a\x80",
    ],
)
def test_any_other_id_is_replaced(given: bytes, tiny: Server) -> None:
    response = tiny.client.get("/health/live", headers={b"x-request-id": given})
    assert re.fullmatch(OWN, response.headers["x-request-id"])


def test_each_request_has_an_id_of_its_own(tiny: Server) -> None:
    found = {tiny.client.get("/health/live").headers["x-request-id"] for _ in range(20)}
    assert len(found) == 20
    # Of several, the first counts.
    both = [("x-request-id", "one"), ("x-request-id", "two")]
    assert tiny.client.get("/health/live", headers=both).headers["x-request-id"] == "one"


def test_no_byte_of_an_id_makes_a_line_of_its_own(pretraining_bundle: Path) -> None:
    ids = [b"a\r\n b", b"a\n{}", b"\x1b[31m", b"\xff" * 500, b'"', b"a\x00b", b"good"]
    with start_service("--bundle", str(pretraining_bundle), CLOZE_ACCESS_LOG="all") as (
        process,
        client,
    ):
        where = urlsplit(str(client.base_url))
        for one in ids:
            with socket.create_connection((where.hostname, where.port), PATIENCE_S) as connection:
                connection.sendall(
                    b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    b"X-Request-ID: " + one + b"\r\n\r\n"
                )
                while connection.recv(65_536):
                    pass
        process.terminate()
        _, written = process.communicate(timeout=PATIENCE_S)
    lines = [json.loads(line) for line in written.splitlines()]
    found = [line for line in lines if line.get("route") == "/v1/models"]
    # Those that break HTTP itself are refused before they are requests.
    assert 1 <= len(found) <= len(ids)
    assert found[-1]["request_id"] == "good"
    assert all(re.fullmatch(OWN, line["request_id"]) for line in found[:-1])
    known = {"threads", "serving", "request", "shutting down", "ended"}
    assert {line["event"] for line in lines} <= known


def test_clients_are_told_only_where_the_operator_asks(pretraining_bundle: Path) -> None:
    bundle = str(pretraining_bundle)
    with start_service("--bundle", bundle, CLOZE_ACCESS_LOG="all", CLOZE_LOG_CLIENTS="true") as (
        process,
        client,
    ):
        client.get("/v1/models", headers={"x-request-id": "one"})
        process.terminate()
        _, written = process.communicate(timeout=PATIENCE_S)
    lines = [json.loads(line) for line in written.splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "one"]
    assert line["client"] == "127.0.0.1"
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/models", 200)


def test_what_is_no_request_has_its_line_too(pretraining_bundle: Path) -> None:
    with start_service("--bundle", str(pretraining_bundle), CLOZE_ACCESS_LOG="all") as (
        process,
        client,
    ):
        where = urlsplit(str(client.base_url))
        with socket.create_connection((where.hostname, where.port), PATIENCE_S) as connection:
            connection.sendall(b"no HTTP\r\n\r\n")
            answer = connection.recv(65_536)
        process.terminate()
        _, written = process.communicate(timeout=PATIENCE_S)
    found = re.search(rb"x-request-id: ([0-9a-f]{32})\r\n", answer)
    assert found is not None
    lines = [json.loads(line) for line in written.splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == found[1].decode()]
    assert (line["route"], line["status"], line["code"]) == ("unknown", 400, "malformed_http")
