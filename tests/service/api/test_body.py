"""Bodies with much that is wrong: one thing is told, with its place, and the rest costs nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from service.api import DIALECTS, ROUTERS
from service.api.operations import admin
from service.api.route import validate
from tests.helpers.server import Server, find_refusal, serve

MANY = 10_000
WRONG: dict[str, Any] = {
    "nulls": [None] * MANY,
    "texts": [""] * MANY,
    "numbers": [1.5] * MANY,
    "lists": [[]] * MANY,
    "objects": [{}] * MANY,
    "a list of nulls": [[None] * MANY],
    "a list of texts": [[""] * MANY],
    "a right one first": [1, *[None] * MANY],
    "a wrong one last": [*[1] * MANY, None],
    "unknown fields": {str(number): None for number in range(MANY)},
    "an item of unknown fields": [{str(number): None for number in range(MANY)}],
    "items of unknown fields": [{str(number): None for number in range(10)}] * MANY,
}
# Once each, however many routes take it.
MODELS: list[type[BaseModel]] = list(
    dict.fromkeys(
        route.body_field.field_info.annotation
        for router in (
            *ROUTERS,
            admin.router,
            *(each for some in DIALECTS.values() for each in some),
        )
        for route in router.routes
        if isinstance(route, APIRoute) and route.body_field is not None
    )
)
EACH = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


@EACH
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_errors_are_not_collected(model: type[BaseModel], wrong: Any) -> None:
    assert len(MODELS) >= 5
    for body in (wrong, *({name: wrong} for name in model.model_fields)):
        try:
            validate(model, body)
        except ValidationError as error:
            # A few for each field: its shapes, and the fields of one item.
            assert error.error_count() <= 2 * len(model.model_fields)  # noqa: PT017


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/v1/embeddings", {"input": [[1, 2, 3, "", ""]]}, "invalid_value", "input[0][3]"),
        ("/v1/embeddings", {"input": ["a", [1], [""] * 9]}, "invalid_value", "input[2][0]"),
        ("/v1/embeddings", {"input": ["a", None, None]}, "invalid_value", "input[1]"),
        ("/v1/fill-mask", {"inputs": ["[MASK]", 1, 2]}, "invalid_value", "inputs[1]"),
        (
            "/v1/fill-mask",
            {"inputs": "[MASK]", "targets": ["the", 1, 2]},
            "invalid_value",
            "targets[1]",
        ),
        (
            "/v1/next-sentence",
            {"inputs": [{"first": "a", "second": "b"}] * 2 + [{"first": 1, "second": 2}] * 9},
            "invalid_value",
            "inputs[2].first",
        ),
        (
            "/v1/next-sentence",
            {"inputs": [{"first": "a", "x": 1, "y": 2, "z": 3}]},
            "unknown_field",
            "inputs[0].x",
        ),
        (
            "/v1/classify",
            {"inputs": ["a", {"text": "a", "x": 1, "y": 2}, {"z": 1}]},
            "unknown_field",
            "inputs[1].x",
        ),
        ("/v1/classify", {"x": 1, "y": 2, **dict.fromkeys("abcdefgh")}, "unknown_field", "x"),
    ],
)
def test_the_first_is_named(path: str, body: Any, code: str, param: str, tiny: Server) -> None:
    tiny.refuse(path, body, find_refusal(path), code, param)


@pytest.mark.parametrize(
    "body",
    [
        '{"input": [' + '{"a": 1},' * 150_000 + "{}]}",
        '{"input": [[' + "[]," * 300_000 + "[]]]}",
        '{"input": "a", ' + ",".join(f'"{number}": 1' for number in range(300_000)) + "}",
        '{"input": "a", ' + '"model": null,' * 300_000 + '"user": "b"}',
    ],
    ids=["objects", "lists", "fields", "a field again and again"],
)
def test_more_parts_than_items_can_have_are_not_parsed(body: str, tiny: Server) -> None:
    # The second is no JSON, which nobody finds out.
    for sent in (body, f"{body}}}"):
        message = tiny.refuse("/v1/embeddings", sent, 400, "too_many_inputs", None)
        assert "262144" in message
        assert "several requests" in message


@pytest.mark.parametrize(
    ("path", "inputs"),
    [
        ("/predict", [["rain " * 30], ["sea " * 30]]),
        ("/v1/classify", {"text": "rain " * 30, "text_pair": "sea " * 30}),
        ("/v2/models/tiny-pretraining/infer", [{"data": [["rain " * 30], ["sea " * 30]]}]),
    ],
)
def test_characters_are_counted_however_deep_they_lie(
    path: str, inputs: Any, pretraining_bundle: Path, classify_bundle: Path
) -> None:
    with serve(pretraining_bundle, classify_bundle, max_characters=200) as server:
        response = server.post(path, {"inputs": inputs})
        assert response.status_code == 422, response.text
        assert "characters of text" in response.text
        # Deeper than any route takes, and than the interpreter counts by itself.
        deep = b'{"inputs": %s%s}' % (b"[" * 1000, b"]" * 1000)
        assert server.post(path, deep).status_code in (400, 422)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (
            "/similarity",
            {"inputs": {"source_sentence": "a", "sentences": MANY}},
            "inputs.sentences",
        ),
        ("/", {"inputs": {"source_sentence": 1, "sentences": MANY}}, "inputs.sentences"),
        ("/v2/models/none/infer", {"inputs": [{"data": MANY}]}, "inputs.data"),
        ("/vertex", {"instances": [{"inputs": "a"}, {"inputs": MANY}]}, "instances.inputs"),
    ],
    ids=str,
)
def test_lists_within_items_are_counted_before_they_are_looked_at(
    path: str, body: dict[str, Any], param: str, tiny: Server
) -> None:
    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: fill(value) for name, value in part.items()}
        if isinstance(part, list):
            return [fill(each) for each in part]
        return ["a"] * MANY if part == MANY else part

    response = tiny.post(path, fill(body))
    assert response.status_code == 422
    assert response.json()["error"].startswith(f"{param}: {MANY} items are more than the 2048")


@pytest.mark.parametrize("text", ["{", "[", ":", '":', '\\"{', "\\[", '\\\\":{'])
def test_parts_are_not_counted_in_texts(text: str, tiny: Server) -> None:
    many = text * 300_000
    tiny.answer("/v1/embeddings", {"input": "rain", "user": many})
    # Nor where the text ends with what looks like an escaped quote.
    tiny.answer("/v1/embeddings", json.dumps({"user": f"{many}\\", "input": "rain"}))
