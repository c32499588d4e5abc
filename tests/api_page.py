"""docs/api.md: every route by example, asked of a running service. `python -m tests.api_page`."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from service.settings import DEFAULT_BUNDLE
from tests.helpers.server import serve

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
_INTRODUCTION = """# Every route by example

Made by `python -m tests.api_page`, which asks a running service; a test holds that it still answers
so. Numbers are rounded, and long lists shortened. The model is lacuna-mini, which `make serve`
serves; where it has no such head, a tiny model with random weights answers, whose scores say
nothing. What each field means stands at `/docs` of a running service. Errors have one shape:
`{"error": {"message", "type", "code", "param"}}`.
"""
# Of an answer, what is another one each time.
_CHANGING = ("id", "created", "fingerprint", "versions", "engine", "engine_reason")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Example:
    """A request, and what it shows."""

    shows: str
    path: str
    body: Any = None


SECTIONS: Sequence[tuple[str, Sequence[Example]]] = (
    (
        "Embeddings",
        (
            Example(
                "OpenAI's route. A text, token ids, or a list of these:",
                "/v1/embeddings",
                {"input": "A cat sits on the mat."},
            ),
            Example(
                "Cut to some dimensions, and not normalised:",
                "/v1/embeddings",
                {"input": ["A cat sits."], "dimensions": 3, "normalize": False},
            ),
            Example(
                "Bare token ids, around which the special ones are put:",
                "/v1/embeddings",
                {"input": [[43, 2214, 1003]], "special_tokens": False},
            ),
        ),
    ),
    (
        "Similarity and ranking",
        (
            Example(
                "Of a source with targets:",
                "/v1/similarity",
                {"source": "A cat sits on the mat.", "targets": ["A dog sleeps.", "Shares fell."]},
            ),
            Example(
                "Of all pairs:",
                "/v1/similarity",
                {"inputs": ["A cat sits on the mat.", "A dog sleeps.", "Shares fell."]},
            ),
            Example(
                "Documents by how well they answer a query, as Cohere and Jina have it:",
                "/v1/rerank",
                {
                    "query": "Where do cats sit?",
                    "documents": ["A cat sits on the mat.", "Shares fell."],
                    "return_documents": True,
                },
            ),
        ),
    ),
    (
        "Fill-mask and next sentence",
        (
            Example(
                "",
                "/v1/fill-mask",
                {"inputs": "She opened the [MASK] and went in.", "top_k": 2},
            ),
            Example(
                "Only some words, scored over the whole vocabulary:",
                "/v1/fill-mask",
                {"inputs": "The river flows into the [MASK].", "targets": ["sea", "sky"]},
            ),
            Example(
                "",
                "/v1/next-sentence",
                {
                    "inputs": {
                        "first": "The river rose overnight.",
                        "second": "The bridge was under water.",
                    }
                },
            ),
        ),
    ),
    (
        "Classification",
        (
            Example(
                "",
                "/v1/classify",
                {"inputs": "A warm and funny film.", "head": "sentiment"},
            ),
            Example(
                "By several heads, from one run of the trunk:",
                "/v1/classify",
                {
                    "inputs": "how do i report a stolen credit card",
                    "head": ["sentiment", "intents"],
                    "top_k": 1,
                },
            ),
            Example(
                "By labels of your own (a model of natural language inference):",
                "/v1/classify",
                {"inputs": "the king of france", "labels": ["politics", "the sea"]},
            ),
        ),
    ),
    (
        "Token classification and question answering",
        (
            Example(
                "",
                "/v1/token-classify",
                {"inputs": "the king of france", "ignore_labels": []},
            ),
            Example(
                "",
                "/v1/question-answering",
                {
                    "inputs": {
                        "question": "who reads",
                        "context": "the queen of england reads a letter",
                    },
                    "top_k": 2,
                },
            ),
        ),
    ),
    (
        "Looking inside",
        (
            Example(
                "How likely a text is to the masked LM, in all and token by token:",
                "/v1/score",
                {"inputs": "He walked home."},
            ),
            Example(
                "How the tokens of a text look at each other, in a head of a layer:",
                "/v1/attention",
                {"inputs": "cats sleep", "layer": 1, "head": 0},
            ),
            Example(
                "Words near to a sum of words, by their vectors without any context:",
                "/v1/words",
                {"positive": ["king", "woman"], "negative": ["man"], "top_k": 3},
            ),
            Example("", "/v1/tokenize", {"inputs": "Cafe\u0301s."}),
            Example("", "/v1/detokenize", {"ids": [2, 43, 2214, 3]}),
        ),
    ),
    (
        "Other servers' words",
        (
            Example(
                "Hugging Face's inference API, by task and model:",
                "/models/lacuna-mini/pipeline/fill-mask",
                {"inputs": "She opened the [MASK] and went in.", "parameters": {"top_k": 1}},
            ),
            Example(
                "text-embeddings-inference:",
                "/embed",
                {"inputs": ["A cat sits.", "Shares fell."]},
            ),
            Example("", "/predict", {"inputs": "A warm and funny film."}),
            Example("", "/rerank", {"query": "cats", "texts": ["A cat sits.", "Shares fell."]}),
            Example("", "/info"),
            Example(
                "Cohere:",
                "/v2/embed",
                {
                    "model": "lacuna-mini",
                    "texts": ["A cat sits."],
                    "input_type": "search_document",
                    "embedding_types": ["float"],
                },
            ),
            Example("KServe:", "/v2/models/lacuna-mini"),
        ),
    ),
    ("Models and health", (Example("", "/v1/models/lacuna-mini"), Example("", "/health/ready"))),
)


def render(client: httpx.Client) -> str:
    """The page, of what the service answers."""
    parts = [_INTRODUCTION]
    for title, examples in SECTIONS:
        parts.append(f"## {title}\n")
        for example in examples:
            parts.extend(_render(client, example))
    return "\n".join(parts)


def _render(client: httpx.Client, example: Example) -> list[str]:
    if example.body is None:
        response = client.get(example.path)
        asked = f"GET {example.path}"
    else:
        response = client.post(example.path, json=example.body)
        asked = f"POST {example.path}\n{json.dumps(example.body, ensure_ascii=False)}"
    if response.status_code != 200:
        raise RuntimeError(f"{example.path}: {response.status_code} {response.text}")
    answer = json.dumps(_shorten(response.json()), ensure_ascii=False)
    told = f"```\n{asked}\n```\n\n```json\n{answer}\n```\n"
    return [f"{example.shows}\n", told] if example.shows else [told]


def _shorten(value: Any, key: str = "") -> Any:
    if key in _CHANGING and not isinstance(value, dict | list):
        return "..." if key != "id" or (isinstance(value, str) and "-" in value) else value
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list):
        numbers = len(value) > 2 * _SHOWN and all(isinstance(part, float) for part in value)
        many = numbers or len(value) > 20
        of_key = key if key == "versions" else ""
        shown = [_shorten(part, of_key) for part in (value[:_SHOWN] if many else value)]
        return [*shown, "..."] if many else shown
    if isinstance(value, dict):
        return {name: _shorten(part, name) for name, part in value.items()}
    return value


def main() -> int:
    """Write the page."""
    from tests.helpers.checkpoints import add_head, make_checkpoint

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        reader = make_checkpoint(folder / "reader", "bert", "BertForQuestionAnswering")
        labels = ["O", "B-PER", "I-PER"]
        add_head(reader, "people", "BertForTokenClassification", seed=3, labels=labels)
        architecture = "BertForSequenceClassification"
        labels = ["contradiction", "neutral", "entailment"]
        inference = make_checkpoint(folder / "inference", "bert", architecture, labels=labels)
        for source, tasks in ((reader, "token-classify,answer"), (inference, "classify")):
            name = f"tiny-{source.name}"
            command = [sys.executable, "-m", "export", str(source), str(folder / name)]
            subprocess.run([*command, "--tasks", tasks], cwd=ROOT, check=True, capture_output=True)
        bundles = (DEFAULT_BUNDLE, folder / "tiny-reader", folder / "tiny-inference")
        server = stack.enter_context(serve(*bundles))
        PAGE.write_text(render(server.client), encoding="utf-8")
    sys.stdout.write(f"written to {PAGE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
