"""How a checkpoint pools its tokens into one vector: what its sentence-transformers files say.

Where they ask for something that cannot be answered exactly, the export says so and stops.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from export.errors import SourceError, UnsupportedModel
from export.reading.files import read_json, read_object
from models.bundle.manifest import Pooling, PoolingSource

_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
_NAMES: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "max": "max"}


def find_pooling(path: Path, option: Pooling | None) -> tuple[Pooling, PoolingSource]:
    """The pooling and where it comes from: the checkpoint's files, else the option, else mean."""
    declared = read_declared(path)
    if declared:
        return declared, "sentence-transformers"
    if option:
        return option, "option"
    return "mean", "default"


@dataclass(frozen=True, slots=True)
class Module:
    """A module of sentence-transformers: its class without its package, and where its files lie."""

    kind: str
    folder: Path


def list_modules(path: Path) -> list[Module]:
    """The modules that modules.json names, in their order; none where there is no such file.

    Raises SourceError, or UnsupportedModel for a class that is not computed here.
    """
    file = path / "modules.json"
    content = read_json(file, required=False)
    if content is None:
        return []
    if not isinstance(content, list) or not all(isinstance(module, dict) for module in content):
        raise SourceError(f"{file} is not a list of objects")
    modules = []
    for module in content:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise UnsupportedModel(
                f"{file} has a {kind} module after the transformer, which is not supported: its "
                "vectors would not be the original's"
            )
        inside = PurePosixPath(str(module.get("path", "")))
        if inside.is_absolute() or ".." in inside.parts:
            raise SourceError(f"{file} says that {kind} lies in {inside}, which is not inside it")
        modules.append(Module(kind, path / inside))
    return modules


def read_declared(path: Path) -> Pooling | None:
    """The pooling that sentence-transformers files declare; None where there are none."""
    modules = list_modules(path)
    poolings = [module for module in modules if module.kind == "Pooling"]
    if len(poolings) > 1:
        raise UnsupportedModel(f"{path / 'modules.json'} pools {len(poolings)} times")
    if modules:
        _refuse_changed_texts(path)
    return _read_mode(poolings[0].folder / "config.json") if poolings else None


def _read_mode(file: Path) -> Pooling:
    content = read_object(file)
    if "pooling_mode" in content:
        named = content["pooling_mode"]
        active = [named] if isinstance(named, str) else list(named)
        known = _NAMES
    else:
        active = [key for key, on in content.items() if key.startswith("pooling_mode_") and on]
        known = _MODES
    if len(active) != 1 or active[0] not in known:
        raise UnsupportedModel(
            f"{file} asks for pooling {' + '.join(map(str, active)) or 'none'}; "
            "supported is one of mean, cls and max"
        )
    if content.get("include_prompt") is False:
        raise UnsupportedModel(f"{file} leaves prompts out of the pooling, which is not supported")
    return known[active[0]]


def _refuse_changed_texts(path: Path) -> None:
    """Settings by which sentence-transformers changes a text before the tokenizer sees it."""
    prompts = read_object(path / "config_sentence_transformers.json", required=False)
    if prompts.get("default_prompt_name"):
        raise UnsupportedModel(
            f"{path} puts its prompt {prompts['default_prompt_name']!r} before every text; remove "
            "default_prompt_name from config_sentence_transformers.json and send it yourself"
        )
    declared = read_object(path / "sentence_bert_config.json", required=False)
    if declared.get("do_lower_case"):
        raise UnsupportedModel(
            f"{path} lower-cases texts outside its tokenizer (do_lower_case in "
            "sentence_bert_config.json); put a Lowercase normalizer into tokenizer.json instead"
        )
