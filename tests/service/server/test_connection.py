"""What a connection may take, over real sockets: headers, time, number, and who does not read."""

import gc
import json
import re
import resource
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.server import crowd
from service.server.exchange import Exchange
from service.server.protocol import allow_files
from service.settings import Settings
from tests.helpers.server import PATIENCE_S, Server, hold, serve, wait_until

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/fill-mask HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = b'{"inputs": "[MASK]"}'
PAGE = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT_S = 0.4


@pytest.fixture(scope="module")
def strict(pretraining_bundle: Path) -> Iterator[Server]:
    """Serves with a small bound on headers, and keys."""
    with serve(pretraining_bundle, max_header_bytes=8192, api_keys="right") as server:
        yield server


@pytest.fixture(scope="module")
def impatient(pretraining_bundle: Path) -> Iterator[Server]:
    """Serves whoever is quick."""
    with serve(
        pretraining_bundle,
        receive_timeout_s=SHORT_S,
        send_timeout_s=1.0,
        max_body_bytes=100_000,
    ) as server:
        yield server


@contextmanager
def connect(server: Server, *, small: bool = False) -> Iterator[socket.socket]:
    """A socket to the server; a `small` one takes little before it is read."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        if small:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_S)
        connection.connect((host, int(port)))
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def send_until_closed(connection: socket.socket, data: bytes, times: int) -> None:
    """Send the data over and over; the server need not take all of it."""
    try:
        for _ in range(times):
            connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def read_error(answer: bytes) -> tuple[int, dict[str, Any]]:
    """Status and error of the only answer in the bytes, after checking what all answers carry."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/json" in lines
    assert b"connection: close" in lines
    assert b"x-content-type-options: nosniff" in lines
    assert any(re.fullmatch(rb"x-request-id: [0-9a-f]{32}", line) for line in lines)
    assert b"content-length: %d" % len(body) in lines
    error = json.loads(body)["error"]
    assert list(error) == ["message", "type", "code", "param"]
    return int(head.split(b" ")[1]), error


def count_packets(connection: socket.socket) -> int:
    """The packets with data that have come: tcpi_data_segs_in of tcp(7)'s TCP_INFO."""
    (packets,) = struct.unpack_from(
        "I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152
    )
    return int(packets)


