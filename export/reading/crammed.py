"""A config of crammedBERT in the words of our class, and the variants of it that are refused.

Both forms are read: on the hub a config.json that holds `arch`, and beside a model saved at the end
of its training model_config.json, which is the bare `arch`.
"""

from pathlib import Path
from typing import Any

from export.errors import SourceError, UnsupportedModel
from export.reading.files import read_architecture

LOCAL_FILE = "model_config.json"
_PRETRAINED, _CLASSIFIER = "ScriptableLMForPreTraining", "ScriptableLMForSequenceClassification"
# What a key of `arch` may say; left out it says the first.
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "norm": ("LayerNorm",),
    "norm_scheme": ("pre",),
    "nonlin": ("GELUglu",),
    "use_bias": (False,),
    "decoder_bias": (False,),
    "tie_weights": (True,),
    "final_norm": (True,),
    "ffn_layer_frequency": (1,),
    "objective_layout": ("MLM",),
    "embedding.pos_embedding": ("scaled-sinusoidal",),
    "embedding.normalization": (True,),
    "attention.type": ("self-attention",),
    "attention.causal_attention": (False,),
    "attention.skip_output_projection": (False,),
    "attention.qkv_bias": (False,),
    "attention.rotary_embedding": (False,),
    "attention.sequence_op": ("torch-softmax",),
}
_ALLOWED_CLASSIFIER: dict[str, tuple[Any, ...]] = {
    "classification_head.include_ff_layer": (True,),
    "classification_head.nonlin": ("Tanh",),
}
# Of a key that may be null, null is a variant of its own.
_NULLS = ("embedding.pos_embedding",)
_POOLINGS = {"zero_index": "cls", "avg": "mean", "max": "max"}
_SIZES = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_transformer_layers",
    "num_attention_heads": "attention.num_attention_heads",
    "intermediate_size": "intermed_size",
    "vocab_size": "embedding.vocab_size",
    "max_position_embeddings": "embedding.max_seq_length",
}
POOLED_PADDING = (
    "its classifier was trained on the mean of all rows, those of padding included: answers are "
    "those to a text without padding"
)
SINGLE_AS_PAIR = (
    "its own code asks a classifier about a single text as the first of a pair whose second is "
    "empty, which cannot be asked here: a single text is answered by its own template"
)


def list_notes(content: dict[str, Any]) -> tuple[str, ...]:
    """How a classifier's answers differ from those of its own code, of a translated config."""
    pooling = content.get("classifier_pooling")
    if pooling is None:
        return ()
    return (POOLED_PADDING, SINGLE_AS_PAIR) if pooling == "mean" else (SINGLE_AS_PAIR,)


def translate_crammed(file: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """The config in the words of our class. Raises SourceError or UnsupportedModel."""
    arch = raw.get("arch") if file.name != LOCAL_FILE else raw
    if not isinstance(arch, dict):
        raise SourceError(f"{file} is not usable: it has no arch, which says what the model is")
    prefix = "arch." if file.name != LOCAL_FILE else ""
    name = "" if file.name == LOCAL_FILE else read_architecture(raw)
    if not name:
        name = _PRETRAINED if arch.get("num_labels") is None else _CLASSIFIER
    _check_kinds(file, prefix, arch.get("architectures") or [])
    allowed = _ALLOWED | (_ALLOWED_CLASSIFIER if name == _CLASSIFIER else {})
    for key, values in allowed.items():
        _check(file, prefix, arch, key, values)
    content = {new: _look(arch, old) for new, old in _SIZES.items()}
    for key, value in content.items():
        if value is None:
            raise SourceError(f"{file} is not usable: it has no {prefix}{_SIZES[key]}")
    width = _look(arch, "embedding.embedding_dim")
    if width not in (None, content["hidden_size"]):
        raise UnsupportedModel(
            f"{file} has {prefix}embedding.embedding_dim {width!r}; supported is the hidden size"
        )
    content |= {
        "model_type": "crammedBERT",
        "architectures": [name],
        "layer_norm_eps": arch.get("norm_eps", 1e-12),
        "pad_token_id": _look(arch, "embedding.pad_token_id") or 0,
        "head_transform": not arch.get("skip_head_transform", True),
    }
    labels = {key: raw[key] for key in ("id2label", "label2id", "num_labels") if raw.get(key)}
    if name == _CLASSIFIER:
        content |= _read_classifier(file, prefix, arch)
        if "id2label" not in labels and arch.get("num_labels"):
            labels = {"num_labels": arch["num_labels"]}
    return content | labels


def _read_classifier(file: Path, prefix: str, arch: dict[str, Any]) -> dict[str, Any]:
    pooler = _look(arch, "classification_head.pooler")
    if not isinstance(pooler, str) or pooler not in _POOLINGS:
        raise UnsupportedModel(
            f"{file} has {prefix}classification_head.pooler {pooler!r}; supported is one of "
            f"{', '.join(_POOLINGS)}"
        )
    # As its code chooses the loss of one label.
    regression = {"problem_type": "regression"} if arch.get("num_labels") == 1 else {}
    return regression | {
        "classifier_pooling": _POOLINGS[pooler],
        "pooler_size": _look(arch, "classification_head.head_dim") or 1024,
    }


def _check_kinds(file: Path, prefix: str, kinds: Any) -> None:
    if not isinstance(kinds, list):
        raise SourceError(f"{file} is not usable: {prefix}architectures is {kinds!r}, not a list")
    named = " ".join(map(str, kinds)).lower()
    if "recurrent" in named or "funnel" in named:
        raise UnsupportedModel(f"{file} has {prefix}architectures {kinds!r}")


def _check(
    file: Path, prefix: str, arch: dict[str, Any], key: str, values: tuple[Any, ...]
) -> None:
    parent, _, name = key.rpartition(".")
    place = arch.get(parent) if parent else arch
    if not isinstance(place, dict) or name not in place:
        return
    found = place[name]
    if found in values or (found is None and key not in _NULLS):
        return
    raise UnsupportedModel(
        f"{file} has {prefix}{key} {found!r}; supported is {', '.join(map(repr, values))}"
    )


def _look(arch: dict[str, Any], key: str) -> Any:
    parent, _, name = key.rpartition(".")
    place = arch.get(parent) if parent else arch
    return place.get(name) if isinstance(place, dict) else None
