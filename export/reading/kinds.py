"""What is no checkpoint of an encoder, told by its files before any of these is missed."""

import re
import zipfile
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from export.errors import SourceError, UnsupportedModel
from export.reading.files import has_file, read_architecture, read_json, read_object
from export.reading.weights import find_others, has_weights
from models.families import FAMILIES

_FLAIR = ("final-model.pt", "best-model.pt")
_OF_FLAIR = "a model of flair, which saves classes of its own in a pickle"
_LOOKED_AT = 1 << 20
_ADAPTER = "adapter_config.json"
_CONFIG = "config.json"
# The endings of architectures in which a token sees only those before it.
CAUSAL = ("LMHeadModel", "ForCausalLM")


def refuse_other_kinds(path: Path) -> None:
    """Raise UnsupportedModel, with its kind, for a model of another library's."""
    what = _name_kind(path)
    if what is not None:
        raise UnsupportedModel(f"{path} is {what}; supported are encoders with a config.json")


def refuse_adapter(encoder: Path) -> None:
    """Raise UnsupportedModel for the weights of an adapter, which stand on those of a model."""
    file = encoder / _ADAPTER
    if not has_file(file):
        return
    named = read_object(file).get("base_model_name_or_path")
    base = f"on {named}" if isinstance(named, str) and named else "on another model"
    raise UnsupportedModel(
        f"{file} makes it an adapter {base}, which has no weights of its own to answer with; merge "
        "it into its model with peft and export what that saves: PeftModel.from_pretrained(model, "
        f"{str(encoder)!r}).merge_and_unload().save_pretrained(NEW), the tokenizer and any other "
        "files of this folder beside it"
    )


def refuse_without_config(folder: Path) -> None:
    """Raise SourceError with what lies in a folder that has no config.json, where that says why."""
    entries = sorted(folder.iterdir())
    if not entries:
        raise SourceError(
            f"{folder} is empty; give the directory that holds config.json, the weights and the "
            "tokenizer"
        )
    inside = [entry for entry in entries if has_file(entry / _CONFIG)]
    found = [entry for entry in inside if has_weights(entry)]
    if found and not has_file(folder / "modules.json"):
        last = max(found, key=_number)
        what = "the last checkpoint of a training" if _number(last) >= 0 else "one"
        raise SourceError(
            f"{folder} has no config.json, and is no checkpoint; {last} in it is {what}: give that"
        )
    other = find_others(folder)
    if other is not None:
        raise SourceError(f"{folder} has no config.json, and for weights only {other}")


def refuse_other_family(file: Path, config: dict[str, Any]) -> None:
    """Raise UnsupportedModel for a config.json that is of none of the families."""
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in FAMILIES:
        return
    what = f"{file} has model_type {kind!r}"
    remedy = f"supported are {', '.join(FAMILIES)}"
    decoder = _name_decoder(config)
    if decoder is not None:
        raise UnsupportedModel(
            f"{what}, {decoder}: Cloze serves encoders, whose tokens see all of their text; take "
            f"one, or an embedding model that was made of one; {remedy}"
        )
    if config.get("auto_map"):
        raise UnsupportedModel(
            f"{what} and an auto_map: code of its own computes it, and remote code is never run; "
            f"{remedy}"
        )
    raise UnsupportedModel(f"{what}; {remedy}")


def _name_decoder(config: dict[str, Any]) -> str | None:
    kind = str(config.get("model_type"))
    if kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return "an encoder with a decoder behind it"
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not masked
    return "a decoder" if causal or read_architecture(config).endswith(CAUSAL) else None


def _number(folder: Path) -> int:
    """The step of a Trainer's checkpoint, by the name of its folder; -1 for any other."""
    found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(found[1]) if found else -1


def _name_kind(path: Path) -> str | None:
    if has_file(path / "gliner_config.json"):
        return "a GLiNER model, which is asked for entities by name and has heads for that alone"
    modules = read_json(path / "modules.json", required=False)
    if isinstance(modules, list) and "StaticEmbedding" in str(modules[:1]):
        return "a static embedding (StaticEmbedding, model2vec): a vector a token, and no encoder"
    config = read_json(path / "config.json", required=False)
    if isinstance(config, dict) and config.get("model_type") == "model2vec":
        return "a static embedding (model2vec): a vector a token, and no encoder"
    if config is None and any(has_file(path / name) for name in _FLAIR):
        return _OF_FLAIR
    if config is None and _mentions_flair(path / "pytorch_model.bin"):
        return _OF_FLAIR
    return None


def _mentions_flair(file: Path) -> bool:
    """Whether torch's archive names flair's classes; its pickle is looked at, and never run."""
    if not has_file(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return any(b"flair" in archive.open(name).read(_LOOKED_AT) for name in names[:1])
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return False
