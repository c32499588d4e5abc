"""Embeddings: pooled, cut and normalised as sentence-transformers does it."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from models import Pipeline
from models.errors import InvalidValue
from tests.helpers.checkpoints import EACH_FAMILY
from tests.helpers.fixtures import Export
from tests.helpers.oracle import Exported, pool, write_texts

SENTENCES = [
    "The cat sits outside.",
    "A man is playing guitar, and a woman watches TV.",
    "The new movie is awesome!",
    "Le café était fermé 😀",
    "short",
    "word " * 400,
]


@pytest.mark.parametrize("family", EACH_FAMILY)
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_poolings(exported: Export, family: str, pooling: str) -> None:
    pair = exported(family, "ForMaskedLM")
    texts = write_texts(16, seed=5)
    raw = np.stack([pool(pair.original.hidden(text), pooling) for text in texts])
    found = pair.pipeline.embed(texts, pooling=pooling, normalize=False, overflow="truncate")  # type: ignore[arg-type]
    # Rounding grows with the values: MobileBERT has no norms.
    np.testing.assert_allclose(found, raw, atol=2e-5 * max(1.0, float(np.abs(raw).max())))
    found = pair.pipeline.embed(texts, pooling=pooling, overflow="truncate")  # type: ignore[arg-type]
    np.testing.assert_allclose(found, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)
    assert found.dtype == np.float32


def test_equal_to_sentence_transformers(minilm_source: Path, minilm_bundle: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(minilm_source), device="cpu")
        wanted = model.encode(SENTENCES, normalize_embeddings=True)
    pipeline = Pipeline.open(minilm_bundle)
    assert pipeline.manifest.max_tokens == model.max_seq_length == 256
    found = pipeline.embed(SENTENCES, overflow="truncate")
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    # They mean something: a paraphrase is nearer than a stranger.
    near, same, far = pipeline.embed(["A dog runs.", "A puppy is running.", "Stocks fell 3%."])
    assert near @ same > 0.6
    assert near @ far < 0.2


def test_dimensions_are_cut_before_normalising(pretraining: Exported) -> None:
    whole = pretraining.pipeline.embed(["the king", "a cat"], normalize=False)
    for size in (1, 7, 32):
        found = pretraining.pipeline.embed(["the king", "a cat"], dimensions=size)
        cut = whole[:, :size]
        wanted = cut / np.linalg.norm(cut, axis=1, keepdims=True)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        assert found.shape == (2, size)
        raw = pretraining.pipeline.embed(["the king", "a cat"], dimensions=size, normalize=False)
        np.testing.assert_allclose(raw, cut, atol=1e-6)


@pytest.mark.parametrize("size", [0, -1, 33, 10**9])
def test_dimensions_it_does_not_have(pretraining: Exported, size: int) -> None:
    with pytest.raises(InvalidValue, match="outside 1 to 32") as caught:
        pretraining.pipeline.embed(["a"], dimensions=size)
    assert caught.value.param == "dimensions"


def test_token_ids_are_used_as_given(pretraining: Exported) -> None:
    pipeline = pretraining.pipeline
    ids = pretraining.original.tokens("the king of france")["input_ids"][0].tolist()
    from_text, from_ids, bare = pipeline.embed(["the king of france", ids, ids[1:-1]])
    np.testing.assert_allclose(from_text, from_ids, atol=1e-6)
    assert np.abs(from_text - bare).max() > 1e-2


def test_a_vector_does_not_hold_on_to_the_batch(pretraining: Exported) -> None:
    """A view of the hidden states would keep those of every text alive, or change with them."""
    head = pretraining.pipeline.find_head("embed")
    from models.heads import EmbedOptions

    for pooling in ("mean", "cls", "max"):
        job = head.prepare("the king", head.resolve(EmbedOptions(pooling)))
        pretraining.pipeline.compute([job])
        assert job.output.base is None or job.output.base.size == job.output.size
