"""What a model is in text-embeddings-inference's words: one of three kinds."""

from typing import Any

from service.registry.loaded_model import LoadedModel
from service.settings import Settings

# As it spells them; its clients take no others.
_POOLINGS = {"lasttoken": "last_token"}
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}


def describe_server(model: LoadedModel, settings: Settings, version: str) -> dict[str, Any]:
    """As its GET /info has it."""
    manifest = model.pipeline.manifest
    return {
        "model_id": model.name,
        "model_sha": None,
        "model_dtype": _DTYPES.get(model.pipeline.precision, model.pipeline.precision),
        "served_model_name": model.name,
        "model_type": describe_kind(model),
        "max_concurrent_requests": settings.max_connections,
        "max_input_length": manifest.max_tokens,
        "max_batch_tokens": model.max_batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_inputs,
        "auto_truncate": settings.auto_truncate,
        "tokenization_workers": 2,
        "version": version,
        "sha": None,
        "docker_label": None,
    }


def describe_kind(model: LoadedModel) -> dict[str, Any]:
    """What it embeds by, or the labels that it has."""
    if ("embed", None) in model.heads:
        pooling = model.heads["embed", None].entry.pooling or "mean"
        return {"embedding": {"pooling": _POOLINGS.get(pooling, pooling)}}
    if ("embed", "sparse") in model.heads:
        return {"embedding": {"pooling": "splade"}}
    head = model.heads.get(("classify", None))
    if head is None:
        # It has no word for what this model does, and its clients want one.
        return {"embedding": {"pooling": "cls"}}
    labels = head.entry.labels or ()
    told = {
        "id2label": {str(place): label for place, label in enumerate(labels)},
        "label2id": {label: place for place, label in enumerate(labels)},
    }
    ranks = ("rerank", None) in model.heads and "rerank" not in model.guessed
    return {"reranker" if ranks else "classifier": told}
