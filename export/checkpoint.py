"""A checkpoint as its users have it: found, read and loaded with transformers' own classes.

Owns which tasks its weights can answer. Remote code never runs; weights come from safetensors, or
from pytorch_model.bin read with torch's `weights_only`.
"""

import hashlib
import inspect
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel

from export.errors import SourceError, UnsupportedModel
from models.families import FAMILIES, Family
from models.manifest import Function, ProblemType

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CONFIGS = ["*.json", "*.txt", "*.model", "*.safetensors"]
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)

# The ending of an architecture's name says which heads it has; None: the family's row says it.
_ENDINGS: dict[str, tuple[str, ...] | None] = {
    "ForPreTraining": None,
    "ForMaskedLM": ("fill-mask",),
    "ForNextSentencePrediction": ("next-sentence",),
    "ForSequenceClassification": ("classify",),
}
# Where the model's output holds the logits of a task.
_FIELDS = {
    "ForPreTraining": {
        "fill-mask": "prediction_logits",
        "next-sentence": "seq_relationship_logits",
    },
}


@dataclass(frozen=True, slots=True)
class SourceHead:
    """A head of the checkpoint: the model that has it, and where its output holds the logits."""

    task: str
    name: str | None
    model: PreTrainedModel
    output: str
    labels: tuple[str, ...] | None = None
    problem_type: ProblemType | None = None
    function: Function | None = None


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


