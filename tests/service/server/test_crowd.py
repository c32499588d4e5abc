"""Who only holds connections shuts nobody out."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.server import crowd
from tests.helpers.server import PATIENCE_S, Server, serve, wait_until

BODY = b'{"input": "rain"}'
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
ASK = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "_LEAST_IDLE_S", 0.0)


@contextmanager
def connect(server: Server, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """From an address of this machine, of which all of 127.0.0.0/8 are."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.settimeout(PATIENCE_S)
        connection.bind((source, 0))
        connection.connect((host, int(port)))
        yield connection


def hold(stack: ExitStack, server: Server, count: int, sent: bytes = b"") -> list[socket.socket]:
    """Connections of somebody else, with so much of a request on each."""
    found = [stack.enter_context(connect(server, "127.0.0.2")) for _ in range(count)]
    for each in found:
        each.sendall(sent)
    # They have all been accepted once a probe behind them was answered.
    assert server.client.get("/health/live").status_code == 200
    return found


def ask(connection: socket.socket) -> int:
    connection.sendall(ASK)
    return int(connection.recv(65536).split()[1])


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)  # noqa: FBT003
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.usefixtures("_at_once")
def test_idle_connections_make_room(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, max_connections=20) as server, ExitStack() as stack:
        held = hold(stack, server, 200)
        for _ in range(10):
            with connect(server) as mine:
                assert ask(mine) == 200
                assert ask(mine) == 200
        assert server.client.post("/v1/embeddings", json={"input": "rain"}).status_code == 200
        wait_until(lambda: sum(map(is_closed, held)) >= 180)


@pytest.mark.usefixtures("_at_once")
def test_of_idle_ones_those_of_whoever_has_most_are_closed(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, max_connections=8) as server, ExitStack() as stack:
        mine = [stack.enter_context(connect(server, "127.0.0.3")) for _ in range(2)]
        for each in mine:
            assert ask(each) == 200
        hold(stack, server, 20)
        # Idle for longer than all others, and of one who has few.
        assert [ask(each) for each in mine] == [200, 200]


def test_who_was_answered_just_now_is_not_idle(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "_LEAST_IDLE_S", 600.0)
    with serve(pretraining_bundle, max_connections=4) as server, ExitStack() as stack:
        held = hold(stack, server, 3)
        with connect(server) as mine:
            assert ask(mine) == 503
        assert not any(map(is_closed, held))


@pytest.mark.parametrize("sent", [HEAD, HEAD + b"Content-Length: 50\r\n\r\n{"])
def test_slow_senders_with_more_than_their_share_make_room(
    pretraining_bundle: Path, sent: bytes
) -> None:
    with serve(pretraining_bundle, max_connections=10) as server, ExitStack() as stack:
        held = hold(stack, server, 9, sent)
        with connect(server, "127.0.0.3") as mine:
            assert ask(mine) == 200
        # One was told so; it was no reset.
        answers = []
        for each in held:
            each.settimeout(0.2)
            try:
                answers.append(each.recv(65536)[:12])
            except TimeoutError:
                continue
        assert answers == [b"HTTP/1.1 408"]
        # Another of the same client gets no more than there is.
        with connect(server, "127.0.0.2") as another, connect(server, "127.0.0.2") as last:
            assert {ask(another), ask(last)} <= {200, 503}
