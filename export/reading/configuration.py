"""The config of a checkpoint, checked before a model is built from it.

A config can ask for any size; what it asks for is compared with the headers of the weights while
the model has no memory yet.
"""

import math
import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from export.architectures.classes import find_config, is_own
from export.errors import SourceError, UnsupportedModel
from export.reading.files import first_line
from export.reading.variants import Declared
from export.reading.weights import Weights, check_floating
from models.families import Family

# The names that families give to what costs memory; no other field does.
_WIDTHS = (
    "hidden_size",
    "dim",
    "num_attention_heads",
    "n_heads",
    "intermediate_size",
    "hidden_dim",
    "vocab_size",
    "max_position_embeddings",
    "embedding_size",
    "num_hidden_groups",
    "inner_group_num",
    "num_labels",
)
_DEPTHS = ("num_hidden_layers", "n_layers")
_MOST_POSITIONS = 1 << 20  # where they have no table, and so cannot be counted
_MOST_LAYERS = 1000  # where layers share their weights, and so cannot be counted
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
# What would have transformers read another file than the one that was checked, or other numbers.
_REFUSED = {
    "quantization_config": "is quantised; export the checkpoint it was quantised from",
    "transformers_weights": "names its weights itself; call them model.safetensors",
}


def load_config(declared: Declared, weights: Weights) -> PretrainedConfig:
    """The config that was declared. Raises SourceError or UnsupportedModel."""
    file, raw = declared.file, declared.content
    for key, reason in _REFUSED.items():
        if raw.get(key):
            raise UnsupportedModel(f"{file} {reason} ({key})")
    check_sizes(file, raw, weights.largest, declared.family)
    _check_layers(file, raw, weights)
    try:
        config: PretrainedConfig = (
            find_config(declared.family.name).from_dict(raw)
            if declared.translated or is_own(declared.family.name)
            else AutoConfig.from_pretrained(file.parent, trust_remote_code=False)
        )
    except Exception as error:
        raise SourceError(f"{file} is not usable: {first_line(error)}") from None
    if declared.family.positions_follow_padding and not isinstance(config.pad_token_id, int):
        raise SourceError(
            f"{file} is not usable: pad_token_id is {config.pad_token_id!r}, not a token's id, by "
            "which positions are counted"
        )
    # In pieces, to save memory in training: results are the same, and lengths need not divide.
    config.chunk_size_feed_forward = 0
    if getattr(config, "position_embedding_type", "absolute") not in ("absolute", None):
        raise UnsupportedModel(
            f"{file} asks for {config.position_embedding_type} position embeddings; "
            "only absolute ones are supported"
        )
    return config


def check_shapes(
    file: Path, kind: Any, config: PretrainedConfig, weights: Weights, **options: Any
) -> None:
    """Raise where the model of that class would have other shapes than the weights.

    The model is built without memory; SourceError names the tensor and both shapes.
    """
    try:
        with torch.device("meta"):
            model: PreTrainedModel = kind(config, **options)
    except Exception as error:
        raise SourceError(f"{file} is not usable: {first_line(error)}") from None
    prefix = f"{model.base_model_prefix}."
    known = set()
    for name, parameter in model.named_parameters():
        # transformers takes a trunk's weights with its name before them or without.
        for other in (name, prefix + name, name.removeprefix(prefix)):
            found = weights.tensors.get(other)
            if found is None:
                continue
            known.add(other)
            if found.shape != tuple(parameter.shape):
                raise SourceError(
                    f"{found.file} holds {other} as {list(found.shape)}, and {file} asks for "
                    f"{list(parameter.shape)}; put the config beside the weights it belongs to"
                )
            break
    check_floating(weights, known)


def check_sizes(file: Path, raw: dict[str, Any], largest: int, family: Family) -> None:
    """Raise SourceError for what is no size, or above the largest dimension of the weights.

    Of positions that have no table, a million are more than anything was trained for.
    """
    for key in (*_WIDTHS, *_DEPTHS, "type_vocab_size"):
        value = raw.get(key)
        if value is None:
            continue
        least = 0 if key == "type_vocab_size" else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise SourceError(f"{file} is not usable: {key} is {value!r}, not a size")
        if key == "max_position_embeddings" and not family.position_table:
            if value > _MOST_POSITIONS:
                raise SourceError(f"{file} asks for {value} positions, above {_MOST_POSITIONS}")
        elif key not in _DEPTHS and value > largest:
            raise SourceError(
                f"{file} asks for a {key} of {value}, and no tensor of the weights is that large; "
                "put the config beside the weights it belongs to"
            )
    for key, value in raw.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise SourceError(f"{file} is not usable: {key} is {value}")
    width = raw.get("hidden_size") or raw.get("dim")
    heads = raw.get("num_attention_heads") or raw.get("n_heads")
    if width and heads and width % heads:
        raise SourceError(
            f"{file} is not usable: {heads} attention heads do not divide a hidden size of {width}"
        )


def _check_layers(file: Path, raw: dict[str, Any], weights: Weights) -> None:
    numbers = [int(found[1]) for name in weights.tensors if (found := _LAYER.search(name))]
    for key in _DEPTHS:
        asked = raw.get(key)
        if asked is None:
            continue
        if numbers and asked != max(numbers) + 1:
            raise SourceError(
                f"{file} asks for {key} {asked}, and the weights have {max(numbers) + 1}; "
                "put the config beside the weights it belongs to"
            )
        if asked > _MOST_LAYERS:
            raise SourceError(f"{file} asks for {key} {asked}, above {_MOST_LAYERS}")
