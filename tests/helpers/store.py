"""Bundles that tests share: exported once, by one worker for all, and kept for the next run.

An entry lies under a key of all that decides what an export gives: our code, what is installed,
the processor, the checkpoint's own bytes, the request. So a stored bundle is the one that an export
would make now. It is for reading: who changes a bundle changes a copy.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from export.errors import OutputError
from export.proof.processor import read_processor
from export.writing.exporter import export_bundle
from export.writing.request import ExportRequest
from models.bundle.bundle import hash_file
from models.machine.limits import count_cores

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "EXPORTS_STORE"
# Code and versions that decide what an export gives; what is asked of it comes with the entry.
_DECIDES = ("export/**/*.py", "models/**/*.py", "constraints.txt", "tests/helpers/store.py")
# What other versions of the code left behind is kept so long, the two newest longer.
_KEPT_S = 3600.0
_KEPT_NEWEST = 2


class Store:
    """Bundles by what they were made from. What cannot be kept is made for this process alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / _hash_all(_describe_makers())
        self.made = 0
        self._used: dict[Path, dict[str, str]] = {}
        self._own: dict[str, Path] = {}
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)
            _remove_old(folder, self.folder)

    def export(self, source: Path, name: str, **options: Any) -> Path:
        """The bundle of that name of a checkpoint, to be read and not written to."""
        key = _hash_all(_describe_request(source, name, options))
        if key in self._own:
            return self._own[key] / name
        entry = self.folder / key
        if entry in self._used:
            return entry / name
        try:
            with FileLock(self.folder / f"{key}.lock"):
                hashes = self._read(entry, name)
                if hashes is None:
                    hashes = self._make(entry, source, name, options)
        except (OSError, OutputError, NotImplementedError):  # full, another user's, without locks
            self._own[key] = Path(tempfile.mkdtemp(prefix="exports-"))
            _export(source, self._own[key] / name, options)
            self.made += 1
            return self._own[key] / name
        self._used[entry] = hashes
        return entry / name

    def find_changed(self) -> list[str]:
        """What lies otherwise in the entries used here than when they were taken."""
        changed = []
        for entry, hashes in self._used.items():
            found = dict(_hash_files(entry))
            if found != hashes:
                names = sorted(dict(found.items() ^ hashes.items()))
                changed.append(f"{entry}: {', '.join(names)}")
                with suppress(OSError):
                    _describe(entry).unlink()
        return changed

    def close(self) -> None:
        """Remove what was made for this process alone."""
        for folder in self._own.values():
            shutil.rmtree(folder, ignore_errors=True)
        self._own.clear()

    def _read(self, entry: Path, name: str) -> dict[str, str] | None:
        """The hashes of a whole and unchanged entry."""
        try:
            wanted = json.loads(_describe(entry).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        found = dict(_hash_files(entry))
        whole = found == wanted and f"{name}/manifest.json" in found
        return found if whole else None

    def _make(
        self, entry: Path, source: Path, name: str, options: dict[str, Any]
    ) -> dict[str, str]:
        """Make an entry anew. It has its name once it is whole, and its hashes after that."""
        _describe(entry).unlink(missing_ok=True)
        for left in self.folder.glob(f".{entry.name}.*"):
            shutil.rmtree(left)
        if entry.exists():
            shutil.rmtree(entry)
        partial = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=self.folder))
        try:
            _export(source, partial / name, options)
            self.made += 1
            partial.rename(entry)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        hashes = dict(_hash_files(entry))
        written = _describe(entry).with_suffix(".partial")
        written.write_text(json.dumps(hashes), encoding="utf-8")
        written.replace(_describe(entry))
        return hashes


def open_store() -> Store:
    """The store of this checkout, or where the environment says."""
    return Store(Path(os.environ.get(VARIABLE) or ROOT / ".cache" / "exports"))


def _export(source: Path, out: Path, options: dict[str, Any]) -> None:
    changed = _find_patched()
    assert not changed, f"a stored export has to be as the code is, and a test changed {changed}"
    export_bundle(ExportRequest(source=str(source), out=out, **options))


def _describe(entry: Path) -> Path:
    """The file beside an entry that holds its hashes."""
    return entry.with_suffix(".json")


def _describe_makers() -> Iterator[bytes]:
    """What decides every export: code, versions, the machine."""
    for pattern in _DECIDES:
        for file in sorted(ROOT.glob(pattern)):
            yield file.relative_to(ROOT).as_posix().encode()
            yield file.read_bytes()
    installed = {f"{each.name}=={each.version}" for each in importlib.metadata.distributions()}
    yield json.dumps(sorted(installed)).encode()
    machine = (sys.version, platform.system(), platform.machine(), count_cores(), read_processor())
    yield repr(machine).encode()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = {line for line in lines if line.lower().startswith(("flags", "features"))}
        yield "\n".join(sorted(flags)).encode()


def _describe_request(source: Path, name: str, options: dict[str, Any]) -> Iterator[bytes]:
    """What is asked for: the checkpoint with all its files, the bundle's name, the choices."""
    yield f"{source.name} {name} {sorted(options.items())}".encode()
    for file, digest in _hash_files(source):
        yield f"{file} {digest}".encode()


def _hash_files(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.rglob("*")):
        yield file.relative_to(folder).as_posix(), "" if file.is_dir() else hash_file(file)


def _hash_all(parts: Iterator[bytes]) -> str:
    """One hash of them all, where each is told apart from the next."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:24]


def _remove_old(folder: Path, current: Path) -> None:
    """Remove what other versions of the code left, unless it was used lately."""
    others = [each for each in folder.iterdir() if each.is_dir() and each != current]
    others.sort(key=lambda each: each.stat().st_mtime, reverse=True)
    for other in others[_KEPT_NEWEST:]:
        if time.time() - other.stat().st_mtime > _KEPT_S:
            shutil.rmtree(other, ignore_errors=True)


def _list_code() -> dict[str, Any]:
    """What the modules of an export hold, tables opened: what a test may have patched."""
    held = {}
    for module, content in list(sys.modules.items()):
        if module.partition(".")[0] in ("export", "models"):
            for name, value in _list_names(content):
                held[f"{module}.{name}"] = dict(value) if isinstance(value, dict) else value
                if isinstance(value, type) and value.__module__ == module:
                    held |= {f"{module}.{name}.{key}": one for key, one in _list_names(value)}
    return held


def _list_names(holder: Any) -> list[tuple[str, Any]]:
    return [(name, one) for name, one in vars(holder).items() if not name.startswith("__")]


_CODE = _list_code()


def _find_patched() -> list[str]:
    """What is not as it was when this module was imported, before any test."""
    now = _list_code()
    return sorted(
        name
        for name, value in _CODE.items()
        if not (now.get(name) is value or (isinstance(value, dict) and now.get(name) == value))
    )
