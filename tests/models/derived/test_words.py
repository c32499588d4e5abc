"""Sums of words and what is nearest to them, as the checkpoint's own matrix has it."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from models import Pipeline
from models.errors import BundleDamaged, CallerError, EmptyInput, InvalidValue
from models.pipeline import Pipeline as Opened
from tests.helpers.bundles import sign
from tests.helpers.checkpoints import EACH_FAMILY, change_json
from tests.helpers.fixtures import Export
from tests.helpers.oracle import Exported
from tests.models.derived.test_attention import read_own_bytes

ASKED = (
    (["kitten", "dog"], ["puppy"]),
    (["king"], []),
    (["rain", "snow", "sea"], ["house", "street"]),
    ([], ["walking"]),
)


def compute(
    pipeline: Opened, matrix: NDArray[Any], positive: Sequence[str], negative: Sequence[str]
) -> dict[str, float]:
    """The best cosine of each token's text, of all the vocabulary, by numpy in float64."""
    tokenizer = pipeline.encoder.tokenizer
    matrix = matrix.astype(np.float64)
    total = np.zeros(matrix.shape[1])
    for sign_, words in ((1, positive), (-1, negative)):
        for word in words:
            written = (f" {word}", word)
            found = [tokenizer.encode(text, add_special_tokens=False).ids for text in written]
            ids = found[1] if len(found[0]) > 1 and len(found[1]) == 1 else found[0]
            vector = matrix[ids].mean(axis=0)
            total += sign_ * vector / np.linalg.norm(vector)
    lengths = np.maximum(np.linalg.norm(matrix, axis=1), 1e-30)
    scores = matrix @ total / np.linalg.norm(total) / lengths
    best: dict[str, float] = {}
    for id_, score in enumerate(scores.tolist()):
        text = pipeline.word_vectors._show(id_)
        best[text] = max(score, best.get(text, -1.0))
    return best


def find_matrix(source: Path, size: int) -> NDArray[Any]:
    """The checkpoint's own table of words."""
    weights = load_file(source / "model.safetensors")
    (name,) = (
        name
        for name in weights
        if name.endswith(("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight"))
    )
    assert len(weights[name]) == size
    return weights[name]


def test_no_word_is_looked_up_where_nobody_waits(pretraining: Exported) -> None:
    def check() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        pretraining.pipeline.word_vectors.find_nearest([""], check=check)


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_nearest_are_those_of_the_matrix(family: str, exported: Export) -> None:
    both = exported(family, "ForMaskedLM")
    pipeline = both.pipeline
    matrix = find_matrix(both.source, pipeline.manifest.vocabulary_size)
    for positive, negative in ASKED:
        found = pipeline.words(positive, negative, top_k=20)
        wanted = compute(pipeline, matrix, positive, negative)
        assert len(found) == len({one.token for one in found}) == 20
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True)
        asked = {*positive, *negative}
        for one in found:
            assert one.token not in asked
            assert one.score == pytest.approx(wanted[one.token], abs=1e-5)
        # Whatever is better is special, or of what was asked.
        tokenizer = pipeline.encoder.tokenizer
        pieces = {
            pipeline.word_vectors._show(id_)
            for word in asked
            for id_ in tokenizer.encode(" " + word, add_special_tokens=False).ids
        }
        special = {token.token for token in pipeline.manifest.special_tokens.values()}
        special |= {t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special}
        better = {text for text, score in wanted.items() if score > scores[-1] + 1e-5}
        assert better - {one.token for one in found} <= asked | pieces | special | {""}


