"""What the OpenAPI document promises, tried with thousands of requests that schemathesis makes up.

`FIT` requests keep to the document, `BREAK` break it in one place, and `KNOWING` keep to what a
client of these models knows besides: their names, their vocabulary, where a mask has to stand.
"""

import copy
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
import torch
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.generation.drivers import CoverageGenerator
from schemathesis.generation.feedback import NO_FEEDBACK
from schemathesis.generation.overrides import Override
from schemathesis.schemas import APIOperation

from models.derived.zero_shot import TEMPLATE
from tests.helpers.server import Server

TASKS = (
    "/v1/embeddings",
    "/v1/fill-mask",
    "/v1/next-sentence",
    "/v1/classify",
    "/v1/token-classify",
    "/v1/question-answering",
    "/v1/similarity",
    "/v1/score",
    "/v1/rerank",
    "/v1/tokenize",
    "/v1/detokenize",
    "/v1/attention",
    "/v1/words",
)
# In another API's shape, whose servers take more than they document.
LENIENT = "/v1/rerank"
READ = (
    "/v1/models",
    "/v1/models/{model}",
    "/health/live",
    "/health/ready",
    "/metrics",
)
# At least so many requests to each task: more than 5,000 to all, by `make test-slow`. Every run
# sends those that cover the document, and a quarter of the others.
CASES = 400
_FIT, _BREAK, _KNOWING = 120, 150, 110

# A request that fits the document may still ask for what no model has.
_BEYOND_THE_DOCUMENT = {
    "empty_input",
    "foreign_tokens",
    "head_not_found",
    "input_too_long",
    "invalid_target",
    "invalid_token",
    "missing_mask",
    "model_not_found",
    "route_not_found",  # a model whose name has a line break in it
    "task_unsupported",
}
_METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")


class Probe:
    """Sends cases, holds each answer against the document, and counts."""

    def __init__(self) -> None:
        self.session = requests.Session()
        self.statuses: Counter[tuple[str, int]] = Counter()

    def send(self, case: schemathesis.Case, kind: str) -> None:
        response = case.call(session=self.session)
        self.statuses[kind, response.status_code] += 1
        assert response.status_code < 500, response.content
        if kind == "KNOWING":
            assert response.status_code == 200, (case.body, response.content)
        elif kind == "FIT" and response.status_code != 200:
            _check_excuse(response.json()["error"], case.body)
        excluded = [schemathesis.checks.positive_data_acceptance]
        if case.operation.path == LENIENT:
            excluded.append(schemathesis.checks.negative_data_rejection)
        case.validate_response(response, excluded_checks=excluded)

    @property
    def sent(self) -> int:
        return self.statuses.total()

    def count(self, kind: str, *statuses: int) -> int:
        return sum(
            number
            for (one, status), number in self.statuses.items()
            if one == kind and (not statuses or status in statuses)
        )


@pytest.fixture(scope="module")
def document(tiny: Server) -> dict[str, Any]:
    content: dict[str, Any] = tiny.client.get("/openapi.json").json()
    for path in TASKS:
        # Whether a millisecond suffices is no question of the document; test_engine.py asks it.
        parameters = content["paths"][path]["post"]["parameters"]
        assert parameters.pop(0)["name"] == "X-Request-Timeout"
    return content


@pytest.fixture
def probe(tiny: Server) -> Iterator[Probe]:
    # The exports of the tiny models have switched denormal floats off in this thread; hypothesis
    # makes up no floats without them.
    torch.set_flush_denormal(False)
    probe = Probe()
    with probe.session:
        yield probe


def test_every_operation_is_tried_here(document: dict[str, Any]) -> None:
    assert sorted(document["paths"]) == sorted((*TASKS, *READ))
    assert CASES * len(TASKS) >= 5_000


