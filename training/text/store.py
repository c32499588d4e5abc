"""The corpus as three arrays: tokens one after another, where sentences and documents begin.

Made once and kept beside the run, so that a resumed run starts in a second. The arrays are
memory-mapped: a corpus larger than memory trains too.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.errors import DataMissing, DataTooSmall, RunMismatch
from training.text.documents import read_documents
from training.text.sentences import split_sentences

MAX_SENTENCE_TOKENS = 96  # longer ones, mostly lists, go on as a sentence of their own
_DOCUMENTS_AT_A_TIME = 200


@dataclass(frozen=True)
class TokenStore:
    """A tokenised corpus: sentence s is tokens[sentences[s]:sentences[s+1]], and likewise up.

    tokens [T] uint16; sentences [S+1] offsets into tokens; documents [D+1] offsets into sentences.
    """

    tokens: npt.NDArray[np.uint16]
    sentences: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]


def prepare_store(
    files: tuple[Path, ...],
    tokenizer: Tokenizer,
    directory: Path,
    report: Callable[[int, int], None] = lambda _done, _all: None,
    *,
    begun: bool = False,
) -> TokenStore:
    """The tokens of files of documents; read from `directory` if made there before from the same.

    `report` is told files done and files in all. Where a run has begun, other files than it began
    with are a RunMismatch. Raises DataMissing, DataDamaged, DataTooSmall.
    """
    fingerprint = _fingerprint(files, tokenizer)
    marker = directory / "store.json"
    if marker.exists() and json.loads(marker.read_text())["fingerprint"] == fingerprint:
        return open_store(directory)
    if begun:
        raise RunMismatch(
            f"{directory.parent} holds a run over other text than {files[0]} and the others hold "
            "now. Resume it with the files it began with, or give another --out."
        )
    staging = directory.with_name(directory.name + ".new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    store = _tokenize(files, tokenizer, report)
    for name in ("tokens", "sentences", "documents"):
        np.save(staging / f"{name}.npy", getattr(store, name))
    (staging / "store.json").write_text(json.dumps({"fingerprint": fingerprint}))
    shutil.rmtree(directory, ignore_errors=True)
    staging.replace(directory)
    return open_store(directory)


def tokenize_documents(documents: Iterable[list[str]], tokenizer: Tokenizer) -> TokenStore:
    """The tokens of documents given as lists of paragraphs; long sentences are cut in pieces."""
    tokens: list[npt.NDArray[np.uint16]] = []
    sentence_lengths: list[int] = []
    sentence_counts: list[int] = []
    source = iter(documents)
    while block := list(islice(source, _DOCUMENTS_AT_A_TIME)):
        texts = [[s for paragraph in one for s in split_sentences(paragraph)] for one in block]
        flat = [sentence for one in texts for sentence in one]
        encoded = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
        for one in texts:
            before = len(sentence_lengths)
            for _ in one:
                for piece in _cut(next(encoded).ids):
                    tokens.append(np.array(piece, np.uint16))
                    sentence_lengths.append(len(piece))
            sentence_counts.append(len(sentence_lengths) - before)
    return TokenStore(
        tokens=np.concatenate(tokens) if tokens else np.zeros(0, np.uint16),
        sentences=_offsets(sentence_lengths),
        documents=_offsets([count for count in sentence_counts if count]),
    )


def _tokenize(
    files: tuple[Path, ...], tokenizer: Tokenizer, report: Callable[[int, int], None]
) -> TokenStore:
    def read() -> Iterator[list[str]]:
        for done, path in enumerate(files):
            report(done, len(files))
            yield from read_documents(path)
        report(len(files), len(files))

    store = tokenize_documents(read(), tokenizer)
    documents = len(store.documents) - 1
    if documents < 2 or not np.any(np.diff(store.documents) >= 2):
        raise DataTooSmall(
            f"The corpus has {documents} document(s) with text. Next-sentence prediction needs at "
            "least two documents, and one with two sentences: a sentence that follows, and one "
            "that does not."
        )
    return store


def open_store(directory: Path) -> TokenStore:
    """The store that prepare_store left in a directory, memory-mapped. Raises DataMissing."""
    if not (directory / "store.json").exists():
        raise DataMissing(f"{directory} holds no tokenised corpus; a finished pretrain run does.")
    arrays = {
        name: np.load(directory / f"{name}.npy", mmap_mode="r")
        for name in ("tokens", "sentences", "documents")
    }
    return TokenStore(**arrays)


def _cut(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), MAX_SENTENCE_TOKENS):
        yield ids[start : start + MAX_SENTENCE_TOKENS]


def _offsets(lengths: list[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _fingerprint(files: tuple[Path, ...], tokenizer: Tokenizer) -> str:
    digest = hashlib.sha256(tokenizer.to_str().encode())
    for path in files:
        with path.open("rb") as data:
            digest.update(hashlib.file_digest(data, "sha256").digest())
    return digest.hexdigest()