def test_a_real_model_knows_what_a_cat_is(minilm_bundle: Path) -> None:
    pipeline = Pipeline.open(minilm_bundle)
    assert {"cat", "cats"} <= {one.token for one in pipeline.words(["kitten", "dog"], ["puppy"])}
    assert pipeline.words(["king", "woman"], ["man"])[0].token == "queen"
    told = [one.token for one in pipeline.words(["the"], top_k=1000)]
    assert len(told) == len(set(told)) == 1000
    assert not [token for token in told if token.startswith("[") and len(token) > 1]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_it_does_not_matter_what_serves(precision: str, exported: Export) -> None:
    both = exported("bert", "ForMaskedLM")
    other = Pipeline.open(both.bundle, precision=precision, threads=1)
    assert other.words(["king"]) == both.pipeline.words(["king"])


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_bundle_of_another_precision_alone(
    precision: str, exported: Export, tmp_path: Path
) -> None:
    both = exported("bert", "ForMaskedLM")
    bundle = tmp_path / "bundle"
    shutil.copytree(both.bundle, bundle)
    change_json(bundle / "manifest.json", precisions=[precision])
    known = {one.token: one.score for one in both.pipeline.words(["king"], top_k=50)}
    for one in Pipeline.open(bundle, threads=1).words(["king"]):
        assert one.score == pytest.approx(known[one.token], abs=2e-2)


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16])
def test_tables_of_every_kind(
    kind: int, pretraining: Exported, pretraining_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(pretraining_bundle, bundle)
    narrow_words(bundle / "trunk.fp32.onnx", kind)
    signed = sign(bundle, bundle / "trunk.fp32.onnx")
    found = Pipeline.open(signed, threads=1, engine="onnxruntime").words(["king"])
    wanted = pretraining.pipeline.words(["king"], top_k=50)
    known = {one.token: one.score for one in wanted}
    for one in found:
        assert one.score == pytest.approx(known[one.token], abs=2e-2)


def narrow_words(file: Path, kind: int) -> None:
    """Store the table of words as numbers of that kind, widened before it is used."""
    model = onnx.load(file)
    (table,) = (each for each in model.graph.initializer if "word_embeddings.weight" in each.name)
    name, numbers = table.name, onnx.numpy_helper.to_array(table)
    halves = (np.ascontiguousarray(numbers).view(np.uint32) >> 16).astype(np.uint16)
    narrow = halves if kind == onnx.TensorProto.BFLOAT16 else numbers.astype(np.float16)
    table.CopyFrom(onnx.TensorProto(name=f"{name}.narrow", data_type=kind, dims=numbers.shape))
    table.raw_data = narrow.tobytes()
    widen = onnx.helper.make_node("Cast", [table.name], [name], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, widen)
    onnx.save(model, file)


@pytest.mark.parametrize(
    ("asked", "error", "param"),
    [
        (([], []), EmptyInput, "positive"),
        ((["king", " "], []), EmptyInput, "positive[1]"),
        ((["king"], [""]), EmptyInput, "negative[0]"),
        ((["king", "\u0e01"], []), InvalidValue, "positive[1]"),
        ((["x" * 1001], []), InvalidValue, "positive[0]"),
        ((["\ud800"], []), InvalidValue, "positive[0]"),
        ((["king"], ["king"]), InvalidValue, "negative"),
    ],
    ids=ascii,
)
def test_refuses_what_are_no_words(
    asked: tuple[list[str], list[str]],
    error: type[CallerError],
    param: str,
    pretraining: Exported,
) -> None:
    with pytest.raises(error) as caught:
        pretraining.pipeline.words(*asked)
    assert caught.value.param == param


@pytest.mark.parametrize("top_k", [0, 1001])
def test_how_many_are_told_has_bounds(top_k: int, pretraining: Exported) -> None:
    with pytest.raises(InvalidValue) as caught:
        pretraining.pipeline.words(["king"], top_k=top_k)
    assert caught.value.param == "top_k"


def test_no_more_are_told_than_there_are(pretraining: Exported) -> None:
    found = pretraining.pipeline.words(["king"], top_k=1000)
    known = pretraining.pipeline.encoder.tokenizer.get_vocab()
    assert 200 < len(found) < len(known)


def test_files_that_change_are_noticed(pretraining_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(pretraining_bundle, bundle)
    pipeline = Pipeline.open(bundle, threads=1)
    wanted = pipeline.words(["king"])
    file = bundle / "trunk.fp32.onnx"
    content = file.read_bytes()
    file.write_bytes(content[:100])
    with pytest.raises(BundleDamaged, match=r"trunk\.fp32\.onnx"):
        pipeline.words(["king"])
    file.write_bytes(content)
    assert pipeline.words(["king"]) == wanted


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_the_table_is_not_copied(minilm_bundle: Path) -> None:
    pipeline = Pipeline.open(minilm_bundle, threads=1)
    table = 30522 * 384 * 4
    before = read_own_bytes()
    pipeline.words(["king"])
    assert read_own_bytes() - before < table / 2
