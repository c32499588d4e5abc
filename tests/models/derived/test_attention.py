"""Attention equals that of transformers, layer by layer and head by head, of every flat family."""

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import Pipeline
from models.bundle.bundle import Bundle
from models.derived import attention
from models.errors import (
    BundleDamaged,
    CallerError,
    EmptyInput,
    InputTooLong,
    InvalidValue,
    TaskUnsupported,
)
from models.families import FAMILIES as ROWS
from tests.export.architectures.test_jina_bert import Reference, make_jina
from tests.helpers.bundles import sign
from tests.helpers.checkpoints import FAMILIES, change_json
from tests.helpers.fixtures import Export, MakeFolder
from tests.helpers.oracle import Exported, Original, Text
from tests.helpers.store import Store

# One of each way to compute it; the others take their turn in `make test-slow`.
_STAND_FOR_ALL = ("bert", "roberta", "modernbert", "gte", "deberta-v2")


def _list(layout: str) -> list[Any]:
    return [
        pytest.param(family, marks=[] if family in _STAND_FOR_ALL else [pytest.mark.slow])
        for family in FAMILIES
        if ROWS[family].layout == layout
    ]


TEXTS: list[Text] = [
    "a",
    "the king and the queen of england go to the sea",
    # Longer than the window of a ModernBERT here.
    "Walking, naïvely: 😀 un café! " * 3,
    ("rain", "the dog is black ."),
]


def read_attentions(original: Original, text: Text) -> list[np.ndarray]:
    """transformers' own [heads, T, T], a layer each."""
    with torch.inference_mode():
        output = original.model(**original.tokens(text), output_attentions=True)
    return [layer[0].numpy() for layer in output.attentions]


@pytest.mark.parametrize("family", _list("flat"))
def test_it_is_that_of_transformers(family: str, exported: Export) -> None:
    both = exported(family, "ForMaskedLM")
    for text in TEXTS:
        wanted = read_attentions(both.original, text)
        assert len(wanted) == both.pipeline.manifest.layers
        for layer, looks in enumerate(wanted):
            (found,) = both.pipeline.attention([text], layer=layer, overflow="truncate")
            assert found.attention.shape == looks.shape
            np.testing.assert_allclose(found.attention, looks, atol=1e-5)
            np.testing.assert_allclose(found.attention.sum(-1), 1, atol=1e-6)
            ids = [token.id for token in found.tokens]
            assert ids == both.original.tokens(text)["input_ids"][0].tolist()


