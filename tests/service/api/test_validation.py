"""A mistake is told with what would be right, over real HTTP."""

from typing import Any

import pytest

from tests.helpers.server import Server, check_error


@pytest.mark.parametrize(
    ("path", "body", "param", "remedy"),
    [
        ("/v1/embeddings", {"inputs": "a"}, "inputs", "it takes input, model, overflow"),
        ("/v1/classify", {"input": "a"}, "input", "it takes inputs, model"),
        ("/v1/classify", {"inputs": [{"txt": "a"}]}, "inputs[0].txt", "it takes text, text_pair"),
        ("/v1/classify", {"inputs": [["a", "b"]]}, "inputs[0]", "object with text and text_pair"),
        ("/v1/next-sentence", {"inputs": ["a", "b"]}, "inputs[0]", "with first and second"),
        (
            "/v1/question-answering",
            {"inputs": [{"question": "a", "context": "b", "text": "c"}]},
            "inputs[0].text",
            "it takes question, context",
        ),
        ("/v1/embeddings", {"input": [{"text": "a"}]}, "input[0]", "valid"),
        ("/v1/next-sentence", {"inputs": {"first": "a"}}, "inputs[0].second", "missing"),
        ("/v1/fill-mask", {"inputs": []}, "inputs", "send at least one"),
        ("/v1/fill-mask", [], None, "an object is due here"),
    ],
)
def test_a_body_that_is_not_what_the_route_takes(
    path: str, body: Any, param: str | None, remedy: str, tiny: Server
) -> None:
    error = tiny.post(path, body).json()["error"]
    assert error["param"] == param
    assert remedy in error["message"]


def test_a_method_that_the_path_does_not_take(tiny: Server) -> None:
    response = tiny.client.get("/v1/embeddings")
    assert "it takes POST" in check_error(response, 405, "method_not_allowed", None)


def test_a_task_that_no_route_is_named_after_says_what_it_is(ranking: Server) -> None:
    body = {"query": "a", "documents": ["b"], "model": "tiny-inference"}
    message = ranking.post("/v1/rerank", body).json()["error"]["message"]
    assert "(ranking by vectors, which wants an embed head of dense vectors)" in message
