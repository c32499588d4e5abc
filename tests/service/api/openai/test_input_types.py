"""What a text is in a search chooses its prompt, as sentence-transformers chooses it."""

from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from sentence_transformers import SentenceTransformer

from tests.helpers.server import Server, check_same, serve
from tests.service.api.openai.test_embed import change_heads, copy_bundle

ROUTE = "/v1/embeddings"
TEXTS = ["the king of france", "a", "it is cold in paris"]
QUERY, DOCUMENT = "find the king: ", "it is "
WORDS = {
    "query": "encode_query",
    "search_query": "encode_query",
    "document": "encode_document",
    "search_document": "encode_document",
}


@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({"query": QUERY, "document": DOCUMENT}, None),
        ({"document": "", "passage": DOCUMENT, "query": QUERY}, "query"),
        # Without one for the type there is none: the default one may be the other type's.
        ({"query": QUERY}, "query"),
        ({"other": QUERY}, "other"),
        ({}, None),
    ],
    ids=str,
)
def test_the_prompt_is_that_of_sentence_transformers(
    prompts: dict[str, str],
    default: str | None,
    pretraining_bundle: Path,
    pretraining_source: Path,
    tmp_path: Path,
) -> None:
    bundle = copy_bundle(pretraining_bundle, tmp_path)
    change_heads(bundle, "embed", prompts=prompts, default_prompt=default)
    original = SentenceTransformer(
        str(pretraining_source), device="cpu", prompts=prompts, default_prompt_name=default
    )
    options: dict[str, Any] = {"normalize_embeddings": True, "show_progress_bar": False}
    with serve(bundle) as server:
        for given, method in WORDS.items():
            wanted = getattr(original, method)(TEXTS, **options)
            answer = server.answer(ROUTE, {"input": TEXTS, "input_type": given})
            found = [entry["embedding"] for entry in answer["data"]]
            np.testing.assert_allclose(found, wanted, atol=1e-5)
        plain = server.answer(ROUTE, {"input": TEXTS})
        check_same(server.answer(ROUTE, {"input": TEXTS, "input_type": None}), plain)
        wanted = original.encode(TEXTS, **options)
        np.testing.assert_allclose([one["embedding"] for one in plain["data"]], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "chosen"), [(("passage", "corpus"), "passage"), (("corpus", "x"), "corpus")]
)
def test_a_document_may_be_called_otherwise(
    names: tuple[str, ...], chosen: str, pretraining_bundle: Path, tmp_path: Path
) -> None:
    bundle = copy_bundle(pretraining_bundle, tmp_path)
    prompts = {name: f"{place} is " for place, name in enumerate(("query", *names))}
    change_heads(bundle, "embed", prompts=prompts, default_prompt="query")
    with serve(bundle) as server:
        for items in ({"input": TEXTS}, {"input": "fox " * 100, "windows": "mean"}):
            for given, name in (
                ("document", chosen),
                ("passage", chosen),
                ("search_query", "query"),
            ):
                typed = server.answer(ROUTE, {**items, "input_type": given})
                check_same(typed, server.answer(ROUTE, {**items, "prompt_name": name}))


@pytest.mark.parametrize(
    "fields",
    [
        {"input_type": "query", "prompt_name": "query"},
        {"input_type": "query", "prompt_name": ""},
        {"input_type": "classification"},
        {"input_type": ""},
        {"input_type": 1},
    ],
    ids=str,
)
def test_what_is_no_type_is_refused(fields: dict[str, Any], minilm: Server) -> None:
    minilm.refuse(ROUTE, {"input": "a", **fields}, 400, "invalid_value", "input_type")


def test_other_servers_clients_say_it_in_their_words(
    pretraining_bundle: Path, tmp_path: Path
) -> None:
    bundle = copy_bundle(pretraining_bundle, tmp_path)
    change_heads(bundle, "embed", prompts={"query": QUERY, "document": DOCUMENT})
    with serve(bundle) as server:
        for role, jina, weaviate in (
            ("query", "retrieval.query", "query"),
            ("document", "retrieval.passage", "passage"),
        ):
            answer = server.answer(ROUTE, {"input": TEXTS, "input_type": role})
            wanted = [entry["embedding"] for entry in answer["data"]]
            for path, beside in (
                ("/embeddings", {"task": jina, "late_chunking": False}),
                ("/voyage/v1/embeddings", {"input_type": role}),
            ):
                found = server.answer(path, {"input": TEXTS, **beside})["data"]
                check_same([entry["embedding"] for entry in found], wanted)
            body = {"texts": TEXTS, "config": {"task_type": weaviate}}
            check_same(server.answer("/vectors", body)["vectors"], wanted)
        together = server.post("/embeddings", {"input": TEXTS, "late_chunking": True})
        assert together.json()["error"]["param"] == "late_chunking"


def test_openais_client_says_it(minilm: Server) -> None:
    with openai.OpenAI(base_url=f"{minilm.url}/v1", api_key="any", max_retries=0) as client:
        name = "all-MiniLM-L6-v2"
        typed = client.embeddings.create(
            model=name, input="rain", extra_body={"input_type": "search_query"}
        )
        plain = client.embeddings.create(model=name, input="rain")
        check_same(typed.data[0].embedding, plain.data[0].embedding)