def count_cycles() -> int:
    """The requests that are in memory, answered or not."""
    return sum(type(one) is Exchange for one in gc.get_objects())


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes until it ends so."""
    answer = b""
    while not answer.endswith(end):
        part = connection.recv(65536)
        assert part, answer
        answer += part
    return answer


def trickle(connection: socket.socket, part: bytes) -> bytes:
    """Send the part again and again, slowly, until the server has closed; what it said."""
    while not select.select([connection], [], [], SHORT_S / 8)[0]:
        connection.sendall(part)
    return read_all(connection)


@pytest.mark.parametrize(
    ("begin", "part", "times"),
    [
        (b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n", b"", 0),
        (GET + b"a: " + b"x" * 9_000 + b"\r\n\r\n", b"", 0),
        (GET, b"a: b\r\n", 100_000),
        (GET, b"a: " + b"x" * 100_000 + b"\r\n", 100),
        (GET + b"a: ", b"x" * 100_000, 100),
        (b"GET /", b"x" * 100_000, 10),
    ],
    ids=["line", "header", "100,000 headers", "10 MB", "endless header", "endless line"],
)
def test_headers_that_are_too_large(begin: bytes, part: bytes, times: int, strict: Server) -> None:
    before = strict.read_metric("cloze_requests_total", status="431")
    with connect(strict) as connection:
        send_until_closed(connection, begin, 1)
        send_until_closed(connection, part, times)
        answer = read_all(connection)
    # Who sends much more than is read may be cut off before it reads; what it reads is right.
    if answer or times < 100:
        status, error = read_error(answer)
        assert (status, error["code"]) == (431, "headers_too_large")
        assert "8192" in error["message"]
    assert strict.read_metric("cloze_requests_total", status="431") == before + 1


@pytest.mark.parametrize("pieces", [1, 40])
def test_headers_that_are_just_small_enough(pieces: int, strict: Server) -> None:
    whole = GET + b"a: " + b"x" * 8_000 + b"\r\nConnection: close\r\n\r\n"
    size = -(-len(whole) // pieces)
    with connect(strict) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(whole), size):
            connection.sendall(whole[start : start + size])
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_large_bodies_are_no_headers(strict: Server) -> None:
    head = POST + b"Authorization: Bearer right\r\nConnection: close\r\n"
    for framing, body in (
        (b"Content-Length: 1000020\r\n", BODY + b" " * 1_000_000),
        (
            b"Transfer-Encoding: chunked\r\n",
            b"14\r\n%s\r\n%s0\r\n\r\n" % (BODY, (b"400\r\n" + b" " * 1024 + b"\r\n") * 1000),
        ),
    ):
        with connect(strict) as connection:
            connection.sendall(head + framing + b"\r\n" + body)
            assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_what_is_no_http(strict: Server) -> None:
    for junk in (b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with connect(strict) as connection:
            connection.sendall(junk)
            status, error = read_error(read_all(connection))
            assert (status, error["code"]) == (400, "malformed_http")


def test_trailers_are_no_headers(strict: Server) -> None:
    chunks = b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n14\r\n%s\r\n0\r\n" % BODY
    for trailers, status in (
        (b"Authorization: Bearer right\r\n\r\n", 401),
        (b"x-a: " + b"x" * 1_000_000 + b"\r\n\r\n", 431),
        (b"x-a: b\r\n" * 100_000 + b"\r\n", 431),
    ):
        with connect(strict) as connection:
            send_until_closed(connection, POST + chunks + trailers, 1)
            answer = read_all(connection)
            # The key is asked for before the body is there, and then the rest is of no interest.
            assert not answer or answer.split(b" ")[1] in (b"401", b"%d" % status)
            assert answer.count(b"HTTP/1.1 ") <= 1


def test_requests_sent_at_once_are_answered_in_order(strict: Server) -> None:
    with connect(strict) as connection:
        live, ready = GET + b"\r\n", GET.replace(b"live", b"ready")
        connection.sendall(live * 3 + ready + b"Connection: close\r\n\r\n")
        answer = read_all(connection)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200"] * 4
    assert answer.index(b'"ready"') > answer.rindex(b'"live"')


def test_few_requests_of_one_connection_wait_and_all_are_answered_in_turn(strict: Server) -> None:
    (model,) = strict.models
    bodies = (
        b"\r\n",
        b"Content-Length: 3000\r\n\r\n" + b" " * 3000,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"5\r\nhello\r\n" * 300 + b"0\r\n\r\n",
    )
    many = [
        b"GET /n%d HTTP/1.1\r\n%s" % (place, bodies[place % 500 if place % 500 < 3 else 0])
        for place in range(6_000)
    ]
    last = GET + b"Connection: close\r\n\r\n"
    before = count_cycles()
    with connect(strict) as connection:
        with hold(model.pipeline, model.batcher):
            connection.sendall(POST + b"Authorization: Bearer right\r\n")
            connection.sendall(b"Content-Length: 20\r\n\r\n" + BODY + b"".join([*many, last]))
            wait_until(lambda: model.batcher.queued_texts > 0 and count_cycles() > before + 16)
            assert strict.client.get("/health/live").status_code == 200
            assert count_cycles() < before + 100
        answer = read_all(connection)
    assert re.findall(rb"there is no /n(\d+)", answer) == [b"%d" % n for n in range(len(many))]
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"status":"live"}')


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked for its count")
def test_an_answer_comes_in_one_packet(strict: Server) -> None:
    with connect(strict) as connection:
        for answers in range(1, 4):
            connection.sendall(GET + b"\r\n")
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert b"content-length: %d" % len(body) in head.lower().split(b"\r\n")
            assert count_packets(connection) == answers


def test_an_answer_without_a_body_comes_too(strict: Server) -> None:
    with connect(strict) as connection:
        for method in (b"HEAD", b"GET"):
            connection.sendall(GET.replace(b"GET", method) + b"\r\n")
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert bool(body) == (method == b"GET")
        connection.sendall(GET.replace(b"GET", b"HEAD") + b"Connection: close\r\n\r\n")
        assert read_all(connection).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("end", ["answered", "left", "left waiting"])
def test_a_request_leaves_nothing_to_the_collector(end: str, strict: Server) -> None:
    gc.collect()
    gc.disable()
    try:
        before = count_cycles()
        for _ in range(20):
            with connect(strict) as connection:
                if end == "left waiting":
                    connection.sendall(PAGE * 100)
                    connection.recv(1)
                elif end == "left":
                    connection.sendall(POST + b"Authorization: Bearer right\r\n")
                    connection.sendall(b"Content-Length: 20\r\n\r\n" + BODY[:5])
                else:
                    connection.sendall(GET + b"\r\n" + GET + b"Connection: close\r\n\r\n")
                    assert read_all(connection).count(b"HTTP/1.1 200 ") == 2
        wait_until(lambda: count_cycles() <= before)
    finally:
        gc.enable()


def test_junk_behind_a_request_has_not_its_id(strict: Server) -> None:
    with connect(strict) as connection:
        connection.sendall(GET + b"X-Request-ID: mine\r\n\r\n")
        assert b"\r\nx-request-id: mine\r\n" in connection.recv(65536)
        connection.sendall(b"\x00\r\n\r\n")
        status, error = read_error(read_all(connection))
    assert (status, error["code"]) == (400, "malformed_http")


def test_junk_behind_a_request_is_not_answered_in_its_place(strict: Server) -> None:
    with connect(strict) as connection:
        connection.sendall(POST + b"Authorization: Bearer right\r\n")
        connection.sendall(b"Content-Length: 20\r\n\r\n" + BODY + b"\x00junk\r\n\r\n")
        answer = read_all(connection)
    assert b"HTTP/1.1 4" not in answer[:12]


def test_who_says_nothing_is_not_waited_for(impatient: Server) -> None:
    with connect(impatient) as connection:
        assert read_all(connection) == b""
    # Nor who sends only what stands between two requests.
    with connect(impatient) as connection:
        assert trickle(connection, b"\r\n") == b""
    with connect(impatient) as connection:
        connection.sendall(GET + b"\r\n")
        read_until(connection, b'{"status":"live"}')
        assert trickle(connection, b"\r\n") == b""


@pytest.mark.parametrize("size", [20, 200_000], ids=["answered", "refused before its body"])
def test_an_idle_connection_is_kept_however_the_last_request_came(
    size: int, impatient: Server
) -> None:
    with connect(impatient) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % size)
        if size > 20:
            assert read_until(connection, b"}").startswith(b"HTTP/1.1 413 ")
        else:
            time.sleep(SHORT_S / 8)
        connection.sendall(BODY + b" " * (size - 20))
        if size == 20:
            assert read_until(connection, b"}").startswith(b"HTTP/1.1 200 ")
        time.sleep(3 * SHORT_S)
        connection.sendall(GET + b"\r\n")
        assert read_until(connection, b'{"status":"live"}').startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"GET /", b"x"),
        (GET + b"a: ", b"x"),
        (GET, b"a: b\r\n"),
        (POST + b"Content-Length: 5000\r\n\r\n", b" "),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (GET + b"\r\n" + POST, b""),
    ],
    ids=["line", "header", "headers", "body", "chunks", "second request"],
)
def test_slow_senders_are_cut_off(begin: bytes, part: bytes, impatient: Server) -> None:
    before = impatient.read_metric("cloze_requests_total", status="408")
    with connect(impatient) as connection:
        connection.sendall(begin)
        if begin.startswith(GET + b"\r\n"):
            # Answered, and then nothing more comes.
            read_until(connection, b'{"status":"live"}')
        status, error = read_error(trickle(connection, part))
    assert (status, error["code"]) == (408, "request_timeout")
    assert "0.4 s" in error["message"]
    assert "send it faster" in error["message"]
    wait_until(lambda: impatient.read_metric("cloze_requests_total", status="408") == before + 1)
    assert impatient.read_metric("cloze_rejections_total", reason="request_timeout") > 0


def test_a_request_that_is_cut_off_is_counted_once_under_its_route(impatient: Server) -> None:
    def count(**labels: str) -> float:
        return impatient.read_metric("cloze_requests_total", **labels)

    route, gone = {"route": "/v1/fill-mask", "status": "408"}, {"outcome": "gone"}
    before = count(**route), count(**gone)
    with connect(impatient) as connection:
        connection.sendall(POST + b"X-Request-ID: mine\r\nContent-Length: 50\r\n\r\n ")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nx-request-id: mine\r\n" in answer
    wait_until(lambda: count(**route) == before[0] + 1)
    assert count(**gone) == before[1]


def test_a_body_that_is_refused_is_not_read_for_ever(impatient: Server) -> None:
    with connect(impatient) as connection:
        connection.sendall(POST + b"Content-Length: 100000000\r\n\r\n")
        assert read_until(connection, b"}").startswith(b"HTTP/1.1 413 ")
        # No second answer, but an end.
        assert trickle(connection, b" " * 1000) == b""


def test_a_request_in_time_is_not_disturbed_by_the_next(impatient: Server) -> None:
    """Requests before the one that is late are answered."""
    with connect(impatient) as connection:
        connection.sendall(POST + b"Content-Length: 20\r\n\r\n" + BODY + POST)
        answer = read_all(connection)
    first, second = answer.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ")
    assert second.startswith(b"408 ")


def test_a_mistake_is_refused_in_its_turn_however_long_that_takes(impatient: Server) -> None:
    (model,) = impatient.models
    with connect(impatient) as connection:
        with hold(model.pipeline, model.batcher):
            connection.sendall(POST + b"Content-Length: 20\r\n\r\n" + BODY)
            connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
            time.sleep(3 * SHORT_S)
        answer = read_all(connection)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400"]


@pytest.fixture
def _nobody_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, nobody counts as idle: test_crowd.py is about those."""
    monkeypatch.setattr(crowd, "_LEAST_IDLE_S", 600.0)


