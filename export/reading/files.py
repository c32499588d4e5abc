"""The files of a checkpoint: a directory as it is, or a hub id downloaded; JSON read with care.

Owns where a source comes from. What its files mean is for others to say.
"""

import json
import os
import re
import stat
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from export.errors import SourceError
from models.paths import exists, follow, is_folder, look

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# What says something of answers has these names; weights in a pickle are read for want of others.
# SetFit's pickle is for whoever trusts it: it is never opened.
_CONFIGS = ["*.json", "*.txt", "*.model", "*.safetensors", "artifact.metadata", "model_head.pkl"]
# How a file begins that git-lfs keeps elsewhere.
_POINTER = b"version https://git-lfs"
_FILES = [*_CONFIGS, "pytorch_model*.bin"]
# Others in safetensors beside them are of heads.
_SAFE = ("model.safetensors", "model.safetensors.index.json")


def find_source(source: str, revision: str | None) -> tuple[Path, str, str | None]:
    """Directory, name and revision of a checkpoint: a directory as it is, a hub id downloaded."""
    path = Path(source)
    try:
        local = is_folder(path)
        if local:
            next(path.iterdir(), None)
        taken = exists(path)
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror}") from None
    if local:
        if revision:
            raise SourceError(f"{source} is a directory; --revision goes with a hub id only")
        _check_readable(path)
        return path, follow(path).name, None
    if taken:
        raise SourceError(f"{source} is a file; give the directory that holds config.json")
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise SourceError(f"{source} does not exist; give a directory or a hub id like ORG/NAME")
    found = _download(source, revision)
    return found, source, found.name


def _download(source: str, revision: str | None) -> Path:
    """The files of a hub id, in the hub's cache. Raises SourceError."""
    try:
        found = Path(snapshot_download(source, revision=revision, allow_patterns=_CONFIGS))
        if not any(has_file(found / name) for name in _SAFE):
            found = Path(snapshot_download(source, revision=revision, allow_patterns=_FILES))
        modules = ["*/config.json", "*/pytorch_model.bin", *_CONFIGS]
        snapshot_download(source, revision=revision, allow_patterns=modules)
    except LocalEntryNotFoundError as error:
        remedy = "see that this machine reaches it, or HF_ENDPOINT where that is set"
        if constants.HF_HUB_OFFLINE:
            remedy = "leave offline mode (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set)"
        raise SourceError(
            f"{source} is neither a directory here nor in the hub's cache, and the hub cannot be "
            f"reached; give a local directory, or {remedy} ({type(error).__name__})"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise SourceError(f"{source} cannot be had from the hub: {first_line(error)}") from None
    return found


def _check_readable(path: Path) -> None:
    """Refuse a file that this user may not read: the libraries say that it is not there.

    Weights are often saved for their owner alone, and a container runs as somebody else.
    """
    effective = os.access in os.supports_effective_ids
    for folder, folders, names in os.walk(path):
        # A folder that may not be entered looks empty: what is in it would be left out.
        files = [name for name in names if any(fnmatch(name, pattern) for pattern in _FILES)]
        for entry in [Path(folder, name) for name in (*sorted(folders), *sorted(files))]:
            try:
                found = look(entry)
            except OSError:  # a link to where this user may not go
                _refuse_unreadable(entry, path)
            if found is None and entry.is_symlink():
                raise SourceError(
                    f"{entry} is a link to {os.readlink(entry)}, which is not there; give a "  # noqa: PTH115 - as it was written
                    "directory that holds the files themselves, as `cp -rL` makes it"
                )
            enters = found is not None and stat.S_ISDIR(found.st_mode)
            wanted = os.R_OK | os.X_OK if enters else os.R_OK
            if not os.access(entry, wanted, effective_ids=effective):
                _refuse_unreadable(entry, path)


def _refuse_unreadable(entry: Path, path: Path) -> NoReturn:
    raise SourceError(
        f"{entry} may not be read by user {os.geteuid()}; allow it with `chmod -R a+rX {path}`"
    )


def has_file(file: Path) -> bool:
    """Whether a source has that file. Raises SourceError where that cannot be told."""
    try:
        return exists(file)
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from None


def read_json(file: Path, *, required: bool = True) -> Any:
    """The content of a JSON file; SourceError names the file that is missing or broken."""
    try:
        refuse_pointer(file)
        return json.loads(file.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        if not required:
            return None
        raise SourceError(
            f"{file} is not there; a checkpoint has {file.name} beside its weights"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            f"{file} cannot be read: {first_line(error)}; correct it, or copy or save it again"
        ) from None


def refuse_pointer(file: Path) -> None:
    """Raise SourceError for what git leaves in place of a large file that it did not fetch."""
    with file.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise SourceError(
                f"{file} is a pointer of git-lfs and not the file itself; run `git lfs pull` in "
                f"{file.parent}, or download the file"
            )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def read_object(file: Path, *, required: bool = True) -> dict[str, Any]:
    """The JSON object in a file, empty where it is not required and not there."""
    content = read_json(file, required=required)
    if content is None and not required:
        return {}
    if not isinstance(content, dict):
        raise SourceError(f"{file} is not a JSON object")
    return content


def read_architecture(config: dict[str, Any]) -> str:
    """The class a config.json names, or an empty string."""
    names = config.get("architectures") or [""]
    return str(names[0] if isinstance(names, list) else names)


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
