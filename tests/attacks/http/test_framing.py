"""Requests whose bytes lie: lengths, chunks, several in one packet, what is not HTTP at all."""

import json
import socket

import pytest

from tests.attacks.http.conftest import KNOWN
from tests.attacks.http.wire import HEAD, Answer, close, connect, post, read_all, send
from tests.helpers.server import Server

EMBED = "/v1/embeddings"
BODY = json.dumps(KNOWN[EMBED]).encode()
GOOD = post(EMBED, BODY)
LINE = b"POST /v1/embeddings HTTP/1.1\r\n" + HEAD
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"
READ = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS, to a port without it
        b"\0" * 100,
        b"rain\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"BREW /v1/embeddings HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/mo\0dels HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/mo dels HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nBad\0: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        LINE + b"Content-Length: -5\r\n\r\n" + BODY,
        LINE + b"Content-Length: +5\r\n\r\n" + BODY,
        LINE + b"Content-Length: 0x10\r\n\r\n" + BODY,
        LINE + b"Content-Length: 1e3\r\n\r\n" + BODY,
        LINE + b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY,
        LINE + b"Content-Length: %d, %d\r\n\r\n%s" % (len(BODY), len(BODY), BODY),
        LINE + b"Content-Length: %d\r\nContent-Length: 5\r\n\r\n%s" % (len(BODY), BODY),
        # Which of the two a proxy believes is how requests are smuggled.
        LINE + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(BODY),
        LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunk(BODY),
        LINE + b"Transfer-Encoding: chunked, identity\r\n\r\n" + chunk(BODY),
        LINE + b"Transfer-Encoding: xchunked\r\n\r\n" + chunk(BODY),
        LINE + b"Transfer-Encoding : chunked\r\n\r\n" + chunk(BODY),
        CHUNKED + b"zz\r\n" + BODY,
        CHUNKED + b"-5\r\n" + BODY,
        CHUNKED + b"fffffffffffffffff\r\n" + BODY,
        CHUNKED + b"5\r\n" + BODY,
        CHUNKED + chunk(BODY) + b"rain\r\n\r\n",
    ],
    ids=lambda value: repr(value[-40:]),
)
def test_what_is_not_http_is_refused_and_hung_up_on(request_: bytes, tiny: Server) -> None:
    (answer,) = send(tiny, request_)
    message = answer.refuse(400, "malformed_http")
    assert "check" in message
    assert answer.headers["connection"] == "close"


def test_the_same_length_twice_in_agreement_is_refused_too(tiny: Server) -> None:
    twice = LINE + b"Content-Length: %d\r\n" % len(BODY) * 2 + b"\r\n" + BODY
    (answer,) = send(tiny, twice.replace(LINE * 2, LINE))
    answer.refuse(400, "malformed_http")


def test_a_length_that_is_too_short_leaves_no_second_request(tiny: Server) -> None:
    cut = LINE + b"Content-Length: %d\r\n\r\n%s" % (len(BODY) - 5, BODY)
    first, second = send(tiny, cut)
    first.refuse(400, "invalid_json")
    second.refuse(400, "malformed_http")


def test_a_smuggled_request_is_answered_as_what_it_is_and_in_turn(tiny: Server) -> None:
    first, second = send(tiny, LINE + b"Content-Length: 0\r\n\r\n" + close(READ))
    first.refuse(400, "invalid_json")
    assert json.loads(second.body)["object"] == "list"


@pytest.mark.parametrize(
    "whole",
    [
        LINE + b"Content-Length: 1000\r\n\r\n" + BODY,
        CHUNKED + chunk(BODY),
        CHUNKED + b"%x\r\n%s" % (len(BODY), BODY[:5]),
        LINE + b"Content-Length: 10\r\n",
        b"POST /v1/emb",
    ],
)
def test_a_request_that_never_ends_is_dropped_with_its_client(whole: bytes, tiny: Server) -> None:
    assert send(tiny, whole, end=True) == []


def test_chunks_of_any_size_make_one_body(tiny: Server) -> None:
    bytewise = b"".join(chunk(BODY[place : place + 1]) for place in range(len(BODY)))
    (answer,) = send(tiny, close(CHUNKED), bytewise, b"0;x=y\r\nTrailer: x\r\n\r\n")
    assert answer.status == 200


def test_bytes_that_come_one_by_one_make_one_request(tiny: Server) -> None:
    whole = close(GOOD)
    (answer,) = send(tiny, *(whole[place : place + 1] for place in range(len(whole))))
    assert answer.status == 200


def name_answer(answer: Answer) -> str:
    content = json.loads(answer.body)
    return str(content["error"]["code"] if "error" in content else answer.status)


