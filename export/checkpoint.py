"""A checkpoint as its users have it: found, read and loaded with transformers' own classes.

Remote code never runs; weights come from safetensors, or from pytorch_model.bin read with torch's
`weights_only`.
"""

import hashlib
import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from export.checkpoint_heads import SourceHead, find_ending, list_heads, load_named_heads
from export.errors import SourceError, UnsupportedModel
from export.source import find_source, first_line, read_architecture, read_object
from export.tokenizer import load_tokenizer
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
        if 0 < self.tokenizer.model_max_length < 1e9:
            limits.append(int(self.tokenizer.model_max_length))
        file = self.path / "sentence_bert_config.json"
        if declared := read_object(file, required=False).get("max_seq_length"):
            if not isinstance(declared, int) or declared < 1:
                raise SourceError(f"{file} has max_seq_length {declared!r}, which is not a length")
            limits.append(declared)
        return min(limits)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks its weights can answer."""
        return tuple(dict.fromkeys(["embed", *(head.task for head in self.heads)]))


def load_checkpoint(source: str, revision: str | None = None) -> Checkpoint:
    """Find, check and load a checkpoint. Raises SourceError or UnsupportedModel."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    path, name, found_revision = find_source(source, revision)
    raw = read_object(path / "config.json")
    family = _find_family(path, raw)
    weights = _find_weights(path)
    architecture = _find_architecture(path, raw, family, weights)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        raise SourceError(f"{path / 'config.json'} is not usable: {first_line(error)}") from None
    if getattr(config, "position_embedding_type", "absolute") not in ("absolute", None):
        raise UnsupportedModel(
            f"{path} uses {config.position_embedding_type} position embeddings; "
            "only absolute ones are supported"
        )
    tokenizer = load_tokenizer(path, config)
    model = _load_model(path, config, architecture, weights)
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
    return checkpoint


def _find_family(path: Path, raw: dict[str, Any]) -> Family:
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UnsupportedModel(
            f"{path / 'config.json'} has model_type {kind!r}; supported are {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def _find_weights(path: Path) -> list[Path]:
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if files := sorted(path.glob(pattern)):
            return files
    raise SourceError(
        f"{path} has no weights; put model.safetensors or pytorch_model.bin beside config.json"
    )


def _find_architecture(path: Path, raw: dict[str, Any], family: Family, weights: list[Path]) -> str:
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
    if name == "BertForMaskedLM" and _has_weights(
        weights, {"cls.seq_relationship.weight", "bert.pooler.dense.weight"}
    ):
        return "BertForPreTraining"
    return name


def _has_weights(files: list[Path], wanted: set[str]) -> bool:
    found: set[str] = set()
    for file in files:
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt") as tensors:
                    found |= wanted & set(tensors.keys())
            except (SafetensorError, OSError) as error:
                raise SourceError(f"{file} cannot be read: {first_line(error)}") from None
    return found == wanted


def _load_model(
    path: Path, config: PretrainedConfig, architecture: str, weights: list[Path]
) -> PreTrainedModel:
    kind = getattr(transformers, architecture)
    ending = find_ending(architecture)
    options: dict[str, Any] = {}
    if ending is None:
        kind = transformers.models.auto.modeling_auto.MODEL_MAPPING[type(config)]
        if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
            options["add_pooling_layer"] = False
    try:
        model, loading = kind.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            use_safetensors=weights[0].suffix == ".safetensors",
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
            f"{path} lacks weights of {architecture}: {', '.join(missing[:4])}"
            + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
            + "; correct `architectures` in config.json or complete the weights"
        )
    model.eval()
    loaded: PreTrainedModel = model
    return loaded
