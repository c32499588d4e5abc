"""Every error has a status, a code of its own, and the one shape."""

from collections.abc import Iterator
from http import HTTPStatus

import pytest

import models.errors
import service.errors
from models.errors import (
    CallerError,
    ClozeError,
    EmptyInput,
    InputTooLong,
    InternalError,
    InvalidValue,
    OperatorError,
)
from service.api.openai.dialect import OPENAI
from service.endpoint import NATIVE
from service.error_response import (
    STATUSES,
    ErrorBody,
    describe_error,
    find_status,
    shape_error,
)
from service.errors import InvalidRequest, ServiceError

SOURCES = (models.errors.__name__, service.errors.__name__)


def find_kinds(kind: type[ClozeError] = ClozeError) -> Iterator[type[ClozeError]]:
    """The error and all below it, of what can happen in a service."""
    if kind.__module__ in SOURCES:
        yield kind
    for below in kind.__subclasses__():
        yield from find_kinds(below)


KINDS = sorted(set(find_kinds()), key=lambda kind: kind.__name__)
EACH = pytest.mark.parametrize("kind", KINDS)


def test_the_tree_is_whole() -> None:
    defined = {
        kind
        for module in (models.errors, service.errors)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ in SOURCES
    }
    assert defined == set(KINDS)
    assert len(KINDS) > 25


def test_the_docstrings_draw_the_tree() -> None:
    drawn = f"{models.errors.__doc__}{service.errors.__doc__}"
    for kind in KINDS:
        assert f"{kind.__name__} " in drawn or f"{kind.__name__}\n" in drawn, kind


def test_every_code_is_a_stable_word_of_its_own() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)
    for kind in KINDS:
        assert "code" in vars(kind), f"{kind} shares the code of what is above it"
        assert kind.code.replace("_", "").isalpha()
        assert kind.code.islower()


@EACH
def test_the_body_has_one_shape(kind: type[ClozeError]) -> None:
    body = shape_error(describe_error(kind("what went wrong", param="inputs[2]")))
    assert body.keys() == {"error"}
    assert list(body["error"]) == ["message", "type", "code", "param"]
    assert ErrorBody.model_validate(body).model_dump() == body
    assert body["error"]["type"].endswith("_error")


@EACH
def test_the_status_says_who_can_mend_it(kind: type[ClozeError]) -> None:
    status = find_status(kind("what went wrong"))
    error = shape_error(describe_error(kind("what went wrong", param="inputs[2]")))["error"]
    # 499 is nginx's.
    assert status == 499 or HTTPStatus(status) >= 400
    if issubclass(kind, CallerError | InvalidRequest):
        assert 400 <= status < 429
        assert error["type"] == "invalid_request_error"
    if issubclass(kind, OperatorError | InternalError):
        assert status == 500
        # Told without internals; an item is the caller's own.
        param = "inputs[2]" if issubclass(kind, InternalError) else None
        assert (error["code"], error["param"]) == ("internal_error", param)
        assert "what went wrong" not in error["message"]
    elif kind not in (ClozeError, ServiceError):
        assert status != 500
        assert error["code"] == kind.code
        assert error["message"] == "inputs[2]: what went wrong"


def test_the_statuses_of_the_contract() -> None:
    found = {kind.code: find_status(kind("")) for kind in KINDS}
    wanted = {
        "invalid_json": 400,
        "duplicate_key": 400,
        "invalid_content_type": 400,
        "invalid_content_encoding": 400,
        "malformed_http": 400,
        "invalid_api_key": 401,
        "model_not_found": 404,
        "route_not_found": 404,
        "method_not_allowed": 405,
        "body_too_large": 413,
        "input_too_long": 422,
        "missing_mask": 422,
        "task_unsupported": 422,
        "head_not_found": 422,
        "empty_input": 422,
        "too_many_inputs": 422,
        "invalid_token": 422,
        "invalid_target": 422,
        "overloaded": 429,
        "not_ready": 503,
        "too_much_pending": 503,
        "deadline_passed": 504,
        "internal_error": 500,
    }
    assert {code: found[code] for code in wanted} == wanted


def test_a_dialect_has_statuses_of_its_own() -> None:
    statuses = {"empty_input": 400, "invalid_value": 418, "internal_error": 400, "error": 400}
    kinds: list[tuple[ClozeError, int]] = [
        (EmptyInput("no"), 400),
        (InvalidValue("no"), 418),
        # By the word that is told, whatever the error is.
        (InvalidRequest("no", code="invalid_value"), 418),
        (InvalidRequest("no"), 422),
        (InputTooLong("no"), 422),
        # What is ours, nobody calls theirs.
        (InternalError("no"), 500),
        (ClozeError("no"), 500),
    ]
    for error, status in kinds:
        assert find_status(error, statuses) == describe_error(error, statuses).status == status
        assert describe_error(error).status == find_status(error)
    assert describe_error(kinds[0][0], statuses).type == "invalid_request_error"


def test_openais_clients_are_told_400_of_what_is_the_callers() -> None:
    words = {*(kind.code for kind in KINDS), "missing_field", "unknown_field"}
    assert OPENAI.statuses.keys() <= words
    assert set(OPENAI.statuses.values()) == {400}
    assert not NATIVE.statuses
    ours = {kind.code for kind in KINDS if find_status(kind("")) == 422}
    # What no embeddings route answers, what OpenAI has no word for, and what stands above others.
    assert ours - OPENAI.statuses.keys() == {
        *("missing_mask", "invalid_target", "head_not_found"),
        "foreign_tokens",
        *("path_not_allowed", "bundle_refused"),
        *("caller_error", "invalid_request"),
    }


def test_a_message_of_any_length_is_told_in_short_with_its_remedy() -> None:
    error = InvalidRequest("x" * 10_000_000 + "; do this", param="y" * 10_000_000)
    told = shape_error(describe_error(error))["error"]
    assert len(told["message"]) < 1_100
    assert told["message"].endswith("; do this")
    assert told["param"].startswith("yyy")
    assert len(told["param"]) < 300


def test_the_table_has_no_row_too_many() -> None:
    assert set(STATUSES) <= set(KINDS)
    for kind, status in STATUSES.items():
        above = next((STATUSES[one] for one in kind.__mro__[1:] if one in STATUSES), None)
        assert status != above or kind in (CallerError, InvalidRequest), kind
