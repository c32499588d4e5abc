"""The application: what it says of itself, and that each makes its own."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.api import ROUTERS
from service.api.route import Route
from service.app import create_app
from service.settings import Settings
from tests.helpers.server import Server, find_refusal, read_times, serve

ROOT = Path(__file__).parents[2]
# What a task is asked with.
REQUIRED = {
    "/v1/embeddings": ["input"],
    "/v1/fill-mask": ["inputs"],
    "/v1/next-sentence": ["inputs"],
    "/v1/classify": ["inputs"],
    "/v1/token-classify": ["inputs"],
    "/v1/question-answering": ["inputs"],
    "/v1/similarity": [],
    "/v1/score": ["inputs"],
    "/v1/rerank": ["query", "documents"],
    "/v1/tokenize": ["inputs"],
    "/v1/detokenize": ["ids"],
    "/v1/attention": ["inputs"],
    # Words of either kind will do.
    "/v1/words": [],
}
OPERATIONS = {
    **{(path, "post"): (200, 400, 401, 404, 413, 422, 429, 500, 503, 504) for path in REQUIRED},
    ("/v1/models", "get"): (200, 401, 429, 500, 503),
    ("/v1/models/{model}", "get"): (200, 401, 404, 429, 500, 503),
    ("/health/live", "get"): (200, 500, 503),
    ("/health/ready", "get"): (200, 500, 503),
    ("/metrics", "get"): (200, 500),
}
KINDS = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


@pytest.fixture(scope="module")
def document(tiny: Server) -> dict[str, Any]:
    response = tiny.client.get("/openapi.json")
    assert response.status_code == 200
    read_times(response)
    content: dict[str, Any] = response.json()
    return content


def walk(part: Any) -> Iterator[dict[str, Any]]:
    """Every object of a document."""
    if isinstance(part, dict):
        yield part
        for inner in part.values():
            yield from walk(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from walk(inner)


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference stands for."""
    while "$ref" in schema:
        start, *path = schema["$ref"].split("/")
        assert start == "#"
        schema = document
        for name in path:
            schema = schema[name]
    return schema


def test_what_fields_are_that_are_left_out_is_told_in_words(document: dict[str, Any]) -> None:
    """A `default` makes them required in the types of openapi-typescript."""
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        assert not any("default" in field for field in schema.get("properties", {}).values())
    normalize = schemas["EmbeddingsRequest"]["properties"]["normalize"]
    assert normalize["description"].endswith("Left out, true.")