def test_requests_of_one_packet_are_answered_in_turn(tiny: Server) -> None:
    requests = [
        GOOD,
        post(EMBED, b"{"),
        READ,
        post("/v1/fill-mask", {"inputs": "no mask"}),
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        post("/v1/classify", KNOWN["/v1/classify"]),
        b"DELETE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        GOOD,
    ]
    answers = send(tiny, b"".join(requests * 10) + close(READ))
    wanted = ["200", "invalid_json", "200", "missing_mask", "route_not_found", "200"]
    wanted += ["method_not_allowed", "200"]
    assert [name_answer(answer) for answer in answers] == wanted * 10 + ["200"]


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize(
    "broken",
    [
        b"rain\r\n\r\n",
        LINE + b"Content-Length: x\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"5\r\nx",
    ],
)
def test_what_came_ahead_of_a_mistake_is_answered_before_it(
    ahead: int, broken: bytes, tiny: Server
) -> None:
    broken = broken if broken != CHUNKED + b"5\r\nx" else CHUNKED + b"1\r\nxx\r\n"
    answers = send(tiny, GOOD * ahead + broken + GOOD)
    assert [name_answer(answer) for answer in answers] == ["200"] * ahead + ["malformed_http"]
    # Parts of their own arrive while the ones ahead of them are computed, or after.
    answers = send(tiny, *[GOOD] * ahead, broken, GOOD)
    assert [name_answer(answer) for answer in answers] == ["200"] * ahead + ["malformed_http"]


def test_a_mistake_after_a_refusal_that_did_not_wait_for_the_body(tiny: Server) -> None:
    large = close(LINE) + b"Content-Length: 100000000\r\n\r\n"
    (answer,) = send(tiny, large)
    answer.refuse(413, "body_too_large")
    # 2 MB a chunk, until it is too large; then a chunk whose size is none.
    huge = chunk(b" " * (2 << 20)) * 9
    answers = send(tiny, CHUNKED, huge, b"zz\r\n")
    assert [name_answer(answer) for answer in answers][:1] == ["body_too_large"]
    assert len(answers) == 1


def test_http_1_0_is_answered_and_hung_up_on(tiny: Server) -> None:
    (answer,) = send(tiny, post(EMBED, BODY, version=b"1.0"))
    assert answer.status == 200
    (answer,) = send(tiny, b"GET /v1/models HTTP/1.0\r\n\r\n")
    assert answer.status == 200


@pytest.mark.parametrize("host", [b"", b"x:99999999", b"\xff\xfe", b"[::1", b"a b", b"x" * 10_000])
def test_any_host_is_as_good_as_ours(host: bytes, tiny: Server) -> None:
    head = b"GET /v1/models HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host
    (answer,) = send(tiny, head)
    assert answer.status == 200


def test_a_client_that_asks_first_is_told_to_go_on(tiny: Server) -> None:
    head, _, body = close(post(EMBED, BODY, b"Expect: 100-continue")).partition(b"\r\n\r\n")
    with connect(tiny) as connection:
        connection.sendall(head + b"\r\n\r\n")
        wanted = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert connection.recv(len(wanted), socket.MSG_WAITALL) == wanted
        connection.sendall(body)
        (answer,) = read_all(connection)
    assert answer.status == 200


def test_a_client_that_asks_first_with_too_much_is_told_at_once(tiny: Server) -> None:
    large = close(LINE) + b"Expect: 100-continue\r\nContent-Length: 100000000\r\n\r\n"
    (answer,) = send(tiny, large)
    answer.refuse(413, "body_too_large")


UPGRADES = [
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA",
]


@pytest.mark.parametrize("upgrade", UPGRADES, ids=["websocket", "h2c"])
def test_another_protocol_is_not_taken_up(upgrade: bytes, tiny: Server) -> None:
    # Java's client offers h2c with its first request, and sends the next ones as if refused.
    listing = READ.replace(b"\r\n\r\n", b"\r\n" + upgrade + b"\r\n\r\n")
    for first in (listing, post(EMBED, BODY, upgrade)):
        answers = send(tiny, first, close(GOOD))
        assert [answer.status for answer in answers] == [200, 200]
        answers = send(tiny, first + first + close(GOOD))
        assert [answer.status for answer in answers] == [200, 200, 200]


@pytest.mark.parametrize("upgrade", UPGRADES, ids=["websocket", "h2c"])
def test_a_body_that_comes_after_the_offer_is_read_too(upgrade: bytes, tiny: Server) -> None:
    whole = post(EMBED, BODY, upgrade)
    middle = len(whole) - len(BODY) // 2
    answers = send(tiny, whole[:middle], whole[middle:] + close(GOOD))
    assert [answer.status for answer in answers] == [200, 200]
    (answer,) = send(
        tiny, whole.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")
    )
    answer.refuse(400, "malformed_http")
