"""Sparse vectors and vectors for each token, equal to those of models.Pipeline."""

import base64
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sparse_encoder.modules import SpladePooling

from models import Pipeline
from models.heads import SparseVector
from service.answering import answerer
from service.api.openai import representations
from tests.export.test_colbert import FIXED, save
from tests.helpers.fixtures import Export
from tests.helpers.server import Server, check_same, serve
from tests.helpers.store import Store

ROUTE = "/v1/embeddings"
TEXTS = ["the king, of france!", "a", "it is cold in paris, and the sea is far"]
SPARSE = {"representation": "sparse"}
TOKENS = {"representation": "tokens"}


@pytest.fixture(scope="module")
def splade_bundle(
    exported: Export, exports: Store, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    encoder = Transformer(str(exported("bert", "ForMaskedLM").source), transformer_task="fill-mask")
    prompts = {"query": "find the king: ", "document": "it is "}
    model = SparseEncoder(modules=[encoder, SpladePooling("max")], device="cpu", prompts=prompts)
    folder = tmp_path_factory.mktemp("splade") / "saved"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(str(folder), create_model_card=False)
    return exports.export(folder, "splade")


@pytest.fixture(scope="module")
def colbert_bundle(
    exported: Export, exports: Store, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("colbert") / "saved"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(
            exported("bert", "Model").source, folder, MultiVectorMask([","]), query_expansion=FIXED
        )
    return exports.export(folder, "colbert")


@pytest.fixture(scope="module")
def splade(splade_bundle: Path) -> Pipeline:
    return Pipeline.open(splade_bundle)


@pytest.fixture(scope="module")
def colbert(colbert_bundle: Path) -> Pipeline:
    return Pipeline.open(colbert_bundle)


@pytest.fixture(scope="module")
def server(splade_bundle: Path, colbert_bundle: Path, pretraining_bundle: Path) -> Iterator[Server]:
    """Serves a SPLADE, a ColBERT, and a model of dense vectors behind them."""
    with serve(splade_bundle, colbert_bundle, pretraining_bundle) as server:
        yield server


def check_sparse(answer: dict[str, Any], wanted: list[SparseVector]) -> None:
    assert answer["model"] == "splade"
    assert [entry["index"] for entry in answer["data"]] == list(range(len(wanted)))
    for entry, vector in zip(answer["data"], wanted, strict=True):
        assert entry["object"] == "embedding"
        assert entry["embedding"].keys() == {"indices", "values"}
        assert entry["embedding"]["indices"] == vector.token_ids.tolist()
        check_same(entry["embedding"]["values"], vector.weights.tolist())


def test_sparse_vectors_are_those_of_the_pipeline(server: Server, splade: Pipeline) -> None:
    answer = server.answer(ROUTE, {"input": TEXTS, **SPARSE})
    check_sparse(answer, splade.embed_sparse(TEXTS))
    tokens = sum(len(splade.encoder.tokenizer.encode(text).ids) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    for form in ("float", "base64"):
        body = {"input": TEXTS, **SPARSE, "encoding_format": form}
        check_same(server.answer(ROUTE, body), answer)
    for top_k in (1, 3, 10**6):
        found = server.answer(ROUTE, {"input": TEXTS, **SPARSE, "top_k": top_k})
        check_sparse(found, splade.embed_sparse(TEXTS, top_k=top_k))
    query = server.answer(ROUTE, {"input": TEXTS, **SPARSE, "prompt_name": "query"})
    check_sparse(query, splade.embed_sparse(TEXTS, prompt="query"))
    for (vector,), told in zip(
        (splade.embed_sparse([text]) for text in TEXTS),
        server.post("/embed_sparse", {"inputs": TEXTS}).json(),
        strict=True,
    ):
        assert [each["index"] for each in told] == vector.token_ids.tolist()
        check_same([each["value"] for each in told], vector.weights.tolist())
    # So many that they are written off the event loop.
    many = [f"{text} {place}" for place in range(60) for text in TEXTS]
    check_sparse(server.answer(ROUTE, {"input": many, **SPARSE}), splade.embed_sparse(many))


def test_a_role_has_its_prompt_in_sparse_vectors_too(server: Server, splade: Pipeline) -> None:
    for given, name in (
        ("query", "query"),
        ("search_query", "query"),
        ("document", "document"),
        ("search_document", "document"),
    ):
        found = server.answer(ROUTE, {"input": TEXTS, **SPARSE, "input_type": given})
        check_sparse(found, splade.embed_sparse(TEXTS, prompt=name))


def test_vectors_of_tokens_are_those_of_the_pipeline(server: Server, colbert: Pipeline) -> None:
    bodies: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"role": "document"}),
        ({"input_type": "document"}, {"role": "document"}),
        ({"input_type": "search_document"}, {"role": "document"}),
        ({"input_type": "query"}, {"role": "query"}),
        ({"input_type": "search_query"}, {"role": "query"}),
        ({"prompt_name": ""}, {"role": "document", "prompt": ""}),
        ({"prompt_name": "query"}, {"role": "document", "prompt": "query"}),
    ]
    for fields, options in bodies:
        wanted = colbert.embed_tokens(TEXTS, **options)
        answer = server.answer(ROUTE, {"input": TEXTS, **TOKENS, **fields})
        assert answer["model"] == "colbert"
        for entry, rows in zip(answer["data"], wanted, strict=True):
            assert entry.keys() == {"object", "index", "embedding"}
            check_same(np.array(entry["embedding"], np.float32), rows)
        coded = server.answer(
            ROUTE, {"input": TEXTS, **TOKENS, **fields, "encoding_format": "base64"}
        )
        for entry, rows in zip(coded["data"], wanted, strict=True):
            assert entry["shape"] == list(rows.shape)
            read = np.frombuffer(base64.b64decode(entry["embedding"]), "<f4")
            check_same(read.reshape(entry["shape"]), rows)
    many = [f"{text} {place}" for place in range(40) for text in TEXTS]
    answer = server.answer(ROUTE, {"input": many, **TOKENS})
    for entry, rows in zip(answer["data"], colbert.embed_tokens(many), strict=True):
        check_same(np.array(entry["embedding"], np.float32), rows)


