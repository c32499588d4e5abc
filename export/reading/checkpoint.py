"""A checkpoint as its users have it: found, read and loaded with transformers' own classes.

Remote code never runs; weights come from safetensors, or from pytorch_model.bin read with torch's
`weights_only`.
"""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel

from export.errors import SourceError, UnsupportedModel
from export.reading.configuration import check_shapes, load_config
from export.reading.dense import read_projection
from export.reading.files import find_source, first_line, read_architecture, read_object
from export.reading.heads import (
    SourceHead,
    find_ending,
    list_heads,
    load_named_heads,
    make_trunk_head,
)
from export.reading.labels import check_labels
from export.reading.tokenizer import load_tokenizer
from export.reading.weights import Weights, find_weights
from models.families import FAMILIES, Family


@dataclass(slots=True)
class Checkpoint:
    """A loaded checkpoint. `trunk` is its encoder, `heads` what stands on it."""

    path: Path
    name: str
    revision: str | None
    family: Family
    architecture: str
    config: PretrainedConfig
    config_sha256: str
    tokenizer: Any
    trunk: PreTrainedModel
    heads: list[SourceHead]
    notes: list[str] = field(default_factory=list)

    def release(self) -> None:
        """Let go of the weights; what the checkpoint says of itself stays."""
        for model in (self.trunk, *(head.model for head in self.heads)):
            model.to("meta")

    @property
    def position_start(self) -> int:
        """The position id of a text's first token."""
        return int(self.config.pad_token_id) + 1 if self.family.positions_follow_padding else 0

    @property
    def segments(self) -> bool:
        """Whether the model tells the two texts of a pair apart by segment ids."""
        kinds = getattr(self.config, "type_vocab_size", 0) or 0
        return kinds > 1 and "token_type_ids" in self.tokenizer.model_input_names

    @property
    def max_tokens(self) -> int:
        """The longest text the checkpoint was made for, special tokens included."""
        limits: list[int] = [self.config.max_position_embeddings - self.position_start]
        # The tokenizer says 1e30 where it knows of no limit.
        longest = self.tokenizer.model_max_length
        if not isinstance(longest, int | float):
            raise SourceError(
                f"{self.path / 'tokenizer_config.json'} has model_max_length {longest!r}, "
                "which is not a length"
            )
        if 0 < longest < 1e9:
            limits.append(int(longest))
        file = self.path / "sentence_bert_config.json"
        if declared := read_object(file, required=False).get("max_seq_length"):
            if not isinstance(declared, int) or declared < 1:
                raise SourceError(f"{file} has max_seq_length {declared!r}, which is not a length")
            limits.append(declared)
        return min(limits)

    @property
    def all_heads(self) -> list[SourceHead]:
        """All that answers: the trunk by itself, and the heads that stand on it."""
        return [make_trunk_head(self.trunk), *self.heads]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks its weights can answer."""
        return tuple(dict.fromkeys(head.task for head in self.all_heads))

    def read_projection(self) -> torch.nn.Sequential | None:
        """What sentence-transformers computes on the pooled vector, if anything; see dense.py."""
        return read_projection(self.path, self.config.hidden_size)


def load_checkpoint(source: str, revision: str | None = None) -> Checkpoint:
    """Find, check and load a checkpoint. Raises SourceError or UnsupportedModel."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    path, name, found_revision = find_source(source, revision)
    raw = read_object(path / "config.json")
    family = _find_family(path, raw)
    weights = find_weights(path)
    architecture = _find_architecture(path, raw, family, weights)
    config = load_config(path / "config.json", raw, weights)
    if architecture.endswith("Classification"):
        check_labels(path / "config.json")
    tokenizer = load_tokenizer(path, config)
    model, unused = _load_model(path, config, architecture, weights)
    checkpoint = Checkpoint(
        path=path,
        name=name,
        revision=found_revision,
        family=family,
        architecture=architecture,
        config=config,
        config_sha256=hashlib.sha256((path / "config.json").read_bytes()).hexdigest(),
        tokenizer=tokenizer,
        trunk=model.base_model,
        heads=list_heads(model, architecture, family),
    )
    checkpoint.heads += load_named_heads(path, checkpoint.trunk, family)
    if not checkpoint.heads and not architecture.endswith("Model"):
        checkpoint.notes.append(f"the head of {architecture} is left out: no task here reads it")
    elif unused:
        checkpoint.notes.append(f"weights that {architecture} has no use for: {shorten(unused)}")
    _check_length(checkpoint)
    return checkpoint


def _find_family(path: Path, raw: dict[str, Any]) -> Family:
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UnsupportedModel(
            f"{path / 'config.json'} has model_type {kind!r}; supported are {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def _find_architecture(path: Path, raw: dict[str, Any], family: Family, weights: Weights) -> str:
    base = transformers.models.auto.modeling_auto.MODEL_MAPPING_NAMES[family.name]
    name = read_architecture(raw) or str(base)
    kind: Any = getattr(transformers, name, None)
    known = inspect.isclass(kind) and issubclass(kind, PreTrainedModel)
    if not known or getattr(kind.config_class, "model_type", None) != family.name:
        raise UnsupportedModel(
            f"{path / 'config.json'} names architecture {name!r}, which is not one of "
            f"transformers' {family.name} models; remote code is never run"
        )
    # Checkpoints of whole BERTs are often labelled with their masked-LM head alone.
    whole = {"cls.seq_relationship.weight", "bert.pooler.dense.weight"}
    if name == "BertForMaskedLM" and whole <= set(weights.tensors):
        return "BertForPreTraining"
    return name


def _load_model(
    path: Path, config: PretrainedConfig, architecture: str, weights: Weights
) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the names of the weights it has no use for."""
    kind = getattr(transformers, architecture)
    ending = find_ending(architecture)
    options: dict[str, Any] = {}
    if ending is None:
        kind = transformers.models.auto.modeling_auto.MODEL_MAPPING[type(config)]
        if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
            options["add_pooling_layer"] = False
    check_shapes(path / "config.json", kind, config, weights, **options)
    try:
        model, loading = kind.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            use_safetensors=weights.safe,
            weights_only=True,
            output_loading_info=True,
            # Some models bring attention of their own, and refuse any other.
            attn_implementation="sdpa" if kind._supports_sdpa else "eager",
            **options,
        )
    except Exception as error:
        raise SourceError(
            f"the weights in {path} cannot be loaded as {architecture}: {first_line(error)}"
        ) from None
    missing = sorted(loading["missing_keys"])
    if missing:
        raise SourceError(
            f"{path} lacks weights of {architecture}: {shorten(missing)}; "
            "correct `architectures` in config.json or complete the weights"
        )
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise SourceError(f"the weights in {path} are not all numbers: see {name}")
    model.eval()
    # The pooler is left out on purpose where no head of the model's own reads it.
    unused = sorted(key for key in loading["unexpected_keys"] if "pooler" not in key.split("."))
    return model, unused


def shorten(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _check_length(checkpoint: Checkpoint) -> None:
    """Raise SourceError where no word fits beside the special tokens."""
    special = checkpoint.tokenizer.num_special_tokens_to_add()
    if checkpoint.max_tokens <= special:
        raise SourceError(
            f"{checkpoint.path} takes texts of {checkpoint.max_tokens} tokens, {special} of them "
            "special ones; correct max_position_embeddings in config.json, model_max_length in "
            "tokenizer_config.json or max_seq_length in sentence_bert_config.json"
        )