def find_source(source: str, revision: str | None) -> tuple[Path, str, str | None]:
    """Directory, name and revision of a checkpoint: a directory as it is, a hub id downloaded."""
    path = Path(source)
    if path.is_dir():
        if revision:
            raise SourceError(f"{source} is a directory; --revision goes with a hub id only")
        return path, path.resolve().name, None
    if path.exists():
        raise SourceError(f"{source} is a file; give the directory that holds config.json")
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise SourceError(f"{source} does not exist; give a directory or a hub id like ORG/NAME")
    try:
        found = Path(snapshot_download(source, revision=revision, allow_patterns=_CONFIGS))
        if not any(found.glob("*.safetensors")):
            weights = [*_CONFIGS, "pytorch_model*.bin"]
            found = Path(snapshot_download(source, revision=revision, allow_patterns=weights))
        pooling = ["*/config.json", *_CONFIGS]
        snapshot_download(source, revision=revision, allow_patterns=pooling)
    except LocalEntryNotFoundError as error:
        raise SourceError(
            f"{source} is neither a directory here nor in the hub's cache, and the hub cannot be "
            f"reached; give a local directory, or leave offline mode ({type(error).__name__})"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise SourceError(f"{source} cannot be had from the hub: {_first_line(error)}") from None
    return found, source, found.name


def read_json(file: Path, *, required: bool = True) -> Any:
    """The content of a JSON file; SourceError names the file that is missing or broken."""
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        if not required:
            return None
        raise SourceError(
            f"{file} is not there; a checkpoint has {file.name} beside its weights"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{file} cannot be read: {_first_line(error)}") from None


def read_object(file: Path, *, required: bool = True) -> dict[str, Any]:
    """The JSON object in a file, empty where it is not required and not there."""
    content = read_json(file, required=required)
    if content is None and not required:
        return {}
    if not isinstance(content, dict):
        raise SourceError(f"{file} is not a JSON object")
    return content


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
        raise SourceError(f"{path / 'config.json'} is not usable: {_first_line(error)}") from None
    if getattr(config, "position_embedding_type", "absolute") not in ("absolute", None):
        raise UnsupportedModel(
            f"{path} uses {config.position_embedding_type} position embeddings; "
            "only absolute ones are supported"
        )
    tokenizer = _load_tokenizer(path, config)
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
        heads=_list_heads(model, architecture, family),
    )
    checkpoint.heads += _load_named_heads(path, checkpoint)
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
    name = _read_architecture(raw) or str(base)
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


def _read_architecture(raw: dict[str, Any]) -> str:
    names = raw.get("architectures") or [""]
    return str(names[0] if isinstance(names, list) else names)


def _has_weights(files: list[Path], wanted: set[str]) -> bool:
    found: set[str] = set()
    for file in files:
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt") as tensors:
                    found |= wanted & set(tensors.keys())
            except (SafetensorError, OSError) as error:
                raise SourceError(f"{file} cannot be read: {_first_line(error)}") from None
    return found == wanted


def _load_tokenizer(path: Path, config: PretrainedConfig) -> Any:
    if not any((path / name).exists() for name in _TOKENIZER_FILES):
        raise SourceError(
            f"{path} has no tokenizer; save one there with tokenizer.save_pretrained()"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        raise SourceError(f"the tokenizer in {path} cannot be read: {_first_line(error)}") from None
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedModel(
            f"{path} has no fast tokenizer; convert it with "
            "AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained()"
        )
    _check_tokenizer_files(path, type(tokenizer).vocab_files_names)
    largest = max(tokenizer.get_vocab().values())
    if largest >= config.vocab_size:
        raise UnsupportedModel(
            f"the tokenizer in {path} has token ids up to {largest}, the model only "
            f"{config.vocab_size} embeddings; resize the embeddings and save both again"
        )
    return tokenizer


def _check_tokenizer_files(path: Path, names: dict[str, str]) -> None:
    """Transformers makes do without a vocabulary, and then knows no word."""
    needed = {name for kind, name in names.items() if kind != "tokenizer_file"}
    missing = sorted(name for name in needed if not (path / name).exists())
    if missing and not (path / "tokenizer.json").exists():
        raise SourceError(
            f"the tokenizer in {path} lacks {', '.join(missing)}; save it there again with "
            "tokenizer.save_pretrained()"
        )


def _load_model(
    path: Path, config: PretrainedConfig, architecture: str, weights: list[Path]
) -> PreTrainedModel:
    kind = getattr(transformers, architecture)
    ending = _find_ending(architecture)
    options: dict[str, Any] = {}
    if ending is None:
        kind = transformers.AutoModel
        base = transformers.models.auto.modeling_auto.MODEL_MAPPING[type(config)]
        if "add_pooling_layer" in inspect.signature(base.__init__).parameters:
            options["add_pooling_layer"] = False
    try:
        model, loading = kind.from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            use_safetensors=weights[0].suffix == ".safetensors",
            weights_only=True,
            output_loading_info=True,
            attn_implementation="sdpa",
            **options,
        )
    except Exception as error:
        raise SourceError(
            f"the weights in {path} cannot be loaded as {architecture}: {_first_line(error)}"
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


def _find_ending(architecture: str) -> str | None:
    return next((ending for ending in _ENDINGS if architecture.endswith(ending)), None)


def _list_heads(
    model: PreTrainedModel, architecture: str, family: Family, name: str | None = None
) -> list[SourceHead]:
    ending = _find_ending(architecture)
    if ending is None:
        return []
    tasks = _ENDINGS[ending]
    heads = []
    for task in family.pretraining_tasks if tasks is None else tasks:
        output = _FIELDS.get(ending, {}).get(task, "logits")
        if task == "classify":
            labels, problem_type, function = _describe_labels(model.config)
            heads.append(SourceHead(task, name, model, output, labels, problem_type, function))
        else:
            heads.append(SourceHead(task, name, model, output))
    return heads


def _describe_labels(
    config: PretrainedConfig,
) -> tuple[tuple[str, ...], ProblemType | None, Function]:
    labels = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    problem_type: ProblemType | None = config.problem_type
    # As transformers' TextClassificationPipeline chooses.
    if problem_type == "regression":
        return labels, problem_type, "none"
    if problem_type == "multi_label_classification" or config.num_labels == 1:
        return labels, problem_type, "sigmoid"
    return labels, problem_type, "softmax"


def _load_named_heads(path: Path, checkpoint: Checkpoint) -> list[SourceHead]:
    """The heads under heads/<name>/: a config.json and the head's own weights each.

    In the order that `head_names` in the checkpoint's config gives, others after it by name.
    """
    heads: list[SourceHead] = []
    folders = [file.parent for file in path.glob("heads/*/config.json")]
    first = getattr(checkpoint.config, "head_names", None) or []
    for folder in sorted(folders, key=lambda one: _find_place(one.name, first)):
        name = _read_architecture(read_object(folder / "config.json"))
        kind = getattr(transformers, name, None)
        if kind is None or _find_ending(name) is None:
            raise UnsupportedModel(
                f"{folder / 'config.json'} names architecture {name!r}; a head is one of "
                f"{', '.join(_ENDINGS)}"
            )
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        for key in ("hidden_size", "dim", "vocab_size", "num_hidden_layers"):
            if getattr(config, key, None) != getattr(checkpoint.config, key, None):
                raise SourceError(
                    f"{folder / 'config.json'} has another {key} than the trunk in {path}"
                )
        model = _build_head(folder, kind, config, checkpoint.trunk, checkpoint.family)
        heads += _list_heads(model, name, checkpoint.family, folder.name)
    return heads


def _find_place(name: str, order: Any) -> tuple[int, str]:
    known = isinstance(order, list) and name in order
    return (order.index(name) if known else sys.maxsize), name


def _build_head(
    folder: Path, kind: Any, config: PretrainedConfig, trunk: PreTrainedModel, family: Family
) -> PreTrainedModel:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise SourceError(f"{folder} has no weights; put model.safetensors beside config.json")
    try:
        own = {key: value.float() for file in files for key, value in load_file(file).items()}
    except (SafetensorError, OSError) as error:
        raise SourceError(f"{files[0]} cannot be read: {_first_line(error)}") from None
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model: PreTrainedModel = kind(config)
    # The head stands on the trunk that is there already: no second copy of its weights.
    prefix = f"{model.base_model_prefix}."
    pooled = any(key.startswith(prefix + "pooler") for key in own)
    for name, module in trunk.named_children():
        if not (pooled and name in family.pooler):
            setattr(model.base_model, name, module)
    try:
        unexpected = model.load_state_dict(own, strict=False, assign=True).unexpected_keys
    except RuntimeError as error:
        raise SourceError(f"{files[0]} does not fit {folder}: {_first_line(error)}") from None
    missing = [name for name, value in model.named_parameters() if value.is_meta]
    if missing or unexpected:
        raise SourceError(
            f"{files[0]} does not hold the weights of {type(model).__name__}'s head: "
            f"missing {', '.join(missing[:3]) or 'none'}, "
            f"unexpected {', '.join(unexpected[:3]) or 'none'}"
        )
    model.eval()
    return model


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