@pytest.mark.parametrize("kind", ["plain", "post-norm"])
def test_that_weakens_with_distance(tmp_path: Path, exports: Store, kind: str) -> None:
    source, weights = make_jina(tmp_path / "source", kind)
    pipeline = Pipeline.open(exports.export(source, "jina"), threads=1)
    (found,) = pipeline.attention(["the king and the queen of england go to the sea"])
    ids = [token.id for token in found.tokens]
    reference = Reference(weights, kind)
    wanted = reference.look("encoder.layer.0", reference.embed(ids, [0] * len(ids)))
    np.testing.assert_allclose(found.attention, wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("family", _list("padded"))
def test_a_family_that_computes_it_otherwise_is_refused(family: str, exported: Export) -> None:
    both = exported(family, "ForMaskedLM")
    with pytest.raises(TaskUnsupported, match=family) as caught:
        both.pipeline.attention(["rain"])
    assert caught.value.param == "model"


def test_a_head_is_one_of_all(pretraining: Exported) -> None:
    pipeline = pretraining.pipeline
    (whole,) = pipeline.attention([TEXTS[1]], layer=1)
    assert whole.q is None
    assert whole.k is None
    for head, looks in enumerate(whole.attention):
        (found,) = pipeline.attention([TEXTS[1]], layer=1, head=head, include=["q", "k"])
        np.testing.assert_array_equal(found.attention, looks[None])
        # It follows from the queries and keys beside it: a text alone has no mask.
        assert found.q is not None
        assert found.k is not None
        assert found.q.shape == found.k.shape == (len(found.tokens), 8)
        powers = np.exp(found.q @ found.k.T / np.sqrt(8))
        np.testing.assert_allclose(looks, powers / powers.sum(-1, keepdims=True), atol=1e-6)
    (one,) = pipeline.attention([TEXTS[1]], layer=1, head=0, include=["k"])
    assert one.q is None
    assert one.k is not None


def test_tokens_say_where_they_stand(exported: Export) -> None:
    text = "The  king's naïve 😀 café [MASK]"
    for family in ("bert", "roberta", "xlm-roberta", "modernbert"):
        (found,) = exported(family, "ForMaskedLM").pipeline.attention([text])
        first, *inside, last = found.tokens
        for token in (first, last):
            assert token.special
            assert (token.start, token.end) == (None, None)
            assert token.text
        spans = [(token.start or 0, token.end or 0) for token in inside]
        assert spans == sorted(spans)
        covered = {place for start, end in spans for place in range(start, end)}
        assert {place for place, sign in enumerate(text) if sign != " "} <= covered
        for token, (start, end) in zip(inside, spans, strict=True):
            assert not token.special
            assert token.text == text[start:end]
            assert token.text == token.text.strip() or not token.text.strip()


def test_each_text_of_a_pair_counts_its_own_characters(pretraining: Exported) -> None:
    (found,) = pretraining.pipeline.attention([("the king", "a queen")])
    assert [(token.text, token.start, token.end) for token in found.tokens] == [
        ("[CLS]", None, None),
        ("the", 0, 3),
        ("king", 4, 8),
        ("[SEP]", None, None),
        ("a", 0, 1),
        ("queen", 2, 7),
        ("[SEP]", None, None),
    ]


def test_long_texts_are_refused_or_cut(pretraining: Exported) -> None:
    pipeline, text = pretraining.pipeline, "river " * 20
    with pytest.raises(InputTooLong, match=r"22 tokens.* 10 at most \(max_tokens\)"):
        pipeline.attention([text], max_tokens=10)
    (cut,) = pipeline.attention([text], max_tokens=10, overflow="truncate")
    assert cut.attention.shape == (4, 10, 10)
    assert cut.encoded.truncated_at == 8 * len("river ") - 1
    (left,) = pipeline.attention([text], max_tokens=10, overflow="truncate", truncation_side="left")
    assert left.tokens[1].start == 12 * len("river ")
    # The model's own length is told of first.
    with pytest.raises(InputTooLong, match="maximum context length is 64"):
        pipeline.attention(["river " * 100], max_tokens=10)


@pytest.mark.parametrize(
    ("options", "error", "param"),
    [
        ({"layer": 2}, InvalidValue, "layer"),
        ({"layer": -1}, InvalidValue, "layer"),
        ({"head": 4}, InvalidValue, "head"),
        ({"head": -1}, InvalidValue, "head"),
        ({"include": ["q"]}, InvalidValue, "include"),
        ({"include": ["v"], "head": 0}, InvalidValue, "include"),
    ],
    ids=str,
)
def test_refuses_what_there_is_not(
    options: dict[str, Any], error: type[CallerError], param: str, pretraining: Exported
) -> None:
    with pytest.raises(error) as caught:
        pretraining.pipeline.attention(["rain"], **options)
    assert caught.value.param == param


def test_an_empty_text(pretraining: Exported) -> None:
    with pytest.raises(EmptyInput):
        pretraining.pipeline.attention([" "])


def test_a_bundle_without_fp32(exported: Export, make_folder: MakeFolder) -> None:
    bundle = make_folder("fp16") / "bundle"
    shutil.copytree(exported("bert", "ForMaskedLM").bundle, bundle)
    change_json(bundle / "manifest.json", precisions=["fp16"])
    pipeline = Pipeline.open(bundle, threads=1)
    with pytest.raises(TaskUnsupported, match="fp32"):
        pipeline.attention(["rain"])


def test_another_precision_shows_that_of_fp32(exported: Export) -> None:
    both = exported("bert", "ForMaskedLM")
    other = Pipeline.open(both.bundle, precision="int8", threads=1)
    (found,), (wanted,) = (each.attention([TEXTS[1]], layer=1) for each in (other, both.pipeline))
    np.testing.assert_array_equal(found.attention, wanted.attention)


def test_nothing_is_opened_before_it_is_asked(pretraining_bundle: Path) -> None:
    pipeline = Pipeline.open(pretraining_bundle, threads=1)
    assert pipeline.lens._view is None
    pipeline.attention(["rain"])
    first = pipeline.lens._view
    pipeline.attention(["snow"])
    assert pipeline.lens._view is first
    # One layer at a time.
    pipeline.attention(["snow"], layer=1)
    assert pipeline.lens._view is not first


def test_it_may_be_asked_from_many_threads(pretraining_bundle: Path) -> None:
    pipeline = Pipeline.open(pretraining_bundle, threads=1)
    wanted = [pipeline.attention([TEXTS[1]], layer=layer)[0].attention for layer in (0, 1)]
    pipeline.reopen()
    wrong: list[int] = []

    def ask(layer: int) -> None:
        for _ in range(20):
            (found,) = pipeline.attention([TEXTS[1]], layer=layer)
            if not np.array_equal(found.attention, wanted[layer]):
                wrong.append(layer)

    threads = [threading.Thread(target=ask, args=[place % 2]) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_files_that_change_are_noticed(pretraining_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(pretraining_bundle, bundle)
    pipeline = Pipeline.open(bundle, threads=1)
    (wanted,) = pipeline.attention(["rain"])
    file = bundle / "trunk.fp32.onnx"
    content = file.read_bytes()
    # Shorter while it is mapped: reading what was there would end the process.
    file.write_bytes(content[:100])
    with pytest.raises(BundleDamaged, match=r"trunk\.fp32\.onnx"):
        pipeline.attention(["rain"])
    file.write_bytes(content)
    (found,) = pipeline.attention(["rain"])
    np.testing.assert_array_equal(found.attention, wanted.attention)
    # Another one in its place: what is open stays, and another layer of it is not opened.
    (tmp_path / "other").write_bytes(content[:100])
    (tmp_path / "other").replace(file)
    (found,) = pipeline.attention(["rain"])
    np.testing.assert_array_equal(found.attention, wanted.attention)
    with pytest.raises(BundleDamaged, match=r"trunk\.fp32\.onnx"):
        pipeline.attention(["rain"], layer=1)


def test_a_graph_without_attention_is_refused(pretraining_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(pretraining_bundle, bundle)
    change_json(bundle / "manifest.json", layers=3)
    pipeline = Pipeline(Bundle.open(sign(bundle, bundle / "tokenizer.json")), threads=1)
    with pytest.raises(TaskUnsupported, match="no attention that can be followed"):
        pipeline.attention(["rain"], layer=2)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_it_costs_no_second_copy_of_the_weights(minilm_bundle: Path) -> None:
    pipeline = Pipeline.open(minilm_bundle, threads=1)
    text = "river " * 200
    weights = (minilm_bundle / "trunk.fp32.onnx").stat().st_size
    before = read_own_bytes()
    pipeline.attention([text], layer=5, head=0)
    assert weights > 80e6
    assert read_own_bytes() - before < weights / 4


def read_own_bytes() -> int:
    """What this process has of its own, which is mapped from no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def test_the_bound_is_the_settings() -> None:
    assert attention.MAX_ATTENTION_TOKENS == 256