@pytest.mark.parametrize("part", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", TASKS)
def test_a_task_keeps_its_promises(
    path: str, part: int, document: dict[str, Any], probe: Probe, tiny: Server
) -> None:
    fit, wrong, known = _FIT // part, _BREAK // part, _KNOWING // part
    operation = _find(document, path, tiny)
    _send_covering(operation, probe)
    _send_random(operation, GenerationMode.POSITIVE, probe, "FIT", fit)
    _send_random(operation, GenerationMode.NEGATIVE, probe, "BREAK", wrong)
    knowing = _find(_add_knowledge(document), path, tiny)
    _send_random(knowing, GenerationMode.POSITIVE, probe, "KNOWING", known)
    assert probe.sent >= (CASES if part == 1 else fit + wrong + known)
    # What was meant to be refused was, whatever else each answer was held against.
    if path != LENIENT:
        assert probe.count("BREAK", 400, 404, 405, 422) == probe.count("BREAK") >= wrong
    assert probe.count("KNOWING", 200) >= known


@pytest.mark.parametrize("path", READ)
def test_a_route_without_a_body_keeps_its_promises(
    path: str, document: dict[str, Any], probe: Probe, tiny: Server
) -> None:
    operation = _find(document, path, tiny)
    _send_covering(operation, probe)
    _send_random(operation, GenerationMode.POSITIVE, probe, "FIT", _FIT if "{" in path else 1)
    assert probe.sent >= (_FIT if "{" in path else 9)


@pytest.mark.parametrize("path", [*TASKS, *READ])
@pytest.mark.parametrize("method", _METHODS)
def test_each_method_is_answered_or_refused(
    path: str, method: str, document: dict[str, Any], tiny: Server
) -> None:
    place = path.replace("{model}", tiny.models[0].name)
    response = tiny.client.request(method, place)
    taken = set(document["paths"][path])
    if method in taken or (method == "head" and "get" in taken):
        assert response.status_code == (400 if method == "post" else 200)
    else:
        assert response.status_code == 405
        assert response.headers["allow"].lower() in taken
    if method == "head":
        assert response.content == b""
        shown = tiny.client.get(place)
        assert response.status_code == shown.status_code
        assert response.headers["content-type"] == shown.headers["content-type"]
    elif response.status_code != 200:
        known = ("method_not_allowed", "invalid_content_type", "invalid_json")
        assert response.json()["error"]["code"] in known


def _find(document: dict[str, Any], path: str, server: Server) -> APIOperation:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=server.url)
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == path:
            return operation
    raise AssertionError(f"the document has no {path}")


def _send_covering(operation: APIOperation, probe: Probe) -> None:
    """Each boundary of each field, other methods, other content types, missing parts."""
    config = operation.schema.config.generation_for(operation=operation, phase="coverage")
    cases = CoverageGenerator(
        operation=operation,
        generation_modes=list(GenerationMode),
        generation_config=config,
        auth_storage=None,
        override=Override(query={}, headers={}, cookies={}, path_parameters={}),
        feedback=NO_FEEDBACK,
    )
    for case in cases:
        assert case.meta is not None
        fits = case.meta.generation.mode.is_positive or operation.path in READ
        probe.send(case, "FIT" if fits and case.method == operation.method.upper() else "BREAK")


def _send_random(
    operation: APIOperation, mode: GenerationMode, probe: Probe, kind: str, count: int
) -> None:
    # The same requests in every run, none of them written to disk.
    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        probe.send(case, kind)

    with warnings.catch_warnings():
        warnings.simplefilter("default")  # of the library, about how it makes data up
        send()


def _check_excuse(error: dict[str, Any], body: Any) -> None:
    """A refusal of what fits the document is for what the document cannot say."""
    if error["code"] not in _BEYOND_THE_DOCUMENT:
        # JSON Schema takes 2.0 for an integer; we do not. And some values have their model's limit.
        ends = ("input should be a valid integer", "exceeded maximum size")
        whole = error["message"].endswith(ends)
        assert error["code"] == "invalid_value", (error, body)
        known = ("dimensions", "prompt_name", "window_overlap", "input_type", "input[")
        # Fields that are for one representation and not for another.
        known += ("top_k", "normalize", "pooling", "windows", "special_tokens")
        # With labels of the caller's own a text alone; without them nothing that is for them.
        known += ("inputs[", "function", "labels", "hypothesis_template", "multi_label")
        known += ("stride", "doc_stride", "layer", "head", "include", "positive", "negative")
        either = error["message"].endswith("one of the two")
        assert whole or either or error["param"].startswith(known), (error, body)