def test_what_is_cut_says_so(server: Server, splade: Pipeline, colbert: Pipeline) -> None:
    long = "fox " * 80
    for kind in (SPARSE, TOKENS):
        body = {"input": ["a", long], **kind}
        message = server.refuse(ROUTE, body, 400, "input_too_long", "input[1]")
        assert "this model's maximum context length is 64 tokens" in message
        whole, cut = server.answer(ROUTE, {**body, "overflow": "truncate"})["data"]
        assert "truncated" not in whole
        assert cut["truncated"] is True
        assert 0 < cut["truncated_at"] < len(long)
        server.refuse(ROUTE, {"input": ["a", ""], **kind}, 400, "empty_input", "input[1]")


def test_dense_is_what_it_is_without(server: Server) -> None:
    wanted = server.answer(ROUTE, {"input": TEXTS})
    assert wanted["model"] == "tiny-pretraining"
    for given in ("dense", None):
        check_same(server.answer(ROUTE, {"input": TEXTS, "representation": given}), wanted)


@pytest.mark.parametrize("kind", ["sparse", "tokens"])
@pytest.mark.parametrize(
    "fields",
    [
        {"dimensions": 8},
        {"normalize": True},
        {"normalize": False},
        {"pooling": "mean"},
        {"windows": "mean"},
        {"window_overlap": 3},
        {"special_tokens": False},
        {"top_k": 3},
    ],
    ids=str,
)
def test_what_is_for_others_is_refused_by_its_name(
    kind: str, fields: dict[str, Any], server: Server
) -> None:
    (name,) = fields
    body = {"input": "a", "representation": kind, **fields}
    if (kind, name) == ("sparse", "top_k"):
        server.answer(ROUTE, body)
    else:
        assert kind in server.refuse(ROUTE, body, 400, "invalid_value", name)
    if name not in ("normalize", "window_overlap"):
        server.answer(ROUTE, {**body, name: None})


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"top_k": 3}, "invalid_value", "top_k"),
        ({"top_k": 3, "representation": "dense"}, "invalid_value", "top_k"),
        ({**SPARSE, "top_k": 0}, "invalid_value", "top_k"),
        ({"representation": "binary"}, "invalid_value", "representation"),
        ({**SPARSE, "input": [[2, 5, 3]]}, "invalid_value", "input[0]"),
        ({**TOKENS, "input": ["a", [2, 5, 3]]}, "invalid_value", "input[1]"),
        ({**SPARSE, "model": "colbert"}, "task_unsupported", "model"),
        ({**TOKENS, "model": "splade"}, "task_unsupported", "model"),
        ({**TOKENS, "model": "tiny-pretraining"}, "task_unsupported", "model"),
        ({"model": "splade"}, "task_unsupported", "model"),
        ({**SPARSE, "prompt_name": "nothing"}, "invalid_value", "prompt_name"),
        ({**TOKENS, "prompt_name": "", "input_type": "query"}, "invalid_value", "input_type"),
    ],
    ids=str,
)
def test_what_cannot_be_answered(
    fields: dict[str, Any], code: str, param: str, server: Server
) -> None:
    message = server.refuse(ROUTE, {"input": "a"} | fields, 400, code, param)
    if code == "task_unsupported":
        assert "vectors" in message
        assert "it gives" in message


