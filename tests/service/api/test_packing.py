"""Answers packed with gzip: for who takes it, where it is on, and only where it is worth it."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.server import Server, serve

LARGE = {"input": ["the king of rain"] * 40}
SMALL = {"input": "rain", "dimensions": 2}


@pytest.fixture(scope="module")
def packing(pretraining_bundle: Path) -> Iterator[Server]:
    with serve(pretraining_bundle, gzip=True) as server:
        yield server


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.1", True),
        ("x-gzip", True),
        ("*", True),
        ("GZIP", True),
        ("identity", False),
        ("", False),
        ("gzip;q=0", False),
        ("*;q=1, gzip;q=0.000", False),
        ("br", False),
        ("gzipped", False),
    ],
)
def test_who_takes_it_gets_it(packing: Server, accepted: str, *, packed: bool) -> None:
    wanted = packing.client.post(
        "/v1/embeddings", json=LARGE, headers={"accept-encoding": "identity"}
    )
    assert "content-encoding" not in wanted.headers
    with packing.client.stream(
        "POST", "/v1/embeddings", json=LARGE, headers={"accept-encoding": accepted}
    ) as response:
        raw = b"".join(response.iter_raw())
    assert (response.headers.get("content-encoding") == "gzip") is packed
    assert int(response.headers["content-length"]) == len(raw)
    assert (gzip.decompress(raw) if packed else raw) == wanted.content
    if packed:
        assert response.headers["vary"] == "Accept-Encoding"
        assert len(raw) < 0.6 * len(wanted.content)


def test_short_answers_and_errors_go_as_they_are(packing: Server) -> None:
    takes = {"accept-encoding": "gzip"}
    for body, status in ((SMALL, 200), ({"input": ""}, 400)):
        response = packing.client.post("/v1/embeddings", json=body, headers=takes)
        assert response.status_code == status
        assert "content-encoding" not in response.headers


def test_it_is_off_unless_it_is_asked_for(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        response = server.client.post(
            "/v1/embeddings", json=LARGE, headers={"accept-encoding": "gzip"}
        )
    assert "content-encoding" not in response.headers


def test_both_ways_at_once(packing: Server) -> None:
    headers = {
        "accept-encoding": "gzip",
        "content-encoding": "gzip",
        "content-type": "application/json",
    }
    body = gzip.compress(json.dumps(LARGE).encode())
    response = packing.client.post("/v1/embeddings", content=body, headers=headers)
    assert response.headers["content-encoding"] == "gzip"
    assert len(response.json()["data"]) == 40
