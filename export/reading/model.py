"""The model of a checkpoint, loaded by its own class: all of it, or without the head it lacks.

Owns which weights have to be there, and that they are numbers.
"""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from export.architectures.classes import find_class, name_base
from export.errors import SourceError
from export.reading.configuration import check_shapes
from export.reading.files import first_line
from export.reading.heads import find_ending
from export.reading.weights import NOT_NUMBERS, Weights


def load_model(
    path: Path, config: PretrainedConfig, architecture: str, weights: Weights, *, embeds: bool
) -> tuple[PreTrainedModel, list[str], bool]:
    """The model, the names of the weights it has no use for, and whether it lacks its head.

    It may lack the head where it is asked for vectors: then `embeds`.
    """
    kind = find_class(architecture)
    ending = find_ending(architecture)
    options: dict[str, Any] = {}
    renamed = {f"^{re.escape(weights.prefix)}": ""} if weights.prefix else None
    if ending is None:
        kind = find_class(name_base(config.model_type))
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
            key_mapping=renamed,
            # Some models bring attention of their own, and refuse any other.
            attn_implementation="sdpa" if kind._supports_sdpa else "eager",
            **options,
        )
    except Exception as error:
        raise SourceError(
            f"the weights in {path} cannot be loaded as {architecture}: {first_line(error)}"
        ) from None
    missing = sorted(loading["missing_keys"])
    headless = bool(missing) and _lacks_head(model, missing, weights)
    if missing and not (headless and embeds):
        remedy = "correct `architectures` in config.json or complete the weights"
        if headless:
            remedy += ", or ask for --tasks embed"
        raise SourceError(f"{path} lacks weights of {architecture}: {shorten(missing)}; {remedy}")
    for name, parameter in (model.base_model if headless else model).named_parameters():
        if not torch.isfinite(parameter).all():
            raise SourceError(
                f"the weights in {path} are not all numbers: see {name}; {NOT_NUMBERS}"
            )
    if config.model_type == "xmod":
        _keep_language(model, config)
    model.eval()
    # The pooler is left out on purpose where no head of the model's own reads it.
    unused = sorted(key for key in loading["unexpected_keys"] if "pooler" not in key.split("."))
    return model, unused, headless


def _keep_language(model: PreTrainedModel, config: PretrainedConfig) -> None:
    """Let go of the adapters of all languages but the one that a bundle answers in."""
    chosen = config.default_language
    for module in model.modules():
        if hasattr(module, "adapter_modules"):
            module.adapter_modules = torch.nn.ModuleDict({chosen: module.adapter_modules[chosen]})
    config.languages = [chosen]


def _lacks_head(model: PreTrainedModel, missing: Sequence[str], weights: Weights) -> bool:
    """Whether what is missing is the head, all of it, and nothing but it."""
    prefix = f"{model.base_model_prefix}."
    if any(name.startswith(prefix) and "pooler" not in name.split(".") for name in missing):
        return False
    own = {name for name in model.state_dict() if not name.startswith(prefix)}
    return bool(own) and not own & weights.tensors.keys()


def shorten(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
