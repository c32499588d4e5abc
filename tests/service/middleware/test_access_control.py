"""Who may ask: keys, rates, sizes and closed pages, before the body is read."""

import asyncio
import base64
import http.client
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope
from structlog.testing import capture_logs

from service.api import ADMIN_ROUTERS, ROUTERS
from service.api.table import EndpointTable
from service.app import reload_all
from service.keys import KeyRing
from service.middleware.access_control import AccessControl
from service.observability.request_record import RequestRecord
from service.scope import CROWDED, ENDPOINT, KEY, RECORD
from service.settings import Settings
from tests.helpers.server import Server, check_error, read_times, serve

BODY = {"inputs": "[MASK]"}
PATH = "/v1/fill-mask"
ENDPOINTS = EndpointTable(
    (route for router in (*ROUTERS, *ADMIN_ROUTERS) for route in router.routes), FastAPI()
)
# What answers whoever asks, on purpose.
OPEN = {"/health/live", "/health/ready"}
PLAIN = (
    *("/", "/ping", "/health", "/v2", "/v2/health/live", "/v2/health/ready"),
    *("/.well-known/ready", "/tei/{model:path}/.well-known/ready"),
)
BEARER = {"authorization": "Bearer right"}


@pytest.fixture(scope="module")
def closed(pretraining_bundle: Path) -> Iterator[Server]:
    """Asks for a key wherever it can."""
    with serve(pretraining_bundle, api_keys="shop:right", docs="key", metrics="key") as server:
        yield server


class Application:
    """Notes the scopes that reach it, and whether anyone read a body."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Asking:
    """A guard before an application, asked without a network."""

    def __init__(self, **settings: Any) -> None:
        self.application = Application()
        made = Settings(**settings)
        self.control = AccessControl(settings=made, keys=KeyRing(made.api_keys))

    def ask(
        self,
        path: str = PATH,
        client: tuple[str, int] | None = ("192.0.2.1", 1),
        **headers: str,
    ) -> tuple[int, dict[bytes, bytes]]:
        """Status and headers of the answer."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            raise AssertionError("the body was read")

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "client": client,
            RECORD: RequestRecord(),
            ENDPOINT: replace(ENDPOINTS[path], handlers={"POST": self.application}),
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
            ],
        }
        asyncio.run(self.control(scope, receive, send))
        return sent[0]["status"], dict(sent[0]["headers"])


def test_no_route_is_forgotten(closed: Server) -> None:
    """Whatever there is asks for a key, or is open on purpose."""
    paths = set(closed.app.state.endpoints)
    assert {"/docs", "/openapi.json", PATH, "/metrics"} <= paths
    for path in paths:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
            response = closed.client.request(method, path)
            if path in OPEN or (path in PLAIN and (path, method) != ("/", "POST")):
                assert response.status_code in (200, 405)
            else:
                assert response.status_code == 401, (method, path)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nothing", "/v1/models/../models", PATH])
def test_a_key_is_asked_for_before_anything_is_told(path: str, closed: Server) -> None:
    check_error(closed.client.get(path), 401, "invalid_api_key", None)
    assert closed.client.get(path, headers=BEARER).status_code != 401


@pytest.mark.parametrize(
    "path", ["/V1/models", "//v1/models", "/./v1/models", "/v1%2Fmodels", "/%2e/v1/models", "/v1;"]
)
def test_no_other_way_to_write_a_path_leads_in(path: str, closed: Server) -> None:
    request = closed.client.build_request("GET", "/")
    request.url = httpx.URL(closed.url).copy_with(raw_path=path.encode())
    response = closed.client.send(request)
    assert response.status_code in (401, 404)


def test_the_key_is_asked_for_before_the_body_is_sent(closed: Server) -> None:
    connection = http.client.HTTPConnection(closed.url.removeprefix("http://"))
    connection.putrequest("POST", PATH)
    connection.putheader("Content-Length", "5000")
    connection.endheaders()
    with closing(connection), connection.getresponse() as answer:
        assert answer.status == 401


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/metrics"])
def test_pages_may_ask_for_a_key(path: str, closed: Server) -> None:
    response = closed.client.get(path)
    check_error(response, 401, "invalid_api_key", None)
    # So that a browser asks its user; Prometheus is told the token in its settings.
    assert [one.split()[0] for one in response.headers.get_list("www-authenticate")] == [
        "Bearer",
        "Basic",
    ]
    assert closed.client.get(path, headers=BEARER).status_code == 200
    assert closed.client.get(path, auth=("any", "right")).status_code == 200
    assert closed.client.get(path, auth=("right", "any")).status_code == 401


