"""Dense after pooling: the vectors are sentence-transformers' own, or the export says why not."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.__main__ import main
from export.errors import ExportError, ProofFailed, SourceError, UnsupportedModel
from export.reading.sentences.modules import list_modules
from export.reading.sentences.projection import read_projection
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from export.writing.verify import verify_against, verify_golden
from models import Pipeline
from models.bundle.bundle import Bundle
from models.errors import BundleDamaged, InvalidValue
from tests.helpers.checkpoints import change_json, make_checkpoint, write_json
from tests.helpers.store import Store

TANH = "torch.nn.modules.activation.Tanh"
RELU = "torch.nn.modules.activation.ReLU"
GELU = "torch.nn.modules.activation.GELU"
IDENTITY = "torch.nn.modules.linear.Identity"
TEXTS = ["the king of france", "a", "it is cold in paris, and the sea is far", "a red house"]


def add_modules(source: Path, *modules: tuple[str, dict[str, Any]], pooling: str = "mean") -> None:
    """Write modules.json: the transformer, a pooling, and these, each with its files."""
    listed: list[tuple[str, dict[str, Any]]] = [("Transformer", {}), ("Pooling", {}), *modules]
    content = []
    for place, (kind, config) in enumerate(listed):
        folder = source / f"{place}_{kind}" if place else source
        name = f"sentence_transformers.models.{kind}"
        content.append(
            {"idx": place, "name": str(place), "path": folder.name if place else "", "type": name}
        )
        if kind == "Pooling":
            modes = {f"pooling_mode_{mode}_tokens": mode == pooling for mode in ("mean", "max")}
            cls = {"pooling_mode_cls_token": pooling == "cls"}
            write_json(folder / "config.json", {"word_embedding_dimension": 32} | modes | cls)
        if kind == "Dense":
            write_dense(folder, seed=place, **config)
        if kind == "Normalize":
            folder.mkdir()
    write_json(source / "modules.json", content)


def write_dense(
    folder: Path, inside: int = 32, outside: int = 32, *, seed: int = 0, **config: Any
) -> None:
    settings = {
        "in_features": inside,
        "out_features": outside,
        "bias": True,
        "activation_function": TANH,
    } | config
    write_json(folder / "config.json", settings)
    source = torch.Generator().manual_seed(seed)
    weights = {"linear.weight": torch.randn(outside, inside, generator=source) / 4}
    if settings["bias"]:
        weights["linear.bias"] = torch.randn(outside, generator=source)
    if config.get("use_residual") and inside != outside:
        weights["residual.weight"] = torch.randn(outside, inside, generator=source) / 4
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "source", "bert", "BertModel")


def ask_sentence_transformers(source: Path, texts: list[str]) -> Any:
    """The library's own vectors, before any normalising at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(source), device="cpu")
        return model.encode(texts)


CHAINS: dict[str, tuple[str, list[tuple[str, dict[str, Any]]], int]] = {
    "one, larger": ("mean", [("Dense", {"outside": 48})], 48),
    "one, smaller, no bias, then normalised": (
        "cls",
        [
            ("Dense", {"outside": 8, "bias": False, "activation_function": IDENTITY}),
            ("Normalize", {}),
        ],
        8,
    ),
    "several, with a norm between": (
        "max",
        [
            ("Normalize", {}),
            ("Dense", {"outside": 64, "activation_function": GELU}),
            ("Normalize", {}),
            ("Dense", {"inside": 64, "outside": 16, "activation_function": RELU}),
            ("Normalize", {}),
        ],
        16,
    ),
    "residual": ("mean", [("Dense", {"use_residual": True})], 32),
    "projected residual": ("mean", [("Dense", {"outside": 12, "use_residual": True})], 12),
}