@pytest.mark.usefixtures("_nobody_idle")
def test_connections_beyond_the_limit_get_a_503(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, max_connections=3) as server:
        # The client of the server has one.
        with connect(server) as one, connect(server) as two:
            for connection in (one, two):
                connection.sendall(GET + b"\r\n")
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            with connect(server) as three:
                # Probes are answered however many there are.
                three.sendall(GET + b"\r\n")
                assert three.recv(65536).startswith(b"HTTP/1.1 200 ")
                three.sendall(POST + b"Content-Length: 20\r\n\r\n" + BODY)
                answer = read_all(three)
            status, error = read_error(answer)
            assert (status, error["code"]) == (503, "too_many_connections")
            assert b"retry-after: 1" in answer.lower()
            one.sendall(POST + b"Content-Length: 20\r\n\r\n" + BODY)
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")

        def is_answered() -> bool:
            with connect(server) as again:
                again.sendall(POST + b"Content-Length: 20\r\nConnection: close\r\n\r\n" + BODY)
                return read_all(again).startswith(b"HTTP/1.1 200 ")

        wait_until(is_answered)


@pytest.mark.usefixtures("_nobody_idle")
def test_far_beyond_the_limit_connections_are_closed_at_once(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, max_connections=1) as server, ExitStack() as stack:
        answers = []
        for _ in range(80):
            connection = stack.enter_context(connect(server))
            try:
                connection.sendall(GET + b"\r\n")
                answers.append(connection.recv(65536)[:12])
            except (BrokenPipeError, ConnectionResetError):
                answers.append(b"")
        # Probes are answered on those that are kept.
        assert 0 < answers.index(b"") < len(answers)
        assert set(answers) == {b"", b"HTTP/1.1 200"}