def test_basic_is_for_pages_alone(closed: Server) -> None:
    """A page elsewhere could make a browser send it along."""
    response = closed.client.post(PATH, json=BODY, auth=("any", "right"))
    check_error(response, 401, "invalid_api_key", None)
    assert response.headers["www-authenticate"] == "Bearer"


def test_pages_that_are_off_are_not_there(pretraining_bundle: Path) -> None:
    with serve(pretraining_bundle, docs="off", metrics="off", api_keys="right") as server:
        for path in ("/docs", "/openapi.json", "/metrics"):
            for method in ("GET", "POST"):
                message = check_error(
                    server.client.request(method, path, headers=BEARER),
                    404,
                    "route_not_found",
                    None,
                )
                assert message == f"there is no {path}"
        unknown = check_error(server.client.get("/nothing"), 404, "route_not_found", None)
        assert unknown == "there is no /nothing"
        assert server.client.get("/health/live").status_code == 200
        # What is off is not computed for whoever asks.
        assert server.client.post(PATH, json=BODY, headers=BEARER).status_code == 200


def test_refusals_are_counted_by_route(closed: Server) -> None:
    def count(route: str) -> float:
        response = closed.client.get("/metrics", headers=BEARER)
        return sum(
            float(line.rpartition(" ")[2])
            for line in response.text.splitlines()
            if line.startswith(
                f'cloze_requests_total{{model="",outcome="unauthorized",route="{route}"'
            )
        )

    before = count(PATH), count("unknown")
    closed.client.post(PATH, json=BODY)
    for number in range(3):
        closed.client.post(f"/v1/{number}", json=BODY)
    assert (count(PATH), count("unknown")) == (before[0] + 1, before[1] + 3)


def test_the_name_of_the_key_goes_along_and_not_the_key() -> None:
    asking = Asking(api_keys="shop:right,other")
    assert (asking.ask(authorization="Bearer right"))[0] == 200
    (scope,) = asking.application.scopes
    assert scope[KEY] == "shop"
    asking.ask(authorization="Bearer other")
    assert asking.application.scopes[1][KEY].startswith("key-")
    assert (asking.ask(authorization="Bearer wrong"))[0] == 401
    assert len(asking.application.scopes) == 2