@pytest.mark.parametrize(
    "chain",
    [
        pytest.param(
            chain, marks=[] if chain.startswith(("one, smaller", "several")) else [pytest.mark.slow]
        )
        for chain in CHAINS
    ],
)
def test_equal_to_sentence_transformers(source: Path, exports: Store, chain: str) -> None:
    pooling, modules, size = CHAINS[chain]
    add_modules(source, *modules, pooling=pooling)
    bundle = Bundle.open(exports.export(source, "bundle"))
    (entry,) = bundle.manifest.heads
    assert (entry.file, entry.dimensions) == ("head.embed.onnx", size)
    assert (entry.pooling, entry.pooling_source) == (pooling, "sentence-transformers")
    pipeline = Pipeline(bundle)
    wanted = ask_sentence_transformers(source, TEXTS)
    unit = modules[-1][0] == "Normalize"
    found = pipeline.embed(TEXTS, normalize=unit)
    assert found.shape == (len(TEXTS), size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    # Alone as in company.
    alone = [pipeline.embed([text], normalize=unit)[0] for text in TEXTS]
    np.testing.assert_allclose(alone, wanted, atol=1e-5)
    # Hidden states, and then vectors.
    of_each = [row.task for row in bundle.manifest.parity if row.engine == "onnxruntime"]
    assert of_each == ["embed", "embed"]
    assert len(verify_golden(pipeline)) == 1
    assert len(verify_against(pipeline, str(source))) == 2


def test_requests(source: Path, tmp_path: Path) -> None:
    add_modules(source, ("Dense", {"outside": 12}))
    result = export_bundle(ExportRequest(str(source), tmp_path / "bundle", pooling="max"))
    assert "know no other" in result.notes[0]
    pipeline = Pipeline.open(tmp_path / "bundle")
    whole = pipeline.embed(TEXTS, normalize=False)
    np.testing.assert_array_equal(pipeline.embed(TEXTS, pooling="mean", normalize=False), whole)
    cut = pipeline.embed(TEXTS, dimensions=5)
    norms = np.linalg.norm(whole[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, whole[:, :5] / norms, atol=1e-6)
    assert pipeline.embed([]).shape == (0, 12)
    with pytest.raises(InvalidValue, match="outside 1 to 12") as caught:
        pipeline.embed(TEXTS, dimensions=13)
    assert caught.value.param == "dimensions"
    with pytest.raises(InvalidValue, match="projects its mean-pooled vectors") as caught:
        pipeline.embed(TEXTS, pooling="cls")
    assert caught.value.param == "pooling"
    # A manifest of another size than the graph's.
    content = change_heads(tmp_path / "bundle", dimensions=11)
    with pytest.raises(BundleDamaged, match="12 numbers, and the manifest has 11 dimensions"):
        Pipeline.open(content)


def change_heads(bundle: Path, **changes: Any) -> Path:
    heads = [head.model_dump(mode="json") | changes for head in Bundle.open(bundle).manifest.heads]
    change_json(bundle / "manifest.json", heads=heads)
    return bundle


def test_the_proof_sees_another_projection(source: Path, exports: Store) -> None:
    add_modules(source, ("Dense", {"outside": 12}))
    bundle = exports.export(source, "bundle")
    weights = load_file(source / "2_Dense" / "model.safetensors")
    weights["linear.weight"][3, 4] += 0.5
    save_file(weights, source / "2_Dense" / "model.safetensors")
    with pytest.raises(ProofFailed, match="the vectors of embed differ"):
        verify_against(Pipeline.open(bundle), str(source))


def test_weights_in_a_pickle(source: Path) -> None:
    add_modules(source, ("Dense", {"outside": 12}))
    folder = source / "2_Dense"
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    projection = read_projection(list_modules(source), 32)
    assert projection is not None
    wanted = torch.tanh(weights["linear.weight"] @ torch.ones(32) + weights["linear.bias"])
    torch.testing.assert_close(projection(torch.ones(1, 32))[0].detach(), wanted)


class Harm:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.mkdir, (self.file,)


def test_a_pickle_that_would_do_harm(source: Path, tmp_path: Path) -> None:
    add_modules(source, ("Dense", {}))
    (source / "2_Dense" / "model.safetensors").unlink()
    file = source / "2_Dense" / "pytorch_model.bin"
    file.write_bytes(pickle.dumps({"linear.weight": Harm(tmp_path / "harm")}))
    assert main([str(source), str(tmp_path / "out")]) == 3
    assert not (tmp_path / "harm").exists()
    pickle.loads(file.read_bytes())
    assert (tmp_path / "harm").exists()


BROKEN: dict[str, tuple[dict[str, Any], type[ExportError], str]] = {
    "another width": ({"inside": 16}, SourceError, "takes vectors of 16, and is given vectors"),
    "no size": ({"in_features": "wide"}, SourceError, "in_features 'wide'"),
    "an absurd size": ({"out_features": 10**12}, SourceError, "out_features 1000000000000"),
    "a size below zero": ({"out_features": -1}, SourceError, "out_features -1"),
    "another size than its weights": ({"out_features": 31}, SourceError, "holds linear.bias [32]"),
    "a bias that is not there": ({"bias": "yes"}, SourceError, "neither true nor false"),
    "code for an activation": (
        {"activation_function": "os.system"},
        UnsupportedModel,
        "activation 'os.system'",
    ),
    "torch's code for an activation": (
        {"activation_function": "torch.hub.load"},
        UnsupportedModel,
        "activation 'torch.hub.load'",
    ),
    "an activation across numbers": (
        {"activation_function": "torch.nn.modules.activation.Softmax"},
        UnsupportedModel,
        "Softmax",
    ),
    "tokens for vectors": (
        {"module_input_name": "token_embeddings"},
        UnsupportedModel,
        "module_input_name 'token_embeddings'",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_computed(source: Path, what: str) -> None:
    config, kind, sentence = BROKEN[what]
    add_modules(source, ("Dense", config))
    with pytest.raises(kind, match="2_Dense") as caught:
        read_projection(list_modules(source), 32)
    assert sentence in caught.value.message


def test_weights_that_are_no_numbers(source: Path) -> None:
    add_modules(source, ("Dense", {}))
    file = source / "2_Dense" / "model.safetensors"
    weights = load_file(file)
    save_file(weights | {"linear.bias": torch.full((32,), torch.nan)}, file)
    with pytest.raises(SourceError, match=r"not all numbers: see linear\.bias"):
        read_projection(list_modules(source), 32)
    save_file(weights | {"linear.bias": torch.zeros(32, dtype=torch.int8)}, file)
    with pytest.raises(UnsupportedModel, match=r"holds linear\.bias as I8"):
        read_projection(list_modules(source), 32)


@pytest.mark.parametrize("kind", ["WeightedLayerPooling", "CNN", "LSTM", "WordWeights"])
def test_modules_that_stay_refused(source: Path, kind: str) -> None:
    add_modules(source, ("Dense", {}), (kind, {}))
    with pytest.raises(UnsupportedModel, match=f"has a {kind} module"):
        read_projection(list_modules(source), 32)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "a/../../b"])
def test_modules_outside_the_checkpoint(source: Path, path: str) -> None:
    add_modules(source)
    kinds = ("Transformer", "Pooling")
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind in kinds]
    write_json(source / "modules.json", modules)
    with pytest.raises(SourceError, match="not inside it"):
        read_projection(list_modules(source), 32)


def test_without_dense_there_is_nothing_to_project(source: Path) -> None:
    assert read_projection(list_modules(source), 32) is None
    add_modules(source, ("Normalize", {}))
    assert read_projection(list_modules(source), 32) is None
