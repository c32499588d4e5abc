"""jina-embeddings-v2 equals a reference written from what its code computes, of both kinds."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from export.architectures.jina_bert import list_slopes
from export.errors import UnsupportedModel
from export.reading.checkpoint import load_checkpoint
from models import Pipeline
from models.bundle.bundle import Bundle
from tests.export.architectures.checks import (
    check_labels,
    check_masks,
    check_vectors,
    randomize,
    save_tokenizer,
)
from tests.helpers.checkpoints import change_json, make_tokenizer, write_json
from tests.helpers.fixtures import EVERY_PRECISION
from tests.helpers.results import record
from tests.helpers.store import Store

LAYERS, HIDDEN, INNER, HEADS, LONGEST = 2, 36, 48, 6, 96
CODES = {
    "plain": "jinaai/jina-bert-implementation",
    "post-norm": "jinaai/jina-bert-v2-qk-post-norm",
}


def make_shapes(vocabulary: int, kind: str, head: str | None) -> dict[str, tuple[int, ...]]:
    norms = ["embeddings.LayerNorm"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocabulary, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
    }
    linears: dict[str, tuple[int, int]] = {"pooler.dense": (HIDDEN, HIDDEN)}
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        linears |= {
            f"{layer}.attention.self.{side}": (HIDDEN, HIDDEN) for side in ("query", "key", "value")
        }
        linears[f"{layer}.attention.output.dense"] = (HIDDEN, HIDDEN)
        norms.append(f"{layer}.attention.output.LayerNorm")
        if kind == "plain":
            shapes[f"{layer}.mlp.gated_layers.weight"] = (2 * INNER, HIDDEN)
            linears[f"{layer}.mlp.wo"] = (HIDDEN, INNER)
            norms.append(f"{layer}.mlp.layernorm")
        else:
            shapes[f"{layer}.mlp.up_gated_layer.weight"] = (2 * INNER, HIDDEN)
            linears[f"{layer}.mlp.down_layer"] = (HIDDEN, INNER)
            norms += [f"{layer}.layer_norm_1", f"{layer}.layer_norm_2"]
            norms += [f"{layer}.attention.self.layer_norm_{side}" for side in ("q", "k")]
    if head is not None:
        renamed = {f"bert.{name}": shape for name, shape in shapes.items()}
        shapes, norms = renamed, [f"bert.{name}" for name in norms]
        linears = {f"bert.{name}": shape for name, shape in linears.items()}
    if head == "words":
        linears["cls.predictions.transform.dense"] = (HIDDEN, HIDDEN)
        norms.append("cls.predictions.transform.LayerNorm")
        shapes["cls.predictions.bias"] = (vocabulary,)
        del linears["bert.pooler.dense"]
    if head == "labels":
        linears["classifier"] = (3, HIDDEN)
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.{part}": (HIDDEN,) for part in ("weight", "bias")}
    return shapes


class Reference:
    """What its code computes of a text alone, from tensors under its names."""

    def __init__(self, weights: dict[str, torch.Tensor], kind: str, gate: str = "geglu") -> None:
        self.weights = weights
        self.kind = kind
        self.gate = F.gelu if gate == "geglu" else F.relu
        self.prefix = "bert." if "bert.embeddings.word_embeddings.weight" in weights else ""

    def get(self, name: str) -> torch.Tensor:
        return self.weights[self.prefix + name]

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        own = (self.get(f"{name}.{part}") for part in ("weight", "bias"))
        return F.layer_norm(x, (HIDDEN,), *own, eps=1e-12)

    def embed(self, ids: list[int], types: list[int]) -> torch.Tensor:
        words = self.get("embeddings.word_embeddings.weight")[ids]
        segments = self.get("embeddings.token_type_embeddings.weight")[types]
        return self.norm("embeddings.LayerNorm", words + segments)

    def hidden(self, ids: list[int], types: list[int]) -> torch.Tensor:
        x = self.embed(ids, types)
        for number in range(LAYERS):
            layer = f"encoder.layer.{number}"
            x = (
                self.norm(f"{layer}.attention.output.LayerNorm", self.attend(layer, x) + x)
                if (self.kind == "plain")
                else self.attend_twice(layer, x)
            )
            x = self.feed(layer, x)
        return x

    def attend(self, layer: str, x: torch.Tensor) -> torch.Tensor:
        v, size = self.linear(f"{layer}.attention.self.value", x), HIDDEN // HEADS
        mixed = torch.zeros(len(x), HIDDEN)
        for head, looks in enumerate(self.look(layer, x)):
            part = slice(head * size, (head + 1) * size)
            mixed[:, part] = looks @ v[:, part]
        return self.linear(f"{layer}.attention.output.dense", mixed)

    def look(self, layer: str, x: torch.Tensor) -> torch.Tensor:
        """What each token looks at, [heads, T, T]."""
        own = f"{layer}.attention.self"
        q, k = (self.linear(f"{own}.{side}", x) for side in ("query", "key"))
        if self.kind != "plain":
            q, k = self.norm(f"{own}.layer_norm_q", q), self.norm(f"{own}.layer_norm_k", k)
        length, size = len(x), HIDDEN // HEADS
        # Six heads: those of four, and the first and third of eight.
        slopes = [2 ** (-8 * h / 4) for h in (1, 2, 3, 4)] + [2 ** (-8 * h / 8) for h in (1, 3)]
        looks = torch.zeros(HEADS, length, length)
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            for i in range(length):
                for j in range(length):
                    scores[i, j] -= slopes[head] * abs(i - j)
            looks[head] = scores.softmax(-1)
        return looks

    def attend_twice(self, layer: str, x: torch.Tensor) -> torch.Tensor:
        """Normed where attention ends, and again where the layer adds it."""
        inner = self.norm(f"{layer}.attention.output.LayerNorm", self.attend(layer, x) + x)
        return self.norm(f"{layer}.layer_norm_1", inner + x)

    def feed(self, layer: str, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "plain":
            both = x @ self.get(f"{layer}.mlp.gated_layers.weight").T
            inner = self.gate(both[:, :INNER]) * both[:, INNER:]
            return self.norm(f"{layer}.mlp.layernorm", self.linear(f"{layer}.mlp.wo", inner) + x)
        both = x @ self.get(f"{layer}.mlp.up_gated_layer.weight").T
        inner = both[:, :INNER] * self.gate(both[:, INNER:])
        return self.norm(f"{layer}.layer_norm_2", self.linear(f"{layer}.mlp.down_layer", inner) + x)

    def words(self, ids: list[int], types: list[int]) -> torch.Tensor:
        w, x = self.weights, self.hidden(ids, types)
        name = "cls.predictions.transform"
        x = F.gelu(x @ w[f"{name}.dense.weight"].T + w[f"{name}.dense.bias"])
        own = (w[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        x = F.layer_norm(x, (HIDDEN,), *own, eps=1e-12)
        return x @ self.get("embeddings.word_embeddings.weight").T + w["cls.predictions.bias"]

    def labels(self, ids: list[int], types: list[int]) -> torch.Tensor:
        first = torch.tanh(self.linear("pooler.dense", self.hidden(ids, types)[:1]))[0]
        return self.weights["classifier.weight"] @ first + self.weights["classifier.bias"]


def make_jina(
    folder: Path, kind: str = "plain", head: str | None = None, **config: Any
) -> tuple[Path, dict[str, torch.Tensor]]:
    """Write a tiny checkpoint as they are published; its folder and its weights."""
    tokenizer = make_tokenizer("bert")
    vocabulary = (len(tokenizer) // 8 + 1) * 8
    weights = randomize(make_shapes(vocabulary, kind, head))
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(tokenizer, folder, LONGEST)
    ending = {None: "Model", "words": "ForMaskedLM", "labels": "ForSequenceClassification"}[head]
    named = f"{CODES[kind]}--modeling_bert.JinaBert{ending}"
    labels = {"id2label": dict(enumerate("abc"))} if head == "labels" else {}
    content = {
        "_name_or_path": CODES[kind],
        "model_type": "bert",
        "architectures": [f"JinaBert{ending}"],
        "auto_map": {
            "AutoConfig": f"{CODES[kind]}--configuration_bert.JinaBertConfig",
            "AutoModel": named,
        },
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
        "emb_pooler": "mean",
        "attn_implementation": None,
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": LONGEST,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 0,
    }
    write_json(folder / "config.json", content | labels | config)
    return folder, weights


@pytest.mark.parametrize(
    ("kind", "gate"), [("plain", "geglu"), ("plain", "reglu"), ("post-norm", "geglu")]
)
def test_vectors(tmp_path: Path, exports: Store, kind: str, gate: str) -> None:
    source, weights = make_jina(tmp_path / "source", kind, feed_forward_type=gate)
    bundle = Bundle.open(exports.export(source, "jina"))
    manifest = bundle.manifest
    assert (manifest.family, manifest.tasks, manifest.segments) == ("jina_bert", ("embed",), True)
    assert (manifest.max_tokens, manifest.fused_attention) == (LONGEST, LAYERS)
    check_vectors(Pipeline(bundle, threads=1), Reference(weights, kind, gate).hidden)


def test_words(tmp_path: Path, exports: Store) -> None:
    source, weights = make_jina(tmp_path / "source", head="words")
    bundle = Bundle.open(exports.export(source, "jina", **EVERY_PRECISION))
    record(bundle.manifest, "ForMaskedLM")
    reference = Reference(weights, "plain")
    check_vectors(Pipeline(bundle, threads=1), reference.hidden)
    check_masks(Pipeline(bundle, threads=1), reference.words)


@pytest.mark.slow
def test_labels(tmp_path: Path, exports: Store) -> None:
    source, weights = make_jina(tmp_path / "source", head="labels")
    bundle = Bundle.open(exports.export(source, "jina", **EVERY_PRECISION))
    record(bundle.manifest, "ForSequenceClassification")
    check_labels(Pipeline(bundle, threads=1), Reference(weights, "plain").labels)


def test_slopes() -> None:
    """As the paper has them for 8 heads, and its code for 12."""
    assert list_slopes(8) == [2.0**-place for place in range(1, 9)]
    assert list_slopes(12) == [*list_slopes(8), *(2.0**-place for place in (0.5, 1.5, 2.5, 3.5))]


@pytest.mark.parametrize("named", ["BertModel", None])
def test_other_names_of_it(tmp_path: Path, named: str | None) -> None:
    source, _ = make_jina(tmp_path / "source")
    change_json(source / "config.json", architectures=named and [named])
    assert load_checkpoint(str(source)).architecture == "JinaBertModel"


def test_what_is_refused(tmp_path: Path) -> None:
    source, weights = make_jina(tmp_path / "source", feed_forward_type="original")
    with pytest.raises(UnsupportedModel, match="has feed_forward_type 'original'"):
        load_checkpoint(str(source))
    change_json(source / "config.json", feed_forward_type="geglu")
    more = weights | {"encoder.layer.0.attention.self.layer_norm_q.weight": torch.ones(HIDDEN)}
    save_file(more, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"does not compute with: .*layer_norm_q"):
        load_checkpoint(str(source))
    # Distances that nobody's code is named for.
    change_json(source / "config.json", auto_map=None, _name_or_path=None)
    with pytest.raises(UnsupportedModel, match="not one of transformers' bert models"):
        load_checkpoint(str(source))
    change_json(source / "config.json", architectures=["BertModel"])
    with pytest.raises(UnsupportedModel, match="alibi position embeddings"):
        load_checkpoint(str(source))
