"""What all requests hold together, over real sockets: what does not fit, and what is given back."""

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from models.errors import SettingsError
from service.limits.body_budget import Budget
from service.server.exchange import Claim
from service.settings import Settings
from tests.attacks.http.wire import HEAD, Answer, close, connect, post, read_all, read_one
from tests.helpers.server import Server, hold, serve, wait_until

MIB = 1 << 20
KIB = 1 << 10
# Of which large requests may hold 2,240 KiB: two that have begun, and no third.
LIMIT = 2560 * KIB
SHORT_S = 0.4
MASK = "/v1/fill-mask"
SMALL = post(MASK, {"inputs": "[MASK]"})
LARGE = post(MASK, b'{"inputs": "[MASK]"}'.ljust(MIB))
BEGUN = LARGE[: -128 * KIB]
CHUNKED = b"POST /v1/fill-mask HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b" " * 64 * KIB + b"\r\n"


@pytest.fixture(scope="module")
def full(pretraining_bundle: Path) -> Iterator[Server]:
    """Holds 2.5 MiB of requests, of which one may have one."""
    with serve(pretraining_bundle, max_body_bytes=MIB, max_pending_bytes=LIMIT) as server:
        yield server


@pytest.fixture(scope="module")
def quick(pretraining_bundle: Path) -> Iterator[Server]:
    """The same, which waits for nobody."""
    with serve(
        pretraining_bundle,
        max_body_bytes=MIB,
        max_pending_bytes=LIMIT,
        receive_timeout_s=SHORT_S,
    ) as server:
        yield server


def read_pending(server: Server) -> int:
    """The bytes it holds now."""
    return int(server.read_metric("cloze_pending_bytes"))


