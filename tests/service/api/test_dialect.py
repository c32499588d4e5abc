"""Another way of asking is safe by being declared: keys, rates, room, drain, its own errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from pydantic import BaseModel

from models.heads import EmbedOptions
from service.answering.answerer import Question
from service.api import ROUTERS
from service.api.openapi import ERRORS, HEADERS
from service.api.route import Ask, Route, declare, json_response
from service.api.schemas import RequestBody
from service.api.table import EndpointTable
from service.endpoint import Dialect, Kind
from service.error_response import Problem
from tests.helpers.server import Server, hold, serve, wait_until

PATH = "/tongue/vectors"
BODY = {"texts": ["rain"]}
RIGHT = {"authorization": "Bearer right"}


def shape_error(problem: Problem) -> dict[str, Any]:
    return {"fault": problem.message, "word": problem.code, "number": problem.status}


TONGUE = Dialect(
    "tongue",
    prefixes=("/tongue",),
    items=("texts",),
    unknown_fields="ignore",
    declared=False,
    shape_error=shape_error,
)
router = APIRouter(route_class=declare(Kind.WORK, TONGUE))


class Vectors(BaseModel):
    vectors: list[list[float]]


class VectorsRequest(RequestBody):
    texts: list[str]


@router.post(PATH, response_model=Vectors, responses=ERRORS, openapi_extra=HEADERS)
async def vectors(body: VectorsRequest, ask: Ask) -> bytes:
    """Embed texts in another tongue."""
    options = EmbedOptions(overflow=ask.overflow(body))
    reply = await ask.ask(Question("embed", body.texts, options, field="texts"))
    return json_response({"vectors": reply.answers})


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.app.ROUTERS", (*ROUTERS, router))
        yield patch


@pytest.fixture(scope="module")
def server(pretraining_bundle: Path, patch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Speaks a tongue more, and asks for a key."""
    with serve(pretraining_bundle, api_keys="right", max_body_bytes=2000, max_inputs=3) as server:
        yield server


def check(response: httpx.Response, status: int, word: str) -> str:
    """The message of an error in the tongue's own shape."""
    assert response.status_code == status, response.text
    found = response.json()
    assert found.keys() == {"fault", "word", "number"}
    assert (found["word"], found["number"]) == (word, status)
    assert response.headers["server-timing"]
    assert response.headers["x-request-id"]
    message: str = found["fault"]
    return message


def ask(server: Server, content: Any = None, **headers: str) -> httpx.Response:
    return server.client.post(PATH, json=content or BODY, headers=headers)


def test_it_answers_and_takes_what_it_does_not_know(server: Server) -> None:
    wanted = server.client.post("/v1/embeddings", json={"input": "rain"}, headers=RIGHT).json()
    found = ask(server, BODY | {"truncate": True, "prompt": None}, **RIGHT).json()
    assert found == {"vectors": [wanted["data"][0]["embedding"]]}
    # Nor need its body be declared.
    response = server.client.post(PATH, content=b'{"texts": ["rain"]}', headers=RIGHT)
    assert response.json() == found


def test_keys_are_asked_for(server: Server) -> None:
    check(ask(server), 401, "invalid_api_key")
    assert ask(server).headers["www-authenticate"] == "Bearer"
    check(server.client.get("/tongue/nothing"), 401, "invalid_api_key")


def test_what_is_refused_above_the_route_has_its_shape(server: Server) -> None:
    check(server.client.get("/tongue/nothing", headers=RIGHT), 404, "route_not_found")
    check(server.client.get(PATH, headers=RIGHT), 405, "method_not_allowed")
    check(ask(server, {"texts": ["x" * 3000]}, **RIGHT), 413, "body_too_large")
    check(ask(server, **RIGHT, **{"X-Priority": "first"}), 422, "invalid_value")


def test_what_is_refused_in_the_route_has_its_shape(server: Server) -> None:
    assert "texts" in check(ask(server, {"texts": ["rain", ""]}, **RIGHT), 422, "empty_input")
    check(ask(server, {"text": "rain"}, **RIGHT), 422, "missing_field")
    assert "texts" in check(ask(server, {"texts": ["a"] * 4}, **RIGHT), 422, "too_many_inputs")
    broken = server.client.post(PATH, content=b"{", headers=RIGHT)
    check(broken, 400, "invalid_json")


def test_what_is_under_v1_keeps_our_shape(server: Server) -> None:
    assert server.client.get("/v1/nothing").json()["error"]["code"] == "invalid_api_key"
    assert server.client.get("/nothing").json()["error"]["code"] == "route_not_found"


def test_a_bug_has_its_shape_too(server: Server) -> None:
    with broken(server):
        check(ask(server, **RIGHT), 500, "internal_error")


@contextmanager
def broken(server: Server) -> Iterator[None]:
    """Nothing is answered, by mistake."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.app.state.answerer, "answer", None)
        yield


def test_it_is_counted_under_its_path(server: Server) -> None:
    def count(status: int) -> float:
        labels = {"route": PATH, "status": str(status)}
        return server.read_metric("cloze_requests_total", **labels)

    before = count(200), count(401)
    assert ask(server, **RIGHT).status_code == 200
    assert ask(server).status_code == 401
    assert (count(200), count(401)) == (before[0] + 1, before[1] + 1)


def test_the_document_tells_of_its_key(server: Server) -> None:
    operation = server.client.get("/openapi.json").json()["paths"][PATH]["post"]
    assert operation["security"] == [{}, {"key": []}]


def test_rates_hold(pretraining_bundle: Path, patch: pytest.MonkeyPatch) -> None:
    with serve(pretraining_bundle, rate_limit=0.001) as server:
        assert ask(server).status_code == 200
        response = ask(server)
        check(response, 429, "rate_limited")
        assert int(response.headers["retry-after"]) > 100


def test_a_full_queue_is_full(pretraining_bundle: Path, patch: pytest.MonkeyPatch) -> None:
    with serve(pretraining_bundle, max_queue_ms=1e-6) as server:
        (model,) = server.models
        with hold(model.pipeline, model.batcher):
            response = ask(server, **{"X-Request-Timeout": "0.000001"})
            check(response, 429, "overloaded")
            assert response.headers["retry-after"]


def test_it_is_drained(pretraining_bundle: Path, patch: pytest.MonkeyPatch) -> None:
    with serve(pretraining_bundle) as server:
        assert ask(server).status_code == 200
        server.app.state.drain.begin()
        response = ask(server)
        check(response, 503, "not_ready")
        assert response.headers["connection"] == "close"
        wait_until(lambda: server.app.state.drain.requests == 0)


def test_a_route_that_does_not_say_what_it_is_is_refused() -> None:
    silent = APIRouter()
    half = APIRouter(route_class=Route)
    for unknown in (silent, half):
        unknown.add_api_route("/silent", lambda: None)
        with pytest.raises(TypeError, match="does not say of what kind"):
            EndpointTable(unknown.routes, None)  # type: ignore[arg-type]
    other = APIRouter(route_class=declare(Kind.OPERATION))
    for each in (router, other):
        each_path = APIRouter(route_class=each.route_class)
        each_path.add_api_route("/same", lambda ask: None, response_model=None)
        other.routes.extend(each_path.routes)
    with pytest.raises(TypeError, match="do not agree"):
        EndpointTable(other.routes, None)  # type: ignore[arg-type]


def test_every_route_says_what_it_is() -> None:
    for each in ROUTERS:
        for route in each.routes:
            assert isinstance(route, Route)
            assert route.kind in Kind