def test_who_does_not_read_is_cut_off(impatient: Server) -> None:
    def count() -> float:
        return impatient.read_metric("cloze_requests_total", route="unknown", status="499")

    before, most = count(), 1_000_000 * len(PAGE)
    with connect(impatient, small=True) as connection:
        connection.setblocking(False)  # noqa: FBT003
        sent = 0
        try:
            while sent < most:
                sent += connection.send(PAGE * 1000)
        except BlockingIOError:
            pass
        # The server stopped reading requests, so that their answers do not gather.
        assert sent < most
        wait_until(lambda: count() == before + 1)
        connection.settimeout(PATIENCE_S)
        assert read_all(connection).count(b"HTTP/1.1 200 ") < sent // len(PAGE)
    # Nobody took that for a bug.
    assert impatient.read_metric("cloze_requests_total", status="500") == 0


def test_who_does_not_read_holds_up_no_shutdown(pretraining_bundle: Path) -> None:
    with (
        serve(pretraining_bundle, send_timeout_s=SHORT_S) as server,
        connect(server, small=True) as connection,
    ):
        connection.sendall(PAGE * 500)
        connection.recv(1)
    # Without a bound, the block above would not end.


def test_who_reads_slowly_gets_the_answer_whole(impatient: Server) -> None:
    size = len(impatient.client.get("/openapi.json").content)
    with connect(impatient, small=True) as connection:
        connection.sendall(PAGE * 99 + PAGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 100
    assert len(answer) > 100 * size


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
def test_the_process_may_open_a_file_for_each_connection() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert allow_files(Settings(max_connections=100))
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 356
        if hard != resource.RLIM_INFINITY:
            assert not allow_files(Settings(max_connections=hard))
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("size", [100, 100_000, 300_000])
def test_who_leaves_is_noticed_however_much_was_sent(size: int, pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle) as server:
        (model,) = server.models
        body = BODY.ljust(size)
        with hold(model.pipeline, model.batcher):
            with connect(server) as connection:
                connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % size + body)
                wait_until(lambda: model.batcher.queued_texts > 0)
            wait_until(lambda: server.read_metric("cloze_inputs_dropped_total") == 1)