@contextmanager
def send_begun(server: Server) -> Iterator[list[socket.socket]]:
    """Two requests, each of which has come but for its last 128 KiB."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(2)]
        for connection in connections:
            connection.sendall(BEGUN)
        wait_until(lambda: read_pending(server) == 2 * 896 * KIB)
        yield connections


def check_refusal(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert b'"type":"unavailable_error","code":"too_much_pending"' in answer.body
    assert b"%d bytes" % LIMIT in answer.body


def test_a_body_that_does_not_fit_is_refused_before_it_is_sent(full: Server) -> None:
    with send_begun(full), connect(full) as connection:
        connection.sendall(LARGE[:-MIB])
        check_refusal(read_one(connection))
        assert read_pending(full) == 1792 * KIB


def test_a_body_that_does_not_say_its_size_is_refused_when_it_fits_no_more(full: Server) -> None:
    with send_begun(full), connect(full) as connection:
        connection.sendall(CHUNKED + CHUNK * 15)
        check_refusal(read_one(connection))
        # The connection is as good as before, once the body is over.
        connection.sendall(b"0\r\n\r\n" + SMALL)
        assert read_one(connection).status == 200
        wait_until(lambda: read_pending(full) == 1792 * KIB)


def test_bodies_that_come_at_once_are_refused_when_they_fit_no_more(full: Server) -> None:
    """Each of them would have fitted alone."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(full)) for _ in range(4)]
        for connection in connections:
            connection.sendall(BEGUN)
        assert read_pending(full) < 7 * LIMIT // 8
        for connection in connections:
            connection.sendall(LARGE[len(BEGUN) :])
        answers = [read_one(connection) for connection in connections]
    assert {answer.status for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status == 503:
            check_refusal(answer)


def test_small_requests_get_through_while_large_ones_hold_all_they_may(full: Server) -> None:
    with send_begun(full) as begun, connect(full) as connection:
        for _ in range(3):
            connection.sendall(SMALL)
            assert read_one(connection).status == 200
        # And those that were let in end well.
        for large in begun:
            large.sendall(LARGE[len(BEGUN) :])
            assert read_one(large).status == 200


def test_slow_senders_hold_it_no_longer_than_a_request_may_take(quick: Server) -> None:
    with ExitStack() as stack:
        begun = [stack.enter_context(connect(quick)) for _ in range(2)]
        for connection in begun:
            connection.sendall(BEGUN)
        for connection in begun:
            assert read_all(connection)[0].status == 408
        wait_until(lambda: read_pending(quick) == 0)
    with connect(quick) as connection:
        connection.sendall(close(LARGE))
        assert read_all(connection)[0].status == 200


def answer_all(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(SMALL + post(MASK, b"{") + SMALL + close(LARGE))
        assert [each.status for each in read_all(connection)] == [200, 400, 200, 200]


def refuse(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(CHUNKED + CHUNK * 17)
        assert read_one(connection).status == 413


def leave(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(BEGUN)
        wait_until(lambda: read_pending(server) > 0)


def leave_while_waiting(server: Server) -> None:
    (model,) = server.models
    with connect(server) as connection, hold(model.pipeline, model.batcher):
        connection.sendall(SMALL * 3_000)
        # The bodies of those that are parsed, and all bytes of the others.
        wait_until(lambda: read_pending(server) > 2 * len(SMALL))
        connection.close()


def wait_in_turn(server: Server) -> None:
    (model,) = server.models
    body = post(MASK, b'{"inputs": "[MASK]"}'.ljust(20 * KIB))
    with connect(server) as connection:
        with hold(model.pipeline, model.batcher):
            connection.sendall(body * 3 + close(SMALL))
            # Not all of it, where the network brings it in pieces: no more is read for now.
            wait_until(lambda: read_pending(server) > 20 * KIB)
        assert [each.status for each in read_all(connection)] == [200] * 4


def break_off(server: Server) -> None:
    """A body that is no HTTP, behind a request that waits."""
    (model,) = server.models
    with connect(server) as connection:
        with hold(model.pipeline, model.batcher):
            connection.sendall(SMALL + CHUNKED + CHUNK[:5_000])
            wait_until(lambda: read_pending(server) > 4_000)
            connection.sendall(CHUNK[5_000:] + b"zz\r\n")
        assert [each.status for each in read_all(connection)] == [200, 400]


def cancel(server: Server) -> None:
    (model,) = server.models
    drain = server.app.state.drain
    with connect(server) as connection, hold(model.pipeline, model.batcher):
        connection.sendall(LARGE)
        wait_until(lambda: read_pending(server) == MIB and drain.requests == 1)
        (task,) = drain.inside
        given_up = asyncio.run_coroutine_threadsafe(drain.finish(0.0), task.get_loop())
        assert given_up.result() == 1
        drain.given_up = False
        assert read_one(connection).status == 503


@pytest.mark.parametrize(
    "attempt",
    [answer_all, refuse, leave, leave_while_waiting, wait_in_turn, break_off, cancel],
    ids=lambda attempt: attempt.__name__,
)
def test_every_byte_is_given_back(attempt: Callable[[Server], None], full: Server) -> None:
    assert read_pending(full) == 0
    attempt(full)
    wait_until(lambda: read_pending(full) == 0)


def test_what_waits_unparsed_and_does_not_fit_is_not_taken(full: Server) -> None:
    many = [b"GET /n%d HTTP/1.1\r\nHost: x\r\n\r\n" % place for place in range(6_000)]
    with send_begun(full), connect(full) as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(full.app.state.budget, "limit", 1792 * KIB)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"".join(many))
        answers = read_all(connection)
    found = [re.search(rb"there is no /(n\d+)", each.body) for each in answers]
    assert [one and one[1] for one in found] == [b"n%d" % place for place in range(len(answers))]
    assert 16 < len(answers) < 100
    assert [each.headers.get("connection") for each in answers[-2:]] == [None, "close"]


def test_the_default_suits_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory, limit in ((None, 128 * MIB), (8 << 30, 128 * MIB), (512 * MIB, 64 * MIB)):
        monkeypatch.setattr(
            "service.limits.body_budget.find_memory_limit", lambda memory=memory: memory
        )
        assert Budget.of(Settings()).limit == limit
    # The largest body always fits, if nothing else is there.
    assert Budget.of(Settings(max_body_bytes=100 * MIB)).limit == 200 * MIB
    assert Budget.of(Settings(max_pending_bytes=20 * MIB)).limit == 20 * MIB
    with pytest.raises(SettingsError, match="CLOZE_MAX_PENDING_BYTES is 16777216, in which"):
        Budget.of(Settings(max_pending_bytes=16 * MIB))


def test_a_part_is_kept_for_small_requests() -> None:
    budget = Budget(8 * MIB)
    large, small = Claim(budget), Claim(budget)
    assert large.take(7 * MIB)
    assert not Claim(budget).take(65 * KIB)
    assert small.take(64 * KIB)
    # It holds what it holds, also when others came after it.
    assert large.fits(large.size)
    assert not large.take(1)
    assert large.refused
    for claim in (large, small, small):
        claim.give_back()
    assert budget.held == 0
    assert not small.take(1)