def test_keys_can_be_changed_while_it_serves(pretraining_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("shop:old\n")
    with serve(pretraining_bundle, api_keys_file=file) as server:

        def find_status(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return server.client.get("/v1/models", headers=headers).status_code

        assert (find_status("old"), find_status("new")) == (200, 401)
        file.write_text("shop:new\n")
        reload_all(server.app)
        assert (find_status("old"), find_status("new")) == (401, 200)


def test_no_change_of_keys_opens_both_doors(pretraining_bundle: Path, tmp_path: Path) -> None:
    api, admin = tmp_path / "api", tmp_path / "admin"
    api.write_text("shop:caller\n")
    admin.write_text("boss:operator\n")
    with serve(pretraining_bundle, api_keys_file=api, admin_keys_file=admin) as server:

        def find_statuses(key: str) -> list[int]:
            headers = {"authorization": f"Bearer {key}"}
            return [
                server.client.get(path, headers=headers).status_code
                for path in ("/v1/models", "/admin/bundles")
            ]

        admin.write_text("boss:operator\nshop:caller\n")
        with capture_logs() as logs:
            reload_all(server.app)
        assert find_statuses("caller") == [200, 401]
        assert find_statuses("operator") == [401, 200]
        (line,) = [line for line in logs if line["log_level"] == "error"]
        assert "is an API key too" in line["reason"]
        assert "caller" not in str(logs)
        api.write_text("shop:another\n")
        reload_all(server.app)
        assert find_statuses("caller") == [401, 200]
        assert find_statuses("another") == [200, 401]


def test_rates_over_http(pretraining_bundle: Path) -> None:
    with serve(
        pretraining_bundle, api_keys="a:one,b:two", rate_limit=0.001, rate_burst=2
    ) as server:
        one, two = ({"authorization": f"Bearer {key}"} for key in ("one", "two"))
        for _ in range(2):
            assert server.client.post(PATH, json=BODY, headers=one).status_code == 200
        response = server.client.post(PATH, json=BODY, headers=one)
        message = check_error(response, 429, "rate_limited", None)
        assert 900 <= int(response.headers["retry-after"]) <= 1000
        assert response.headers["retry-after"] in message
        assert set(read_times(response).values()) == {0.0}
        # Others, and what needs no key, go on.
        assert server.client.post(PATH, json=BODY, headers=two).status_code == 200
        assert server.client.get("/health/ready").status_code == 200
        assert server.client.get("/metrics").status_code == 200
        assert server.client.get("/v1/models", headers=one).status_code == 429
        # Who has no key is told so, and takes nothing from anyone.
        assert server.client.post(PATH, json=BODY).status_code == 401


def test_the_wait_is_a_whole_number_of_seconds() -> None:
    for rate, wanted in ((1000.0, b"1"), (0.1, b"10")):
        asking = Asking(rate_limit=rate, rate_burst=1)
        answers = [asking.ask() for _ in range(20)]
        status, headers = next(answer for answer in answers if answer[0] == 429)
        assert status == 429
        assert headers[b"retry-after"] == wanted


@pytest.mark.parametrize(
    ("proxies", "first", "second", "same"),
    [
        # Without keys an address is a caller.
        (0, ("192.0.2.1", ""), ("192.0.2.1", ""), True),
        (0, ("192.0.2.1", ""), ("192.0.2.2", ""), False),
        # The header is believed only as far as proxies that are known have written it.
        (0, ("192.0.2.1", "198.51.100.1"), ("192.0.2.1", "198.51.100.2"), True),
        (1, ("192.0.2.1", "198.51.100.1"), ("192.0.2.1", "198.51.100.2"), False),
        (1, ("192.0.2.1", "1.1.1.1, 198.51.100.1"), ("192.0.2.1", "2.2.2.2, 198.51.100.1"), True),
        (2, ("192.0.2.1", "1.1.1.1, 192.0.2.9"), ("192.0.2.1", "2.2.2.2, 192.0.2.9"), False),
        (2, ("192.0.2.1", "1.1.1.1"), ("192.0.2.1", "2.2.2.2"), True),
        # One host has a whole network of IPv6 addresses.
        (0, ("2001:db8::1", ""), ("2001:db8::2", ""), True),
        (0, ("2001:db8::1", ""), ("2001:db8:0:1::1", ""), False),
        (0, ("::ffff:192.0.2.1", ""), ("::ffff:192.0.2.2", ""), False),
        (0, ("::ffff:192.0.2.1", ""), ("192.0.2.1", ""), True),
        (1, ("192.0.2.1", "x" * 9000), ("192.0.2.1", "x" * 8000), True),
    ],
)
def test_who_is_one_caller(
    proxies: int, first: tuple[str, str], second: tuple[str, str], *, same: bool
) -> None:
    asking = Asking(rate_limit=0.001, rate_burst=1, trusted_proxies=proxies)
    statuses = [
        (asking.ask(client=(address, 1), **({"x_forwarded_for": told} if told else {})))[0]
        for address, told in (first, second)
    ]
    assert statuses == [200, 429 if same else 200]


def test_a_length_beyond_the_limit_is_refused_everywhere() -> None:
    asking = Asking(max_body_bytes=2000)
    for path in (PATH, "/docs", "/nothing", "/admin/bundles"):
        assert (asking.ask(path, content_length="2000"))[0] == 200
        for length in ("2001", "9" * 30, "9" * 5000):
            assert (asking.ask(path, content_length=length))[0] == 413
    assert (asking.ask("/health/live", content_length="2001"))[0] == 200


def test_a_connection_too_many_is_told_so() -> None:
    asking = Asking()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": PATH, "headers": []}
    scope |= {CROWDED: True, RECORD: RequestRecord(), ENDPOINT: ENDPOINTS[PATH]}
    asyncio.run(asking.control(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 503
    assert (b"connection", b"close") in sent[0]["headers"]


def test_keys_are_not_in_what_the_service_says(closed: Server) -> None:
    encoded = base64.b64encode(b"any:right").decode()
    for headers in (BEARER, {"authorization": f"Basic {encoded}"}, {}):
        for path in ("/v1/models", "/metrics", "/docs", "/openapi.json", "/nothing"):
            response = closed.client.get(path, headers=headers)
            said = f"{response.headers}{response.text}"
            assert "Bearer right" not in said
            assert encoded not in said
