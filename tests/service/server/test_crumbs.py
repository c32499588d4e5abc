"""A body in chunks of a few bytes: some are read, thousands are refused before they cost others."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.helpers.server import PATIENCE_S, Server

HEAD = (
    b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@contextmanager
def connect(server: Server) -> Iterator[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        yield connection


def write_chunks(size: int, each: int) -> bytes:
    """A body of so many characters in chunks of so many."""
    body = b'{"input": "rain", "user": "%s"}' % (b"x" * (size - 30))
    parts = [body[place : place + each] for place in range(0, len(body), each)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def read_answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    content = b""
    while b"\r\n\r\n" not in content:
        content += connection.recv(65536)
    head, _, body = content.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("size", "each"), [(4_000, 1), (40_000, 12), (200_000, 20), (400_000, 999)]
)
def test_small_chunks_are_read(tiny: Server, size: int, each: int) -> None:
    with connect(tiny) as connection:
        connection.sendall(HEAD + write_chunks(size, each))
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize(("size", "each"), [(8_000, 1), (100_000, 1), (200_000, 9)])
def test_crumbs_are_refused(tiny: Server, size: int, each: int) -> None:
    with connect(tiny) as connection:
        connection.sendall(HEAD + write_chunks(size, each)[: 1 << 18])
        status, answer = read_answer(connection)
    assert status == 400
    assert "chunks of a few bytes" in str(answer)


def test_more_headers_than_anybody_sends(tiny: Server) -> None:
    """However short each is, it takes a hundred bytes of memory."""
    with connect(tiny) as connection:
        connection.sendall(
            b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 900 + b"\r\n"
        )
        assert connection.recv(65536).split()[1] == b"200"
    with connect(tiny) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 1_200)
        assert read_answer(connection)[0] == 431


def test_others_do_not_wait_for_who_sends_crumbs(tiny: Server) -> None:
    """Eight at once, again and again: health is asked meanwhile."""
    ended = threading.Event()
    crumbs = HEAD + write_chunks(100_000, 1)

    def send() -> None:
        while not ended.is_set():
            try:
                with connect(tiny) as connection:
                    connection.sendall(crumbs)
                    read_answer(connection)
            except OSError:
                pass

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    taken = []
    try:
        for _ in range(40):
            began = time.monotonic()
            assert tiny.client.get("/health/live").status_code == 200
            taken.append(time.monotonic() - began)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert sorted(taken)[len(taken) // 2] < 1.0
