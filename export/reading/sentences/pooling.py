"""How a checkpoint pools its tokens into one vector: what its sentence-transformers files say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from export.errors import SourceError, UnsupportedModel
from export.reading.files import read_object
from export.reading.sentences.modules import Module
from models.bundle.manifest import POOLINGS, Pooling

# As older saves have it, each with a boolean; several stand side by side in this order.
_BOOLEANS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# The keys of a Pooling's config.json: the size goes without saying.
KEYS = {
    *_BOOLEANS,
    "pooling_mode",
    "include_prompt",
    "embedding_dimension",
    "word_embedding_dimension",
}


def read_pooling(module: Module) -> tuple[str, bool]:
    """What a Pooling module says: the poolings, joined by `+`, and whether prompts are pooled too.

    Raises SourceError, or UnsupportedModel for a pooling that is not computed here.
    """
    file = module.folder / "config.json"
    content = read_object(file)
    refuse_unknown(file, content, KEYS)
    include = content.get("include_prompt", True)
    if not isinstance(include, bool):
        raise SourceError(f"{file} has include_prompt {include!r}, which is neither true nor false")
    named = _list_named(file, content)
    for name in named:
        if name not in POOLINGS:
            raise UnsupportedModel(
                f"{file} asks for pooling {name}; supported is one of {', '.join(POOLINGS)}"
            )
    return "+".join(named), include


def _list_named(file: Path, content: dict[str, Any]) -> list[str]:
    if "pooling_mode" not in content:
        # None of them is what sentence-transformers takes for the mean.
        return [name for key, name in _BOOLEANS.items() if content.get(key)] or ["mean"]
    named = content["pooling_mode"]
    listed = [named] if isinstance(named, str) else named
    if not isinstance(listed, list) or not listed:
        raise SourceError(f"{file} has pooling_mode {named!r}, which names no pooling")
    return [str(one) for one in listed]


@dataclass(frozen=True, slots=True)
class Splade:
    """How a SpladePooling makes one sparse vector of the masked-LM logits of a text's tokens."""

    aggregation: Literal["max", "sum"]
    activation: Literal["relu", "log1p_relu"]

    def pool(self, logits: torch.Tensor) -> torch.Tensor:
        """The weights [1, vocabulary] of logits [tokens, vocabulary]."""
        weights = torch.log1p(torch.relu(logits))
        if self.activation == "log1p_relu":
            weights = torch.log1p(weights)
        return weights.amax(0)[None] if self.aggregation == "max" else weights.sum(0)[None]


# The keys of a SpladePooling's config.json.
SPLADE_KEYS = {
    *("pooling_strategy", "activation_function"),
    *("embedding_dimension", "word_embedding_dimension", "chunk_size"),
}


def read_splade(module: Module) -> Splade:
    """What a SpladePooling module says. Raises SourceError or UnsupportedModel."""
    file = module.folder / "config.json"
    content = read_object(file)
    refuse_unknown(file, content, SPLADE_KEYS)
    aggregation = content.get("pooling_strategy", "max")
    activation = content.get("activation_function", "relu")
    for key, named, known in (
        ("pooling_strategy", aggregation, ("max", "sum")),
        ("activation_function", activation, ("relu", "log1p_relu")),
    ):
        if named not in known:
            raise UnsupportedModel(
                f"{file} has {key} {named!r}; supported is one of {', '.join(known)}"
            )
    return Splade(aggregation, activation)


def refuse_unknown(file: Path, content: dict[str, Any], known: set[str]) -> None:
    """Raise UnsupportedModel for a key that may say something of the answers, and is not known."""
    unknown = sorted(content.keys() - known)
    if unknown:
        raise UnsupportedModel(
            f"{file} has {unknown[0]}, which is not known here: answers might not be the "
            "original's; remove it if it does not matter"
        )
