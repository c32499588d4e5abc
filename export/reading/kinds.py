"""Models that are no encoder of BERT's kind, told by their files before any of these is missed."""

import zipfile
from pathlib import Path

from export.errors import UnsupportedModel
from export.reading.files import has_file, read_json

_FLAIR = ("final-model.pt", "best-model.pt")
_OF_FLAIR = "a model of flair, which saves classes of its own in a pickle"
_LOOKED_AT = 1 << 20


def refuse_other_kinds(path: Path) -> None:
    """Raise UnsupportedModel, with its kind, for a model of another library's."""
    what = _name_kind(path)
    if what is not None:
        raise UnsupportedModel(f"{path} is {what}; supported are encoders with a config.json")


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
