"""Texts with the vectors that a teacher gives them, kept beside a run and mapped, not read.

Tokens are the student's, vectors the teacher's, in half precision: two kilobytes a text would be a
gigabyte for a million.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.errors import DataMissing, RunDamaged, RunMismatch
from training.rows import Ids
from training.storage import write_text

_RECORD = "taught.json"
_TOKENS, _LENGTHS, _VECTORS = "tokens.u16", "lengths.u16", "vectors.f16"


@dataclass(frozen=True)
class TaughtTexts:
    """Text i is `tokens[starts[i]:starts[i + 1]]`, special tokens included, and `vectors[i]`."""

    tokens: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.vectors)

    def read(self, place: int) -> Ids:
        """The tokens of a text."""
        return self.tokens[self.starts[place] : self.starts[place + 1]].astype(np.int64)


class TaughtWriter:
    """Adds texts to a folder; what was added when it was last saved stays, whatever happens."""

    def __init__(self, folder: Path, vocabulary: str) -> None:
        """`vocabulary` tells the student's tokenizer. Raises RunMismatch, RunDamaged."""
        self._folder = folder
        record = read_record(folder)
        self.done = int(record.get("texts", 0))
        self._vocabulary = vocabulary
        self._dimensions = int(record.get("dimensions", 0))
        if self.done and record.get("vocabulary") != vocabulary:
            raise RunMismatch(
                f"{folder} holds texts in the tokens of another vocabulary. Give another --out."
            )
        sizes = record.get("bytes", {})
        self._files = {name: _open_at(folder / name, int(sizes.get(name, 0))) for name in _NAMES}

    def add(self, texts: Sequence[Ids], vectors: npt.NDArray[np.floating]) -> None:
        """Some texts more, and their vectors [N, D]; on the disk before this returns."""
        lengths = np.array([len(text) for text in texts], np.uint16)
        tokens = np.concatenate(texts).astype(np.uint16)
        parts = (tokens, lengths, vectors.astype(np.float16))
        for name, part in zip(_NAMES, parts, strict=True):
            self._files[name].write(part.tobytes())
            self._files[name].flush()
        self.done += len(texts)
        self._dimensions = vectors.shape[1]
        record = {
            "texts": self.done,
            "dimensions": self._dimensions,
            "vocabulary": self._vocabulary,
            "bytes": {name: file.tell() for name, file in self._files.items()},
        }
        write_text(json.dumps(record) + "\n", self._folder / _RECORD)

    def close(self) -> None:
        """Nothing is added after it."""
        for file in self._files.values():
            file.close()


_NAMES = (_TOKENS, _LENGTHS, _VECTORS)


def read_record(folder: Path) -> dict[str, Any]:
    """What is in a folder, empty for nothing. Raises RunDamaged."""
    file = folder / _RECORD
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as damage:
        raise RunDamaged(f"{file} cannot be read ({damage}). Give another --out.") from None
    return found if isinstance(found, dict) else {}


def open_taught(folder: Path, vocabulary: str) -> TaughtTexts:
    """What a writer left in a folder. Raises DataMissing, RunMismatch, RunDamaged."""
    record = read_record(folder)
    count, dimensions = int(record.get("texts", 0)), int(record.get("dimensions", 0))
    if not count:
        raise DataMissing(f"{folder} holds no texts with vectors; `python -m training.teach` does.")
    if record.get("vocabulary") != vocabulary:
        raise RunMismatch(
            f"{folder} holds texts in the tokens of another vocabulary than the run's. Teach anew."
        )
    try:
        lengths = np.fromfile(folder / _LENGTHS, np.uint16, count).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        tokens = np.memmap(folder / _TOKENS, np.uint16, "r", shape=(int(starts[-1]),))
        vectors = np.memmap(folder / _VECTORS, np.float16, "r", shape=(count, dimensions))
    except (OSError, ValueError) as damage:
        raise RunDamaged(f"{folder} is not whole ({damage}). Teach anew.") from damage
    if len(lengths) < count:
        raise RunDamaged(f"{folder} is not whole: {count} texts are told. Teach anew.")
    return TaughtTexts(tokens, starts, vectors)


def describe_vocabulary(tokenizer: Tokenizer) -> str:
    """What tells one tokenizer from another."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()[:16]


def _open_at(file: Path, size: int) -> BinaryIO:
    """A file to be added to, without what was written and not recorded."""
    stream = file.open("r+b" if file.exists() else "w+b")
    stream.truncate(size)
    stream.seek(size)
    return stream
