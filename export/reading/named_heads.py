"""The heads under heads/<name>/ of a checkpoint, which all stand on its one trunk.

Owns what such a folder may hold: a config and weights of its own, and of the trunk nothing else
than the trunk.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from export.architectures.classes import find_class
from export.errors import SourceError, UnsupportedModel
from export.reading.configuration import check_sizes
from export.reading.files import first_line, read_architecture, read_object
from export.reading.heads import SourceHead, find_ending, list_endings, list_heads
from export.reading.labels import check_labels
from export.reading.weights import NOT_NUMBERS, Weights, check_floating, read_weights
from models.families import Family

# What the config of a head has to say as its trunk's does: the sizes always, the others if at all.
_SIZES = ("hidden_size", "dim", "vocab_size", "num_hidden_layers")
_WORDINGS = (
    *("num_attention_heads", "n_heads", "intermediate_size", "hidden_dim", "type_vocab_size"),
    *("hidden_act", "activation", "hidden_activation", "layer_norm_eps", "norm_eps"),
    *("local_attention", "rope_theta", "rope_parameters"),
)
# 0, 1, 2 and so on, which older versions of transformers save beside the weights.
_COUNTED = "embeddings.position_ids"
_OWN_BUNDLE = "export {} as a bundle of its own, or train its head with the trunk left as it is"


def load_named_heads(path: Path, trunk: PreTrainedModel, family: Family) -> list[SourceHead]:
    """The heads under heads/<name>/ of a checkpoint: a config.json and its own weights each.

    In the order that `head_names` in the checkpoint's config gives, others after it by name.
    Raises SourceError or UnsupportedModel.
    """
    heads: list[SourceHead] = []
    for folder in _list_folders(path, getattr(trunk.config, "head_names", None) or []):
        raw = read_object(folder / "config.json")
        name = read_architecture(raw)
        kind = find_class(name)
        if kind is None or find_ending(name) is None:
            raise UnsupportedModel(
                f"{folder / 'config.json'} names architecture {name!r}; a head is one of "
                f"{', '.join(list_endings())}"
            )
        largest = max(max(weight.shape, default=1) for weight in trunk.parameters())
        largest = max(largest, _read_own(folder).largest)
        check_sizes(folder / "config.json", raw, largest, family)
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:
            raise SourceError(
                f"{folder / 'config.json'} is not usable: {first_line(error)}"
            ) from None
        for key in (*_SIZES, *(key for key in _WORDINGS if key in raw)):
            if getattr(config, key, None) != getattr(trunk.config, key, None):
                raise SourceError(
                    f"{folder / 'config.json'} has another {key} than the trunk in {path}: a head "
                    f"there stands on that trunk; {_OWN_BUNDLE.format(folder)}"
                )
        if name.endswith("Classification"):
            check_labels(folder / "config.json")
        model = _build_head(folder, kind, config, trunk, family)
        heads += list_heads(model, name, family, folder.name)
    return heads


def _list_folders(path: Path, order: Any) -> list[Path]:
    found = {file.parent.name: file.parent for file in path.glob("heads/*/config.json")}
    if not isinstance(order, list) or not all(isinstance(name, str) for name in order):
        raise SourceError(f"{path / 'config.json'} has head_names that are not a list of names")
    for name in order:
        if name not in found:
            raise SourceError(
                f"{path / 'config.json'} names the head {name!r}, and {path / 'heads' / name} has "
                "no config.json; complete it or take the name out of head_names"
            )
    return [found[name] for name in [*order, *sorted(set(found) - set(order))]]


def _read_own(folder: Path) -> Weights:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise SourceError(f"{folder} has no weights; put model.safetensors beside config.json")
    weights = read_weights(files)
    check_floating(weights, {name for name in weights.tensors if not name.endswith(_COUNTED)})
    return weights


def _read_apart(
    folder: Path, files: Sequence[Path], shared: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The weights in `files` that are the head's own, one tensor in memory more at a time.

    Raises UnsupportedModel where those that the trunk has too are not the trunk's.
    """
    own: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 - not a mapping
                    if name.endswith(_COUNTED):
                        continue
                    tensor = stored.get_tensor(name).float()
                    if name in shared:
                        _check_shared(folder, file, name, tensor, shared[name])
                        continue
                    if not torch.isfinite(tensor).all():
                        raise SourceError(
                            f"{file} holds {name}, which is not all numbers; {NOT_NUMBERS}"
                        )
                    own[name] = tensor
        except (SafetensorError, OSError) as error:
            raise SourceError(f"{file} cannot be read: {first_line(error)}") from None
    return own


def _check_shared(
    folder: Path, file: Path, name: str, tensor: torch.Tensor, trunks: torch.Tensor
) -> None:
    """Raise UnsupportedModel where a head was trained on another trunk than it stands on."""
    if torch.equal(tensor, trunks):
        return
    how = f"as {list(tensor.shape)}, and the trunk has {list(trunks.shape)}"
    if tensor.shape == trunks.shape:
        how = f"otherwise than the trunk has it, by {(tensor - trunks).abs().max().item():.2g}"
    raise UnsupportedModel(
        f"{file} holds {name} {how}: a head there stands on that trunk, and would answer otherwise "
        f"than it was trained; {_OWN_BUNDLE.format(folder)}"
    )


def _build_head(
    folder: Path, kind: Any, config: PretrainedConfig, trunk: PreTrainedModel, family: Family
) -> PreTrainedModel:
    stored = _read_own(folder)
    files = stored.files
    config._attn_implementation = trunk.config._attn_implementation
    try:
        with torch.device("meta"):
            model: PreTrainedModel = kind(config)
    except Exception as error:
        raise SourceError(f"{folder / 'config.json'} is not usable: {first_line(error)}") from None
    # The head stands on the trunk that is there already: no second copy of its weights.
    prefix = f"{model.base_model_prefix}."
    pooled = any(key.startswith(prefix + "pooler") for key in stored.tensors)
    beneath = {
        name: module
        for name, module in trunk.named_children()
        if not (pooled and name in family.pooler)
    }
    for name, module in beneath.items():
        setattr(model.base_model, name, module)
    shared = {
        prefix + key: value
        for key, value in trunk.state_dict().items()
        if key.split(".")[0] in beneath
    }
    own = _read_apart(folder, files, shared)
    try:
        unexpected = model.load_state_dict(own, strict=False, assign=True).unexpected_keys
    except RuntimeError as error:
        raise SourceError(f"{files[0]} does not fit {folder}: {first_line(error)}") from None
    missing = [name for name, value in model.named_parameters() if value.is_meta]
    if missing or unexpected:
        raise SourceError(
            f"{files[0]} does not hold the weights of {type(model).__name__}'s head: "
            f"missing {', '.join(missing[:3]) or 'none'}, "
            f"unexpected {', '.join(unexpected[:3]) or 'none'}"
        )
    model.eval()
    return model
