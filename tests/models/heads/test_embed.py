"""Embeddings: pooled, cut and normalised as sentence-transformers does it."""

import random
import warnings
from pathlib import Path

import numpy as np
import pytest

from models import Pipeline
from models.errors import CallerError, InvalidValue
from models.heads import EmbedOptions
from models.pipeline import prepare
from models.text.truncation import MAX_WINDOWS
from tests.helpers.checkpoints import EACH_FAMILY
from tests.helpers.fixtures import Export
from tests.helpers.oracle import Exported, pool, write_contexts, write_text, write_texts

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


@pytest.mark.parametrize("family", EACH_FAMILY)
@pytest.mark.parametrize("overlap", [0, 7])
def test_windows_are_those_of_the_tokenizer(exported: Export, family: str, overlap: int) -> None:
    pair = exported(family, "ForMaskedLM")
    texts = [*write_contexts(4, longest=90, seed=81), write_text(random.Random(8), 200), "a"]
    found = pair.pipeline.embed_windows(texts, overlap=overlap, normalize=False)
    for text, answer in zip(texts, found, strict=True):
        wanted = pair.original.tokenizer(
            text,
            truncation=True,
            max_length=pair.original.max_tokens,
            stride=overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        vectors = [pool(pair.original.hidden_of_ids(ids)) for ids in wanted["input_ids"]]
        scale = 2e-5 * max(1.0, float(np.abs(vectors).max()))
        for window, vector, encoding in zip(answer.windows, vectors, wanted.encodings, strict=True):
            np.testing.assert_allclose(window.vector, vector, atol=scale)
            own = [
                offset
                for offset, part in zip(encoding.offsets, encoding.sequence_ids, strict=True)
                if part == 0
            ]
            assert (window.start, window.end) == (own[0][0], own[-1][1])
        # Of some tokenizers blanks are tokens, too.
        assert (answer.windows[0].start, text[answer.windows[-1].end :].strip()) == (0, "")
        mean = np.average(vectors, axis=0, weights=list(map(len, wanted["input_ids"])))
        np.testing.assert_allclose(answer.vector, mean, atol=scale)


def test_windows_are_cut_and_normalised(pretraining: Exported) -> None:
    text = write_text(random.Random(9), 150)
    [raw] = pretraining.pipeline.embed_windows([text], normalize=False)
    [found] = pretraining.pipeline.embed_windows([text], dimensions=5)
    for one, whole in zip(
        [found.vector, *(window.vector for window in found.windows)],
        [raw.vector, *(window.vector for window in raw.windows)],
        strict=True,
    ):
        cut = whole[:5]
        np.testing.assert_allclose(one, cut / np.linalg.norm(cut), atol=1e-6)
    head = pretraining.pipeline.find_head("embed")
    options = EmbedOptions(windows="mean", dimensions=5)
    [mean] = pretraining.pipeline.answer(head, [text], options)
    np.testing.assert_allclose(mean, found.vector, atol=1e-6)
    # A text that is not too long is one window.
    [short] = pretraining.pipeline.embed_windows(["the king"])
    np.testing.assert_allclose(short.vector, pretraining.pipeline.embed(["the king"])[0], atol=1e-6)
    assert [(window.start, window.end) for window in short.windows] == [(0, 8)]


@pytest.mark.parametrize("pooled", ["with the prompt", "without"])
def test_a_prompt_stands_before_each_window(pretraining: Exported, pooled: str) -> None:
    include = pooled != "without"
    pipeline = Pipeline.open(pretraining.bundle, threads=1)
    head = pipeline.find_head("embed")
    prompts = {"find": "find the words: "}
    head.entry = head.entry.model_copy(update={"prompts": prompts, "include_prompt": include})
    text = write_text(random.Random(9), 150)
    [found] = pipeline.embed_windows([text], prompt="find")
    # Each is a text of its own, behind the prompt.
    assert len(found.windows) > 2
    assert (found.windows[0].start, found.windows[-1].end) == (0, len(text))
    parts = [text[window.start : window.end] for window in found.windows]
    wanted = pipeline.embed(parts, prompt="find")
    np.testing.assert_allclose([window.vector for window in found.windows], wanted, atol=1e-5)
    assert all(part == part.strip() for part in parts)
    head.entry = head.entry.model_copy(update={"prompts": {"find": "the king of " * 30}})
    with pytest.raises(CallerError, match="the prompt has 90 tokens and fills all of the 64"):
        pipeline.embed_windows(["a"], prompt="find")


def test_windows_that_cannot_be(pretraining: Exported) -> None:
    pipeline = pretraining.pipeline
    for overlap in (-1, 32):
        with pytest.raises(InvalidValue, match="outside 0 to 31") as caught:
            pipeline.embed_windows(["a"], overlap=overlap)
        assert caught.value.param == "window_overlap"
    head = pipeline.find_head("embed")
    with pytest.raises(InvalidValue, match="only windows overlap"):
        head.resolve(EmbedOptions(window_overlap=3))
    for item, code in (([5, 6], "invalid_value"), ("", "empty_input"), ("\0", "empty_input")):
        with pytest.raises(CallerError) as refused:
            pipeline.answer(head, ["a", item], EmbedOptions(windows="mean"))
        assert (refused.value.code, refused.value.param) == (code, "inputs[1]")
    # Those of one request together are counted, too, where somebody says how many may be.
    texts, options = ["king " * 150] * 3, head.resolve(EmbedOptions(windows="mean"))
    assert len(prepare(head, texts, options, windows=6)) == 3
    with pytest.raises(CallerError, match="more windows than one request may have") as refused:
        prepare(head, texts, options, windows=5)
    assert (refused.value.code, refused.value.param) == ("input_too_long", "inputs[2]")
    many = "king " * (62 * MAX_WINDOWS + 1)
    with pytest.raises(CallerError, match=f"takes {MAX_WINDOWS + 1} windows of 62") as refused:
        pipeline.embed_windows(["a", many])
    assert (refused.value.code, refused.value.param) == ("input_too_long", "inputs[1]")
    job = head.prepare(many, head.resolve(EmbedOptions(windows="each", overflow="truncate")))
    assert job.encoded.truncated_at == 62 * MAX_WINDOWS * len("king ") - 1


def test_a_vector_does_not_hold_on_to_the_batch(pretraining: Exported) -> None:
    """A view of the hidden states would keep those of every text alive, or change with them."""
    head = pretraining.pipeline.find_head("embed")
    for pooling in ("mean", "cls", "max"):
        job = head.prepare("the king", head.resolve(EmbedOptions(pooling)))
        pretraining.pipeline.compute([job])
        assert job.output.base is None or job.output.base.size == job.output.size
