"""What the service's own routes answer: the measure of what other clients are told.

Nothing but Python's library, since this runs in the clients' virtual environment.
"""

import json
import math
import sys
import urllib.request
from typing import Any

URL, KEY = sys.argv[1:3]
MODEL, READER, INFERENCE, RANKER = "lacuna-mini", "tiny-reader", "tiny-inference", "tiny-ranker"
TEXTS = ["A cat sits on the mat.", "The river rose overnight."]
LONG = "the river rose overnight " * 100


def ask(path: str, body: Any) -> Any:
    """The answer of a route of our own."""
    request = urllib.request.Request(
        URL + path,
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {KEY}"},
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def embed(texts: list[str]) -> list[list[float]]:
    """The vectors of texts."""
    answer = ask("/v1/embeddings", {"input": texts, "overflow": "truncate"})
    return [entry["embedding"] for entry in answer["data"]]


def classify(text: Any, model: str = MODEL) -> list[dict[str, Any]]:
    """The labels of a text."""
    labels: list[dict[str, Any]] = ask("/v1/classify", {"inputs": text, "model": model})["results"][
        0
    ]["labels"]
    return labels


def rank(query: str, documents: list[str], model: str = RANKER) -> list[tuple[int, float]]:
    """Places and scores of documents, best first."""
    body = {"query": query, "documents": documents, "model": model}
    return [(each["index"], each["relevance_score"]) for each in ask("/v1/rerank", body)["results"]]


def check(found: Any, wanted: Any) -> None:
    """Fail unless they are the same, numbers to within rounding."""
    if isinstance(wanted, float):
        assert math.isclose(found, wanted, abs_tol=1e-4), (found, wanted)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted), (found, wanted)
        for one, other in zip(found, wanted, strict=True):
            check(one, other)
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), (found, wanted)
        for name, value in wanted.items():
            check(found[name], value)
    else:
        assert found == wanted, (found, wanted)


def raises(kind: Any, function: Any, *words: str) -> None:
    """Fail unless it raises that, with these words for people."""
    try:
        function()
    except kind as error:
        for word in words:
            assert word in str(error), error
    else:
        raise AssertionError(f"{kind} was not raised")