def test_where_no_model_has_it(tiny: Server) -> None:
    for kind in ("sparse", "tokens"):
        body = {"input": "a", "representation": kind}
        message = tiny.refuse(ROUTE, body, 400, "task_unsupported", "model")
        assert f"no loaded model gives {kind} vectors" in message


def test_answers_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["the " * 40] * 8
    monkeypatch.setattr(answerer, "_MAX_WINDOWS", 2.5)
    message = server.refuse(ROUTE, {"input": texts, **TOKENS}, 400, "input_too_long", "input[3]")
    assert "the vectors of all tokens" in message
    assert server.answer(ROUTE, {"input": texts[:3], **TOKENS})
    monkeypatch.setattr(representations, "_MAX_WEIGHTS", 20)
    message = server.refuse(ROUTE, {"input": texts, **SPARSE}, 400, "invalid_value", "top_k")
    assert "send several requests" in message
    assert server.answer(ROUTE, {"input": texts, **SPARSE, "top_k": 2})
    refused = server.post("/embed_sparse", {"inputs": texts})
    assert (refused.status_code, refused.json()["error"].partition(":")[0]) == (422, "inputs")


def test_openais_client_reads_them(server: Server, splade: Pipeline, colbert: Pipeline) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        # It asks for base64 unless told otherwise.
        sparse = client.embeddings.create(model="splade", input=TEXTS[0], extra_body=SPARSE)
        (vector,) = splade.embed_sparse(TEXTS[:1])
        found: Any = sparse.data[0].embedding
        assert found["indices"] == vector.token_ids.tolist()
        tokens = client.embeddings.create(
            model="colbert", input=TEXTS[0], extra_body={**TOKENS, "input_type": "query"}
        )
        (rows,) = colbert.embed_tokens(TEXTS[:1], role="query")
        shape = tokens.data[0].shape  # type: ignore[attr-defined]
        check_same(np.array(tokens.data[0].embedding).reshape(shape), rows)


def test_the_list_of_models_tells_who_gives_them(server: Server) -> None:
    models = server.client.get("/v1/models").json()["data"]
    given = {
        model["id"]: [head["name"] for head in model["heads"] if head["task"] == "embed"]
        for model in models
    }
    assert given == {"splade": ["sparse"], "colbert": ["tokens"], "tiny-pretraining": [None]}
