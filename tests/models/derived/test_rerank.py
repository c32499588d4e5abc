"""Reranking: the score of a cross-encoder as its library gives it, and vectors in their roles."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from models import Pipeline
from models.derived.retrieve import RetrieveOptions
from models.errors import InvalidValue, TaskUnsupported
from tests.helpers.checkpoints import change_json, make_checkpoint
from tests.helpers.fixtures import MakeFolder
from tests.helpers.store import Store

QUERY = "who is the king of france"
DOCUMENTS = ["the king of france is cold", "the sea", "a red house, a white horse"]


@pytest.mark.parametrize("activation", [None, "torch.nn.modules.linear.Identity"])
def test_a_cross_encoder_gives_its_own_score(
    activation: str | None, make_folder: MakeFolder, exports: Store
) -> None:
    source = make_checkpoint(
        make_folder("ranker"), "bert", "BertForSequenceClassification", labels=["LABEL_0"]
    )
    if activation is not None:
        settings = {"activation_fn": activation, "version": "6.2.0"}
        change_json(source / "config.json", sentence_transformers=settings)
    pipeline = Pipeline.open(exports.export(source, "ranker"))
    wanted = CrossEncoder(str(source), device="cpu").predict(
        [(QUERY, document) for document in DOCUMENTS]
    )
    np.testing.assert_allclose(pipeline.rerank(QUERY, DOCUMENTS), wanted, atol=2e-5)
    raw = pipeline.rerank(QUERY, DOCUMENTS, function="none")
    shown = raw if activation else torch.sigmoid(torch.tensor(raw)).numpy()
    np.testing.assert_allclose(shown, wanted, atol=2e-5)


def test_other_classifiers_rank_nothing(classifier_pipeline: Pipeline) -> None:
    with pytest.raises(TaskUnsupported, match="of one label, as cross-encoders have"):
        classifier_pipeline.rerank(QUERY, DOCUMENTS)


@pytest.mark.parametrize(
    "prompts",
    [
        {"query": "find the king: ", "document": "the house "},
        {"query": "find the king: ", "passage": "the sea "},
        {"query": "find the king: "},
        {"other": "the "},
    ],
    ids=str,
)
def test_queries_and_documents_have_prompts_of_their_own(
    prompts: dict[str, str], make_folder: MakeFolder, exports: Store, tmp_path: Path
) -> None:
    source = make_checkpoint(make_folder("retriever"), "bert", "BertModel")
    modules: list[Any] = [Transformer(str(source)), Pooling(32)]
    original = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    original.save(str(tmp_path / "saved"))
    pipeline = Pipeline.open(exports.export(tmp_path / "saved", "retriever"))
    items = [("query", QUERY), *(("document", document) for document in DOCUMENTS)]
    options = RetrieveOptions(normalize=False)
    found = pipeline.answer(pipeline.find_head("retrieve"), items, options)
    np.testing.assert_allclose(found[0], original.encode_query(QUERY), atol=1e-5)
    np.testing.assert_allclose(found[1:], original.encode_document(DOCUMENTS), atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 3, 5, 40])
def test_of_documents_the_first_tokens_are_read(tokens: int, ranker_bundle: Path) -> None:
    pipeline = Pipeline.open(ranker_bundle)
    query = " ".join([QUERY] * 2)
    found = pipeline.rerank(query, DOCUMENTS, document_tokens=tokens)
    cut = []
    for document in DOCUMENTS:
        encoding = pipeline.encoder.tokenize(document)
        end = encoding.offsets[min(tokens, len(encoding)) - 1][1]
        assert len(pipeline.encoder.tokenize(document[:end])) == min(tokens, len(encoding))
        cut.append(document[:end])
    np.testing.assert_allclose(found, pipeline.rerank(query, cut), atol=1e-6)


def test_documents_of_no_tokens_are_refused(ranker_bundle: Path) -> None:
    with pytest.raises(InvalidValue, match="not at least 1"):
        Pipeline.open(ranker_bundle).rerank(QUERY, DOCUMENTS, document_tokens=0)


def test_similarity_is_that_of_the_vectors(pretraining_bundle: Path) -> None:
    pipeline = Pipeline.open(pretraining_bundle)
    texts = [QUERY, *DOCUMENTS]
    vectors = pipeline.embed(texts).astype(np.float64)
    wanted = vectors @ vectors.T
    found = pipeline.similarities(texts)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.diagonal(found).tolist() == [1.0] * 4
    np.testing.assert_allclose(pipeline.similarity(QUERY, DOCUMENTS), wanted[0, 1:], atol=1e-6)