def _add_knowledge(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what a client of the tiny models knows, so that all that fits is taken."""
    known = copy.deepcopy(document)
    schemas = known["components"]["schemas"]
    words = {"type": "string", "pattern": "^(the|fox|dog|rain)( (the|fox|dog|rain)){0,8}$"}
    tokens = {"type": "array", "items": {"enum": list(range(50))}, "minItems": 1, "maxItems": 62}
    masked = {"type": "string", "pattern": r"^(the|fox|\[MASK\]) \[MASK\]( (the|fox|dog)){0,8}$"}
    changes: dict[str, dict[str, Any]] = {
        "EmbeddingsRequest": {
            "input": _one_or_many(words, tokens),
            "dimensions": {"enum": [None, 1, 2, 31, 32]},
            "prompt_name": {"enum": [None, ""]},
            "input_type": {"type": "null"},
            "representation": {"enum": [None, "dense"]},
            "top_k": {"type": "null"},
            # Those of the ids are none.
            "special_tokens": {"const": False},
            # Of token ids there are none.
            "windows": {"type": "null"},
            "window_overlap": {"const": 0},
        },
        "FillMaskRequest": {
            "inputs": _one_or_many(masked),
            "targets": {"enum": [None, ["the"], ["the", "f"]]},
            "top_k": {"enum": [None, 1, 2, 1_000_000]},
        },
        "Pair": {"first": words, "second": words},
        "TextPair": {"text": words, "text_pair": {"anyOf": [words, {"type": "null"}]}},
        "ClassifyRequest": {
            "inputs": _one_or_many(words, {"$ref": "#/components/schemas/TextPair"}),
            "top_k": {"enum": [None, 1, 2, 1_000_000]},
            "prompt_name": {"enum": [None, ""]},
            # None of these models knows what follows from what, so nothing is for such labels.
            "labels": {"type": "null"},
            "hypothesis_template": {"const": TEMPLATE},
            "multi_label": {"const": False},
        },
        "SimilarityRequest": {
            "source": words,
            "targets": {"type": "array", "items": words, "minItems": 1, "maxItems": 8},
            "inputs": {"type": "null"},
        },
        "ScoreRequest": {"inputs": _one_or_many(words)},
        "TokenizeRequest": {"inputs": _one_or_many(words)},
        "DetokenizeRequest": {"ids": _one_or_many(tokens)},
        "RerankRequest": {
            "query": words,
            "documents": {"type": "array", "items": words, "minItems": 1, "maxItems": 8},
            "top_n": {"enum": [None, 1, 100]},
            "top_k": {"enum": [None, 2]},
        },
        "TokenClassifyRequest": {
            "inputs": _one_or_many(words),
            "stride": {"enum": [None]},
        },
        "QuestionInContext": {"question": words, "context": words},
        "QuestionAnsweringRequest": {
            "top_k": {"enum": [1, 5]},
            "max_answer_tokens": {"enum": [1, 15]},
            "doc_stride": {"enum": [None, 1]},
        },
        "AttentionRequest": {
            "inputs": _one_or_many(words, {"$ref": "#/components/schemas/TextPair"}),
            "layer": {"enum": [0, 1]},
            "head": {"enum": [None, 0, 3]},
            "include": {"const": []},
        },
        "WordsRequest": {
            "positive": {"enum": ["king", ["king", "queen"]]},
            "negative": {"enum": [[], "rain", ["rain", "snow"]]},
            "top_k": {"enum": [1, 10, 1000]},
        },
    }
    for name, properties in changes.items():
        schemas[name]["properties"] |= properties
    schemas["EmbeddingsRequest"]["required"].append("special_tokens")
    schemas["WordsRequest"]["required"] = ["positive"]
    schemas["SimilarityRequest"]["required"] = ["source", "targets"]
    for name in (name for name in schemas if name.endswith("Request")):
        properties = schemas[name]["properties"]
        properties["model"] = {"type": "null"}
        if "head" in properties and name != "AttentionRequest":
            properties["head"] = {"type": "null"}
    return known


def _one_or_many(*items: dict[str, Any]) -> dict[str, Any]:
    lists = [{"type": "array", "items": item, "minItems": 1, "maxItems": 8} for item in items]
    return {"anyOf": [*items, *lists]}
