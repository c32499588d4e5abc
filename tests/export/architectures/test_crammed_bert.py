"""crammedBERT equals a reference written from what its code computes; variants are refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from export.errors import ExportError, SourceError, UnsupportedModel
from export.reading.checkpoint import load_checkpoint
from export.reading.crammed import POOLED_PADDING, SINGLE_AS_PAIR
from models import Pipeline
from models.bundle.bundle import Bundle
from tests.export.architectures.checks import (
    ITEMS,
    TEXTS,
    check_labels,
    check_masks,
    check_vectors,
    randomize,
    save_tokenizer,
)
from tests.helpers.checkpoints import (
    CHARACTERS,
    SYLLABLES,
    WORDS,
    change_json,
    in_turn,
    write_json,
)
from tests.helpers.fixtures import EVERY_PRECISION
from tests.helpers.results import record
from tests.helpers.store import Store

LAYERS, HIDDEN, INNER, HEADS, LONGEST, POOLED = 2, 32, 64, 4, 64, 24


def make_crammed_tokenizer() -> PreTrainedTokenizerFast:
    """Lower case, no accents, nothing beyond ASCII; a single text begins with no special token."""
    special = ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>"]
    plain = [each for each in CHARACTERS if each.isascii()]
    tokens = [*special, *plain, *WORDS, *(f"##{piece}" for piece in (*plain, *SYLLABLES))]
    vocabulary = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Lowercase(),
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Replace(Regex(r"[^\x00-\x7F]+"), ""),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <sep>",
        pair="<cls> $A <sep> $B <sep>",
        special_tokens=[("<cls>", 2), ("<sep>", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<cls>",
        sep_token="<sep>",
        mask_token="<mask>",
    )


def make_arch(vocabulary: int, **changes: Any) -> dict[str, Any]:
    arch: dict[str, Any] = {
        "architectures": ["ScriptableCrammedBERT"],
        "num_transformer_layers": LAYERS,
        "hidden_size": HIDDEN,
        "intermed_size": INNER,
        "hidden_dropout_prob": 0.1,
        "norm": "LayerNorm",
        "norm_eps": 1e-12,
        "norm_scheme": "pre",
        "nonlin": "GELUglu",
        "tie_weights": True,
        "decoder_bias": False,
        "sparse_prediction": 0.25,
        "objective_layout": "MLM",
        "embedding": {
            "vocab_size": vocabulary,
            "pos_embedding": "scaled-sinusoidal",
            "pad_token_id": 0,
            "max_seq_length": LONGEST,
            "embedding_dim": HIDDEN,
            "normalization": True,
            "stable_low_precision": False,
        },
        "attention": {
            "type": "self-attention",
            "causal_attention": False,
            "num_attention_heads": HEADS,
            "skip_output_projection": False,
            "qkv_bias": False,
            "rotary_embedding": False,
            "seq_op_in_fp32": False,
            "sequence_op": "torch-softmax",
        },
        "ffn_layer_frequency": 1,
        "skip_head_transform": True,
        "use_bias": False,
        "final_norm": True,
        "num_labels": None,
        "classification_head": {
            "pooler": "avg",
            "include_ff_layer": True,
            "head_dim": POOLED,
            "nonlin": "Tanh",
        },
    }
    for key, value in changes.items():
        place, _, name = key.rpartition("__")
        (arch[place] if place else arch)[name] = value
    return arch


def make_weights(
    vocabulary: int, labels: int | None, *, transform: bool
) -> dict[str, torch.Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.embedding.word_embedding.weight": (vocabulary, HIDDEN),
        "encoder.embedding.pos_embedding.scale_factor": (1,),
        "encoder.embedding.norm.weight": (HIDDEN,),
        "encoder.embedding.norm.bias": (HIDDEN,),
        "encoder.final_norm.weight": (HIDDEN,),
        "encoder.final_norm.bias": (HIDDEN,),
    }
    for number in range(LAYERS):
        layer = f"encoder.layers.{number}"
        shapes |= {
            f"{layer}.{norm}.{part}": (HIDDEN,)
            for norm in ("norm1", "norm2")
            for part in ("weight", "bias")
        }
        shapes[f"{layer}.attn.self_attention.query_key_value.weight"] = (3 * HIDDEN, HIDDEN)
        shapes[f"{layer}.attn.dense.weight"] = (HIDDEN, HIDDEN)
        shapes[f"{layer}.ffn.dense_in.weight"] = (INNER, HIDDEN)
        shapes[f"{layer}.ffn.dense_out.weight"] = (HIDDEN, INNER // 2)
    if transform:
        shapes["prediction_head.dense.weight"] = (HIDDEN, HIDDEN)
        shapes |= {f"prediction_head.norm.{part}": (HIDDEN,) for part in ("weight", "bias")}
    if labels is not None:
        shapes |= {"pooler.dense.weight": (POOLED, HIDDEN), "pooler.dense.bias": (POOLED,)}
        shapes |= {"head.weight": (labels, POOLED), "head.bias": (labels,)}
    weights = randomize(shapes)
    weights["encoder.embedding.pos_embedding.scale_factor"] += 0.5
    for number in range(LAYERS):
        name = f"encoder.layers.{number}.attn.self_attention.norm_factor"
        weights[name] = torch.tensor((HIDDEN // HEADS) ** -0.5)
    return weights


class Reference:
    """What its code computes of a text alone, from tensors under its names."""

    def __init__(self, weights: dict[str, torch.Tensor], *, pooler: str = "avg") -> None:
        self.weights = weights
        self.pooler = pooler

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        own = (self.weights[f"{name}.{part}"] for part in ("weight", "bias"))
        return F.layer_norm(x, (HIDDEN,), *own, eps=1e-12)

    def hidden(self, ids: list[int], _: list[int]) -> torch.Tensor:
        w = self.weights
        length = len(ids)
        table = torch.zeros(LONGEST, HIDDEN)
        places = torch.arange(LONGEST, dtype=torch.float32)[:, None]
        div = torch.exp(torch.arange(0, HIDDEN, 2).float() * (-math.log(10000.0) / HIDDEN))
        table[:, 0::2] = torch.sin(places * div)
        table[:, 1::2] = torch.cos(places * div)
        x = w["encoder.embedding.word_embedding.weight"][ids]
        x = x + table[:length] * w["encoder.embedding.pos_embedding.scale_factor"]
        x = self.norm("encoder.embedding.norm", x)
        for number in range(LAYERS):
            layer = f"encoder.layers.{number}"
            joined = self.norm(f"{layer}.norm1", x)
            joined = joined @ w[f"{layer}.attn.self_attention.query_key_value.weight"].T
            heads = joined.view(length, HEADS, 3 * HIDDEN // HEADS)
            q, k, v = heads.split(HIDDEN // HEADS, dim=2)
            scores = torch.einsum("qhs,khs->hqk", q, k)
            scores = scores * w[f"{layer}.attn.self_attention.norm_factor"]
            mixed = torch.einsum("hqk,khs->qhs", scores.softmax(-1), v).reshape(length, HIDDEN)
            x = x + mixed @ w[f"{layer}.attn.dense.weight"].T
            value, gate = (
                self.norm(f"{layer}.norm2", x) @ w[f"{layer}.ffn.dense_in.weight"].T
            ).chunk(2, dim=-1)
            x = x + (F.gelu(gate) * value) @ w[f"{layer}.ffn.dense_out.weight"].T
        return self.norm("encoder.final_norm", x)

    def words(self, ids: list[int], types: list[int]) -> torch.Tensor:
        states = self.hidden(ids, types)
        if "prediction_head.dense.weight" in self.weights:
            states = F.gelu(states @ self.weights["prediction_head.dense.weight"].T)
            states = self.norm("prediction_head.norm", states)
        return states @ self.weights["encoder.embedding.word_embedding.weight"].T

    def labels(self, ids: list[int], types: list[int]) -> torch.Tensor:
        w, states = self.weights, self.hidden(ids, types)
        pooled = {
            "avg": lambda: states.mean(0),
            "zero_index": lambda: states[0],
            "max": lambda: states.max(0)[0],
        }[self.pooler]()
        pooled = torch.tanh(w["pooler.dense.weight"] @ pooled + w["pooler.dense.bias"])
        return w["head.weight"] @ pooled + w["head.bias"]


def make_crammed(
    folder: Path, *, labels: int | None = None, local: bool = False, **changes: Any
) -> tuple[Path, dict[str, torch.Tensor]]:
    """Write a tiny checkpoint in a published form; its folder and its weights."""
    tokenizer = make_crammed_tokenizer()
    vocabulary = (len(tokenizer) // 8 + 1) * 8
    arch = make_arch(vocabulary, num_labels=labels, **changes)
    weights = make_weights(vocabulary, labels, transform=not arch["skip_head_transform"])
    folder.mkdir(parents=True)
    stored = dict(weights)
    if labels is None:
        stored["decoder.weight"] = weights["encoder.embedding.word_embedding.weight"].clone()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(tokenizer, folder, LONGEST)
    if local:
        write_json(folder / "model_config.json", arch)
    else:
        ending = "PreTraining" if labels is None else "SequenceClassification"
        config = {
            "model_type": "crammedBERT",
            "architectures": [f"ScriptableLMFor{ending}"],
            "arch": arch,
            "transformers_version": "4.28.0",
        }
        write_json(folder / "config.json", config)
    return folder, weights


@pytest.mark.parametrize("form", in_turn(["hub", "local", "with a transform"], ("local",)))
def test_words_and_vectors(tmp_path: Path, exports: Store, form: str) -> None:
    changes = {"skip_head_transform": False} if form == "with a transform" else {}
    source, weights = make_crammed(tmp_path / "source", local=form == "local", **changes)
    options = EVERY_PRECISION if form == "hub" else {}
    bundle = Bundle.open(exports.export(source, "crammed", **options))
    if form == "hub":
        record(bundle.manifest, "ForPreTraining")
    pipeline = Pipeline(bundle, threads=1)
    manifest = pipeline.manifest
    assert (manifest.family, manifest.tasks) == ("crammedBERT", ("embed", "fill-mask"))
    assert (manifest.max_tokens, manifest.fused_attention) == (LONGEST, LAYERS)
    reference = Reference(weights)
    check_vectors(pipeline, reference.hidden, [text for text in TEXTS if text.isascii()])
    check_masks(pipeline, reference.words)


@pytest.mark.parametrize(
    ("pooler", "labels"),
    [
        pytest.param("avg", 3, marks=pytest.mark.slow),
        ("zero_index", 2),
        pytest.param("max", 1, marks=pytest.mark.slow),
    ],
)
def test_labels(tmp_path: Path, exports: Store, pooler: str, labels: int) -> None:
    source, weights = make_crammed(
        tmp_path / "source", labels=labels, classification_head__pooler=pooler
    )
    checkpoint = load_checkpoint(str(source))
    assert (POOLED_PADDING in checkpoint.notes) == (pooler == "avg")
    assert SINGLE_AS_PAIR in checkpoint.notes
    # As its code chooses the loss of one label.
    assert checkpoint.heads[0].function == ("none" if labels == 1 else "softmax")
    options = EVERY_PRECISION if pooler == "avg" else {}
    bundle = Bundle.open(exports.export(source, "crammed", **options))
    if pooler == "avg":
        record(bundle.manifest, "ForSequenceClassification")
    reference = Reference(weights, pooler=pooler)
    items = [item for item in ITEMS if "".join(item).isascii()]
    check_labels(Pipeline(bundle, threads=1), reference.labels, items)


def test_a_tied_weight_that_is_held_once(tmp_path: Path) -> None:
    """As older saves have it, under either name, and with what compiling puts before names."""
    source, weights = make_crammed(tmp_path / "source")
    words, decoder = "encoder.embedding.word_embedding.weight", "decoder.weight"
    stored = load_file(source / "model.safetensors")
    for lost in (words, decoder):
        rest = {key: value for key, value in stored.items() if key != lost}
        for prefix in ("", "_orig_mod.", "module._orig_mod."):
            named = {prefix + key: value for key, value in rest.items()}
            save_file(named, source / "model.safetensors", metadata={"format": "pt"})
            checkpoint = load_checkpoint(str(source))
            found = checkpoint.trunk.get_input_embeddings().weight
            assert torch.equal(found, weights[words])
            assert checkpoint.heads[0].model.decoder.weight is found
            assert any(prefix in note for note in checkpoint.notes) == bool(prefix)


REFUSED: dict[str, tuple[Any, type[ExportError]]] = {
    "norm": ("RMSNorm", UnsupportedModel),
    "norm_scheme": ("post", UnsupportedModel),
    "nonlin": ("GELU", UnsupportedModel),
    "use_bias": (True, UnsupportedModel),
    "final_norm": (False, UnsupportedModel),
    "ffn_layer_frequency": (2, UnsupportedModel),
    "objective_layout": ("SCRIPT", UnsupportedModel),
    "embedding__pos_embedding": ("learned", UnsupportedModel),
    "embedding__normalization": (False, UnsupportedModel),
    "embedding__embedding_dim": (16, UnsupportedModel),
    "attention__type": ("pytorch", UnsupportedModel),
    "attention__causal_attention": (True, UnsupportedModel),
    "attention__qkv_bias": (True, UnsupportedModel),
    "attention__rotary_embedding": ("v2", UnsupportedModel),
    "attention__sequence_op": ("torch-norm", UnsupportedModel),
    "attention__skip_output_projection": (True, UnsupportedModel),
    "architectures": (["ScriptableRecurrentLM"], UnsupportedModel),
    "intermed_size": (None, SourceError),
}


@pytest.mark.parametrize("key", REFUSED)
@pytest.mark.parametrize("local", [False, True])
def test_a_variant_is_refused_by_its_key(tmp_path: Path, key: str, local: bool) -> None:  # noqa: FBT001
    value, kind = REFUSED[key]
    source, _ = make_crammed(tmp_path / "source", local=local, **{key: value})
    with pytest.raises(kind) as caught:
        load_checkpoint(str(source))
    assert ("" if local else "arch.") + key.replace("__", ".") in caught.value.message


def test_no_positions_at_all(tmp_path: Path) -> None:
    source, _ = make_crammed(tmp_path / "source", embedding__pos_embedding=None)
    with pytest.raises(UnsupportedModel, match=r"arch\.embedding\.pos_embedding None"):
        load_checkpoint(str(source))


def test_a_pooling_that_is_not_computed(tmp_path: Path) -> None:
    source, _ = make_crammed(tmp_path / "source", labels=2, classification_head__pooler="lse")
    with pytest.raises(UnsupportedModel, match=r"classification_head\.pooler 'lse'"):
        load_checkpoint(str(source))


@pytest.mark.parametrize(
    ("key", "value"), [("architectures", 5), ("classification_head__pooler", ["avg"])]
)
def test_a_value_of_another_kind(tmp_path: Path, key: str, value: Any) -> None:
    source, _ = make_crammed(tmp_path / "source", labels=2, **{key: value})
    with pytest.raises(ExportError, match=key.replace("__", r"\.")):
        load_checkpoint(str(source))


def test_weights_that_are_not_computed_with(tmp_path: Path) -> None:
    source, weights = make_crammed(tmp_path / "source")
    more = weights | {"encoder.layers.0.attn.dense.bias": torch.zeros(HIDDEN)}
    save_file(more, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"does not compute with: .*attn\.dense\.bias"):
        load_checkpoint(str(source))


def test_an_arch_that_is_none(tmp_path: Path) -> None:
    source, _ = make_crammed(tmp_path / "source")
    change_json(source / "config.json", arch=None)
    with pytest.raises(SourceError, match="has no arch"):
        load_checkpoint(str(source))
    assert json.loads((source / "config.json").read_text())["model_type"] == "crammedBERT"
