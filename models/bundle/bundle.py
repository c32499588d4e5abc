"""A bundle on disk: opened only if its format is known and every file is the one exported.

Owns reading and the hashes. Writing is the exporter's.
"""

import hashlib
import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from models.bundle.manifest import FORMAT_VERSION, FileEntry, Manifest
from models.errors import BundleDamaged, BundleNotFound, BundleTooNew, OperatorError
from models.paths import exists, follow, follow_to_end, is_folder

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
GOLDEN = "golden.json"

MIN_COSINE = 0.997
# As fast as they are on a processor; fp16 is no faster than fp32 there.
_LIGHTEST_FIRST = ("int8", "bf16")

_CHUNK_BYTES = 1 << 20
# Of labels by the hundred thousand, it stays below this.
_LARGEST_MANIFEST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its directory, and the manifest its files were checked against."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The bundle at `path`, after reading its manifest and hashing every file it lists.

        Raises BundleNotFound, BundleTooNew or BundleDamaged, each naming the file. Links are
        followed inside the bundle only (a mounted ConfigMap has such), never out of it.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        for name, entry in manifest.files.items():
            _check_file(path, name, entry)
        return cls(path=path, manifest=manifest)

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change whenever a file does, or what the manifest says of them.

        What it says of how the bundle came to be does not count: labels and pooling do.
        """
        content = self.manifest.model_dump_json(exclude={"source", "tools", "parity", "proof"})
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def file(self, name: str) -> Path:
        """Where the file of that name lies."""
        return self.path / name

    def check(self, name: str) -> None:
        """Raise BundleDamaged unless the file of that name is still the one that was exported."""
        _check_file(self.path, name, self.manifest.files[name])

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Whatever is raised inside is the bundle's doing: BundleDamaged with its first line.

        For what computes with its graphs, which raise as they like.
        """
        try:
            yield
        except OperatorError:
            raise
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise BundleDamaged(
                f"{self.path} cannot be computed here ({reason}); export the bundle again"
            ) from error

    def choose_precision(self, wanted: str | None = None, *, min_cosine: float = MIN_COSINE) -> str:
        """The precision to run: the one wanted, else fp32, else the only one there is.

        Of `auto` the lightest whose vectors, as the bundle's proof says, have at least `min_cosine`
        to the original's: the same on every machine, whatever it runs fastest.
        """
        offered = self.manifest.precisions
        if wanted == "auto":
            for precision in _LIGHTEST_FIRST:
                if precision in offered and self._is_near(precision, min_cosine):
                    return precision
            wanted = None
        if wanted is None:
            if "fp32" in offered:
                return "fp32"
            if len(offered) == 1:
                return offered[0]
            raise OperatorError(
                f"bundle {self.manifest.name!r} has no fp32; choose one of {', '.join(offered)}"
            )
        if wanted not in offered:
            raise OperatorError(
                f"bundle {self.manifest.name!r} has no precision {wanted!r}, "
                f"only {', '.join(offered)}; choose one of these, or export it again with another"
            )
        return wanted

    def _is_near(self, precision: str, min_cosine: float) -> bool:
        """Whether the proof has every engine's answers in it as near as that, none accepted."""
        rows = [row for row in self.manifest.parity if row.precision == precision]
        cosines = [row.worst_cosine for row in rows if row.worst_cosine is not None]
        lossy = any(row.lossy for row in rows)
        return bool(rows) and not lossy and min(cosines, default=1.0) >= min_cosine


def find_bundles(path: Path) -> list[Path]:
    """`path` itself, or, of a folder that is no bundle, the bundles right in it, by name.

    Empty for an empty folder. A folder with anything else in it counts as a bundle, for `open`
    to say what it lacks. Raises BundleNotFound where it may not be read.
    """
    try:
        if exists(path / MANIFEST) or not is_folder(path):
            return [path]
        # An export that is under way has a name with a dot; a new volume may hold lost+found.
        inside = [entry for entry in path.iterdir() if entry.name[0] != "."]
        found = sorted(entry for entry in inside if exists(entry / MANIFEST))
        empty = all(is_folder(entry) for entry in inside)
    except OSError as error:
        raise BundleNotFound(f"{error.filename} cannot be read: {error.strerror}") from None
    return found if found or empty else [path]


def hash_file(path: Path) -> str:
    """The sha256 of a file, in hex, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    try:
        _check_inside(path, file)
        if file.stat().st_size > _LARGEST_MANIFEST_BYTES:
            raise BundleDamaged(f"{file} is too large for a manifest; export the bundle again")
        content = json.loads(file.read_bytes(), object_pairs_hook=_read_object)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleNotFound(
            f"no bundle at {path}: {MANIFEST} is not there; "
            "make one with `python -m export SOURCE OUT`"
        ) from None
    except (ValueError, RecursionError) as error:
        raise BundleDamaged(f"{file} is not JSON ({error}); export the bundle again") from None
    except OSError as error:
        raise BundleNotFound(f"{file} cannot be read: {error.strerror}") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleTooNew(
            f"{path} has bundle format {version}, this service reads up to {FORMAT_VERSION}; "
            "upgrade the service or export the bundle with its own exporter"
        )
    try:
        if isinstance(version, bool) or version not in range(1, FORMAT_VERSION + 1):
            raise BundleDamaged(
                f"{file} has format_version {version!r}, not one of 1 to {FORMAT_VERSION}; "
                "export the bundle again"
            )
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # What a key says is the manifest's maker's word: shown, not obeyed.
        where = ascii(".".join(str(part) for part in first["loc"]))[1:-1]
        raise BundleDamaged(
            f"{file} is not a manifest ({where}: {first['msg']}); export the bundle again"
        ) from None


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return content


def _check_inside(path: Path, file: Path) -> None:
    """Raise where a link leads out of the bundle, or to what is no file: reading it might wait."""
    real = follow_to_end(file)
    if not real.is_relative_to(follow(path)):
        raise BundleDamaged(
            f"{file} is a link that leads out of the bundle; put the file itself there"
        )
    kind = real.stat().st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise BundleDamaged(f"{file} is not a file; copy or export the bundle again")


def _check_file(path: Path, name: str, entry: FileEntry) -> None:
    file = path / name
    try:
        _check_inside(path, file)
        size = file.stat().st_size
        if size != entry.bytes:
            raise BundleDamaged(
                f"{file} has {size} bytes where the manifest says {entry.bytes}; "
                "copy or export the bundle again"
            )
        if hash_file(file) != entry.sha256:
            raise BundleDamaged(
                f"{file} is not the file that was exported (its sha256 differs); "
                "copy or export the bundle again"
            )
    except OSError as error:
        raise BundleDamaged(
            f"{file} cannot be read ({error.strerror}); copy or export the bundle again"
        ) from None