def test_an_idle_connection_holds_nothing_of_a_body_that_was_refused(strict: Server) -> None:
    with connect(strict) as connection:
        connection.sendall(POST + b"Content-Length: 50000\r\n\r\n" + b" " * 50_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        wait_until(lambda: strict.read_metric("cloze_pending_bytes") == 0)
        held = [each for each in gc.get_objects() if type(each) is Exchange and each._body]
        assert held == []


def test_nothing_is_written_behind_a_refusal(
    pretraining_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serve(pretraining_bundle) as server, connect(server) as connection:
        expecting = POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
        connection.sendall(expecting)
        status, error = read_error(read_all(connection))
    assert (status, error["code"]) == (400, "malformed_http")
    assert "unexpected error" not in "".join(capfd.readouterr())


def test_a_mistake_in_the_place_of_a_request_that_waits_is_counted(strict: Server) -> None:
    before = strict.read_metric("cloze_requests_total", status="400")
    (model,) = strict.models
    key = b"Authorization: Bearer right\r\n"
    with connect(strict) as connection:
        with hold(model.pipeline, model.batcher):
            connection.sendall(POST + key + b"Content-Length: 20\r\n\r\n" + BODY)
            connection.sendall(POST + key + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n")
            wait_until(lambda: model.batcher.queued_texts > 0)
        assert read_all(connection).count(b"HTTP/1.1 ") == 2
    wait_until(lambda: strict.read_metric("cloze_requests_total", status="400") == before + 1)
