"""Bodies that are packed with gzip: taken within the bounds of others, refused with the reason."""

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api import unpacking
from service.api.unpacking import unpack
from service.app import create_app
from service.errors import BodyTooLarge, InvalidContentEncoding
from service.settings import Settings
from tests.attacks.http.wire import connect, read_one
from tests.helpers.server import JSON, Server, check_error, check_same, hold, serve, wait_until
from tests.helpers.server import run as serve_plain

ROUTES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": ["rain", "the queen"]},
    "/v1/fill-mask": {"inputs": "the [MASK]"},
    "/v1/next-sentence": {"inputs": {"first": "rain", "second": "snow"}},
    "/v1/classify": {"inputs": "rain"},
}
PACKED = JSON | {"content-encoding": "gzip"}
LIMIT = 1 << 20
# As JSON of which most is blanks.
LARGE = json.dumps({"input": "rain"}).encode().ljust(LIMIT)


@pytest.fixture(scope="module")
def bounded(pretraining_bundle: Path) -> Iterator[Server]:
    """Takes bodies of a megabyte, and holds two and a half of them."""
    with serve(
        pretraining_bundle, max_body_bytes=LIMIT, max_pending_bytes=5 * LIMIT // 2
    ) as server:
        yield server


def send(server: Server, path: str, content: bytes, coding: str = "gzip") -> httpx.Response:
    return server.client.post(path, content=content, headers=JSON | {"content-encoding": coding})


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip"])
def test_every_route_takes_it(path: str, coding: str, tiny: Server) -> None:
    packed = gzip.compress(json.dumps(ROUTES[path]).encode())
    response = send(tiny, path, packed, coding)
    assert response.status_code == 200, response.text
    check_same(response.json(), tiny.answer(path, ROUTES[path]))


def test_it_may_come_in_pieces_and_unlike_others(tiny: Server) -> None:
    plain = json.dumps({"input": "rain"}).encode()
    wanted = tiny.answer("/v1/embeddings", plain)
    named = io.BytesIO()
    with gzip.GzipFile("x" * 10_000, "wb", fileobj=named) as file:
        file.write(plain)
    for packed in (gzip.compress(plain, 0), gzip.compress(plain, 9), named.getvalue()):
        pieces = (packed[place : place + 5] for place in range(0, len(packed), 5))
        response = tiny.client.post("/v1/embeddings", content=pieces, headers=PACKED)
        assert response.status_code == 200, response.text
        check_same(response.json(), wanted)


@pytest.mark.parametrize("level", [0, 9])
def test_its_size_is_that_of_what_was_packed(level: int, bounded: Server) -> None:
    fits = gzip.compress(LARGE, level)
    response = send(bounded, "/v1/embeddings", fits)
    # What was not packed at all is longer than it is.
    assert response.status_code == (200 if len(fits) <= LIMIT else 413)
    response = send(bounded, "/v1/embeddings", gzip.compress(LARGE + b" "))
    message = check_error(response, 413, "body_too_large", None)
    assert f"{LIMIT} bytes unpacked" in message
    # Its own bounds hold too: they are judged by what is declared.
    response = send(bounded, "/v1/embeddings", bytes(LIMIT + 1))
    check_error(response, 413, "body_too_large", None)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda packed: packed[:-1], "ends too early"),
        (lambda packed: packed[:-8], "ends too early"),
        (lambda packed: packed[:20], "ends too early"),
        (lambda packed: packed[:3], "ends too early"),
        (lambda packed: b"", "ends too early"),
        (lambda packed: packed[:-8] + bytes(4) + packed[-4:], "incorrect data check"),
        (lambda packed: packed[:-4] + bytes(4), "incorrect length check"),
        (lambda packed: packed[:10] + b"\xff" * 8 + packed[18:], "is not, or was damaged"),
        (lambda packed: b"{}" + packed, "incorrect header check"),
        (lambda packed: b'{"input": "rain"}', "incorrect header check"),
        (lambda packed: zlib.compress(b'{"input": "rain"}'), "incorrect header check"),
        (lambda packed: packed + b"\0", "1 bytes stand behind the end"),
        (lambda packed: packed + packed, "bytes stand behind the end"),
    ],
    ids=range(13),
)
def test_what_is_not_whole_is_refused_with_the_reason(
    spoil: Any, reason: str, tiny: Server
) -> None:
    packed = gzip.compress(json.dumps({"input": "rain " * 20}).encode())
    response = send(tiny, "/v1/embeddings", spoil(packed))
    assert reason in check_error(response, 400, "invalid_content_encoding", None)
    # The connection goes on.
    assert send(tiny, "/v1/embeddings", packed).status_code == 200


