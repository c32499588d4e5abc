"""Voyage AI's routes below their own base."""

from base64 import b64decode
from typing import Any

import numpy as np
import pytest

from tests.helpers.server import Server, check_same

DOCUMENTS = ["the sea is cold", "the king of france", "a red house"]
RERANK: dict[str, Any] = {
    "query": "who is the king",
    "documents": DOCUMENTS,
    "model": "tiny-ranker",
    "top_k": None,
    "truncation": True,
}


def test_ranking_is_called_data(ranking: Server) -> None:
    body = {"query": RERANK["query"], "documents": DOCUMENTS}
    wanted = ranking.answer("/v1/rerank", body)
    found = ranking.answer("/voyage/v1/rerank", RERANK)
    assert found.keys() == {"object", "data", "model", "usage"}
    check_same(found["data"], wanted["results"])
    assert found["usage"] == {"total_tokens": wanted["usage"]["total_tokens"]}
    told = ranking.answer("/voyage/v1/rerank", RERANK | {"top_k": 1, "return_documents": True})
    (first,) = told["data"]
    assert first["document"] == DOCUMENTS[first["index"]]


def test_embeddings(tiny: Server) -> None:
    texts = ["rain", "sea"]
    wanted = tiny.answer("/v1/embeddings", {"input": texts, "input_type": "document"})
    body = {"input": texts, "model": "tiny-pretraining", "input_type": "document"}
    body |= {"truncation": True, "output_dtype": None, "output_dimension": None}
    check_same(tiny.answer("/voyage/v1/embeddings", body), wanted)
    packed = tiny.answer("/voyage/v1/embeddings", body | {"encoding_format": "base64"})["data"]
    for entry, other in zip(packed, wanted["data"], strict=True):
        vector = np.frombuffer(b64decode(entry["embedding"]), np.float32)
        np.testing.assert_allclose(vector, other["embedding"], atol=1e-6)
    few = tiny.answer("/voyage/v1/embeddings", {"input": "rain", "output_dimension": 4})["data"]
    assert len(few[0]["embedding"]) == 4


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("rerank", RERANK | {"documents": []}, "documents"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": ["rain", ""]}, "input[1]"),
        ("embeddings", {"input": "river " * 80, "truncation": False}, "input[0]"),
        ("embeddings", {"input": "rain", "output_dtype": "int8"}, "output_dtype"),
        ("embeddings", {"input": "rain", "output_dimension": 0}, "output_dimension"),
    ],
    ids=str,
)
def test_errors(path: str, body: dict[str, Any], param: str, ranking: Server) -> None:
    response = ranking.post(f"/voyage/v1/{path}", body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert response.json()["detail"] == response.json()["error"]["message"]