def test_the_document_describes_every_operation(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    found = {
        (path, method): tuple(int(status) for status in operation["responses"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert {key: tuple(sorted(statuses)) for key, statuses in found.items()} == OPERATIONS
    routes = (route for router in ROUTERS for route in router.routes if isinstance(route, Route))
    routed = {route.path_format for route in routes if route.include_in_schema}
    assert routed == {path for path, _ in OPERATIONS}


def test_every_operation_has_a_body_an_answer_and_errors(document: dict[str, Any]) -> None:
    for path, method in OPERATIONS:
        operation = document["paths"][path][method]
        assert operation["description"]
        if method == "post":
            assert operation["requestBody"]["required"] is True
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            body = resolve(document, schema)
            # In another API's shape, and as lenient.
            assert body.get("additionalProperties", True) is (path == "/v1/rerank")
            assert body.get("required", []) == REQUIRED[path]
        for status, response in operation["responses"].items():
            assert response["description"]
            if path == "/metrics" and status == "200":
                assert response["content"].keys() == {"text/plain"}
                continue
            schema = resolve(document, response["content"]["application/json"]["schema"])
            assert schema["properties"]
            if status != "200":
                error = resolve(document, schema["properties"]["error"])
                assert error["required"] == ["message", "type", "code", "param"]


def test_every_reference_leads_somewhere_and_every_schema_is_used(
    document: dict[str, Any],
) -> None:
    used = {part["$ref"] for part in walk(document) if "$ref" in part}
    for reference in used:
        assert resolve(document, {"$ref": reference})
    schemas = document["components"]["schemas"]
    assert {f"#/components/schemas/{name}" for name in schemas} == used
    assert not [name for name in schemas if "ValidationError" in name]


def test_the_document_tells_of_the_key(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, method in OPERATIONS:
        asked = document["paths"][path][method].get("security")
        assert asked == ([{}, {"key": []}] if path.startswith("/v1/") else None)


def test_the_document_is_true_of_real_answers(document: dict[str, Any], tiny: Server) -> None:
    bodies: dict[str, Any] = {
        "/v1/embeddings": {"input": ["rain", "river " * 100], "overflow": "truncate"},
        "/v1/fill-mask": {"inputs": ["[MASK]", "[MASK] " * 100], "overflow": "truncate"},
        "/v1/next-sentence": {"inputs": {"first": "rain", "second": "snow"}},
        "/v1/classify": {"inputs": ["rain", {"text": "rain", "text_pair": "snow"}]},
        "/v1/attention": {"inputs": ["rain", "river " * 100], "head": 0, "overflow": "truncate"},
        "/v1/words": {"positive": ["king", "woman"], "negative": "man"},
    }
    for path, body in bodies.items():
        check(document, find_schema(document, path, "post", "200"), tiny.answer(path, body))
        refused = tiny.post(path, {})
        check(
            document, find_schema(document, path, "post", str(find_refusal(path))), refused.json()
        )
    for path in ("/v1/models", "/health/live", "/health/ready"):
        check(document, find_schema(document, path, "get", "200"), tiny.client.get(path).json())


def find_schema(document: dict[str, Any], path: str, method: str, status: str) -> dict[str, Any]:
    response = document["paths"][path][method]["responses"][status]
    schema: dict[str, Any] = response["content"]["application/json"]["schema"]
    return schema


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Fail unless the value has the fields and types that the schema says, and no others."""
    schema = resolve(document, schema)
    if "anyOf" in schema:
        failures = []
        for choice in schema["anyOf"]:
            try:
                return check(document, choice, value)
            except AssertionError as error:
                failures.append(error)
        raise AssertionError(failures)
    if "const" in schema:
        assert value == schema["const"]
    if "enum" in schema:
        assert value in schema["enum"]
    assert type(value) in KINDS[schema["type"]]
    if schema["type"] == "object":
        check_fields(document, schema, value)
    if schema["type"] == "array":
        for inner in value:
            check(document, schema["items"], inner)
    return None


def check_fields(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    properties = schema.get("properties", {})
    assert set(schema.get("required", ())) <= value.keys()
    for name, inner in value.items():
        if name not in properties:
            assert "additionalProperties" in schema, name
        check(document, properties.get(name) or schema["additionalProperties"], inner)


def test_the_pages_are_served(tiny: Server) -> None:
    response = tiny.client.get("/docs")
    assert response.status_code == 200
    assert "text/html" in response.headers["content-type"]
    assert "/openapi.json" in response.text
    read_times(response)


def test_the_version_is_that_of_the_project(document: dict[str, Any]) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "(.+)"$', text, re.MULTILINE)
    assert document["info"]["version"] == version


def test_each_application_makes_its_own(pretraining_bundle: Path, classify_bundle: Path) -> None:
    with serve(pretraining_bundle) as one, serve(classify_bundle) as other:
        one.answer("/v1/fill-mask", {"inputs": "[MASK]"})
        other.refuse("/v1/fill-mask", {"inputs": "[MASK]"}, 422, "task_unsupported", "model")
        counts = [
            server.read_metric("cloze_requests_total", route="/v1/fill-mask", status="200")
            for server in (one, other)
        ]
        assert counts == [1, 0]


def test_making_one_loads_nothing(tmp_path: Path) -> None:
    app = create_app(Settings(bundles=(tmp_path / "nothing",)))
    assert list(app.state.manager.registry) == []
    app.state.manager.close()
