"""The modules of a sentence-transformers checkpoint, in their order: what modules.json names.

A class is taken for one that is computed here by its package and its name. Any other is code of the
checkpoint's own, which never runs.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from export.errors import SourceError, UnsupportedModel
from export.reading.files import read_json

# Modules that are computed here; MLMTransformer is what Transformer was called for a masked LM.
TRANSFORMERS = ("Transformer", "MLMTransformer")
_KINDS = (
    *TRANSFORMERS,
    *("Pooling", "Dense", "LayerNorm", "Normalize", "Dropout", "SpladePooling"),
    "MultiVectorMask",
)
# Of another package, and the same.
_ALIASES = {"pylate.models.Dense.Dense": "sentence_transformers.models.Dense"}
_PACKAGE = "sentence_transformers."


@dataclass(frozen=True, slots=True)
class Module:
    """A module of sentence-transformers: its class without its package, and where its files lie."""

    kind: str
    folder: Path


def list_modules(path: Path) -> tuple[Module, ...]:
    """The modules that modules.json names, in their order; none where there is no such file.

    Raises SourceError, or UnsupportedModel for a class that is not computed here.
    """
    file = path / "modules.json"
    content = read_json(file, required=False)
    if content is None:
        return ()
    if not isinstance(content, list) or not all(isinstance(module, dict) for module in content):
        raise SourceError(f"{file} is not a list of objects")
    return tuple(_read(file, module) for module in content)


def find_encoder(path: Path) -> Path:
    """The folder that holds config, weights and tokenizer: older saves have one for them."""
    for module in list_modules(path)[:1]:
        if module.kind in TRANSFORMERS:
            return module.folder
    return path


def _read(file: Path, module: dict[str, Any]) -> Module:
    named = str(module.get("type", ""))
    named = _ALIASES.get(named, named)
    kind = named.rsplit(".", 1)[-1]
    if not named.startswith(_PACKAGE):
        raise UnsupportedModel(
            f"{file} names the module {named!r}, a class of its own; code that comes with a "
            "checkpoint is never run"
        )
    if kind not in _KINDS:
        raise UnsupportedModel(
            f"{file} has a {kind} module, which is not supported: its vectors would not be the "
            "original's"
        )
    inside = PurePosixPath(str(module.get("path", "")))
    if inside.is_absolute() or ".." in inside.parts:
        raise SourceError(f"{file} says that {kind} lies in {inside}, which is not inside it")
    return Module(kind, file.parent / inside)