def test_what_is_unpacked_is_judged_like_any_body(tiny: Server) -> None:
    for body, status, code in (
        (b"{", 400, "invalid_json"),
        (b'{"input": "a", "input": "b"}', 400, "duplicate_key"),
        (b'{"input": ""}', 400, "empty_input"),
        (gzip.compress(b"{}"), 400, "invalid_json"),
    ):
        error = send(tiny, "/v1/embeddings", gzip.compress(body)).json()["error"]
        assert error["code"] == code
        assert send(tiny, "/v1/embeddings", gzip.compress(body)).status_code == status


def test_what_is_unpacked_is_held_like_any_body(bounded: Server) -> None:
    """Two requests wait with a megabyte each, packed into a kilobyte: no third one fits."""
    (model,) = bounded.models
    packed = gzip.compress(LARGE)
    assert len(packed) < 2_000
    request = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request += b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed

    def read_pending() -> float:
        return bounded.read_metric("cloze_pending_bytes")

    with connect(bounded) as first, connect(bounded) as second, connect(bounded) as third:
        with hold(model.pipeline, model.batcher):
            for count, connection in ((1, first), (2, second)):
                connection.sendall(request)
                wait_until(lambda count=count: read_pending() == count * (LIMIT + len(packed)))
            third.sendall(request)
            refused = read_one(third)
            assert refused.status == 503
            assert b'"code":"too_much_pending"' in refused.body
            wait_until(lambda: read_pending() == 2 * (LIMIT + len(packed)))
        assert [read_one(each).status for each in (first, second)] == [200, 200]
        wait_until(lambda: read_pending() == 0)


def test_no_more_is_unpacked_than_shows_that_it_is_too_much() -> None:
    sizes: list[int] = []

    class Holding:
        def take(self, size: int) -> bool:
            sizes.append(size)
            return True

        def refuse(self) -> Any:
            raise AssertionError

    def run(packed: bytes, limit: int) -> bytes:
        sizes.clear()
        return asyncio.run(unpack(packed, limit, Holding()))

    bomb = gzip.compress(bytes(64 << 20))
    with pytest.raises(BodyTooLarge):
        run(bomb, 3 << 20)
    assert max(sizes) <= unpacking._STEP_BYTES
    assert sum(sizes) <= 3 << 20
    with pytest.raises(BodyTooLarge):
        run(gzip.compress(b"1234"), 3)
    assert run(gzip.compress(b"1234"), 4) == b"1234"
    assert run(gzip.compress(b""), 4) == b""
    # Blocks of nothing give nothing, however many they are.
    empty = zlib.compressobj(wbits=31)
    many = empty.compress(b"") + b"".join(empty.flush(zlib.Z_FULL_FLUSH) for _ in range(50_000))
    assert run(many + empty.flush(), 4) == b""
    with pytest.raises(InvalidContentEncoding, match="ends too early"):
        run(many, 4)


def test_without_our_connections_it_is_unpacked_too(pretraining_bundle: Path) -> None:
    packed = gzip.compress(b'{"input": "rain"}')
    app = create_app(Settings(bundles=(pretraining_bundle,)))
    with serve_plain(app, plain=True) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        response = client.post("/v1/embeddings", content=packed, headers=PACKED)
        assert response.status_code == 200
