"""Words by what their vectors say, before any context: nearest ones, and sums of them.

kitten + dog - puppy: each asked word as a vector of length 1, those of `positive` added and those
of `negative` taken away, and the tokens whose vectors point most nearly the same way, as gensim's
`most_similar` does it (Mikolov et al. 2013). The vectors are the rows of the trunk's table of
words, mapped from its file and read a few thousand at a time; kept are their lengths alone. A word
of several pieces is the mean of their vectors, where gensim would refuse it.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle.bundle import Bundle
from models.bundle.manifest import find_trunk
from models.derived.graph_file import GraphFile
from models.errors import CallerError, EmptyInput, InvalidValue, TaskUnsupported
from models.lens.graph import Tensor
from models.lens.taps import find_words
from models.text.encoder import Encoder
from models.text.listing import check_list

Floats = NDArray[np.float32]

DEFAULT_TOP_K, MAX_TOP_K = 10, 1000
# Longer than any word; how many pieces it has takes a while to find out.
_WORD_CHARACTERS = 1_000
# Read and computed at a time: some megabytes.
_ROWS = 4096
# Rows that vocabularies keep free for their users.
_UNUSED = re.compile(r"\[unused_?\d+\]|<unused_?\d+>|madeupword\d+|<extra_id_\d+>|.*NOTUSED")
# What a byte-level token decodes to that is no whole character.
_BROKEN = "\ufffd"
# By onnx's numbers: fp32, fp16, bf16, the last of which numpy has no name for.
_FP32, _FP16, _BF16 = 1, 10, 16
_TYPES: dict[int, Any] = {_FP32: np.float32, _FP16: np.float16, _BF16: np.uint16}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A token of the vocabulary, and the cosine of its vector."""

    token: str
    score: float


@dataclass(frozen=True, slots=True)
class _Table:
    """The vectors of words as they lie in their file, and the length of each."""

    rows: NDArray[Any]
    lengths: Floats

    def read(self, start: int, stop: int) -> Floats:
        """Rows `start : stop`, widened."""
        return _widen(self.rows[start:stop])

    def take(self, ids: Sequence[int]) -> Floats:
        """The rows of these tokens."""
        return _widen(self.rows[np.array(ids, np.int64)])


class WordVectors:
    """The words of a bundle. Nothing is opened before it is first asked; thread-safe."""

    def __init__(self, bundle: Bundle, encoder: Encoder) -> None:
        precisions = bundle.manifest.precisions
        precision = "fp32" if "fp32" in precisions else precisions[0]
        self._manifest = bundle.manifest
        self._file = GraphFile(bundle, find_trunk(bundle.manifest, precision))
        self._tokenizer = encoder.tokenizer
        self._encoder = encoder
        self._table: _Table | None = None
        self._opening = threading.Lock()
        self._marker: str = getattr(self._tokenizer.model, "continuing_subword_prefix", "") or ""
        self._unknown = bundle.manifest.special_tokens.get("unk")

    def find_nearest(
        self,
        positive: Sequence[str],
        negative: Sequence[str] = (),
        *,
        top_k: int = DEFAULT_TOP_K,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[list[Neighbour], int]:
        """The tokens nearest to the sum, best first, and how many tokens the asked words have.

        Special tokens, unused ones and the asked words with their pieces are left out, and of
        tokens that read the same all but the best. `check` is called now and then, to raise where
        nobody waits any more. Raises EmptyInput and InvalidValue, naming the word.
        """
        if not 1 <= top_k <= MAX_TOP_K:
            raise InvalidValue(f"{top_k} is outside 1 to {MAX_TOP_K}", param="top_k")
        check_list(positive, "word", param="positive")
        check_list(negative, "word", param="negative")
        if not positive and not negative:
            raise EmptyInput("there is no word; send at least one", param="positive")
        asked = []
        for sign, field, words in ((1, "positive", positive), (-1, "negative", negative)):
            for place, word in enumerate(words):
                check()
                asked.append((sign, word, self._split(word, field, place)))
        table = self._open(check)
        wanted = self._add(table, asked)
        scores = np.empty(len(table.rows), np.float32)
        for start, stop in _divide(len(scores)):
            check()
            np.matmul(table.read(start, stop), wanted, out=scores[start:stop])
        # A row of zeros points nowhere.
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.where(table.lengths > 0, scores / table.lengths, -np.inf)
        pieces = [piece for _, _, ids in asked for piece in ids]
        return self._choose(scores, top_k, asked), len(pieces)

    def _split(self, word: str, field: str, place: int) -> list[int]:
        """The pieces of a word, as it stands in running text."""
        try:
            if len(word) > _WORD_CHARACTERS:
                raise InvalidValue(f"{len(word)} characters are no word; send a shorter one")
            if not word.strip():
                raise EmptyInput("the word is empty; leave it out")
            # After a space, which byte-level tokens carry themselves.
            written = (f" {word.strip()}", word.strip())
            found = [self._encoder.tokenize(each).ids for each in written]
            ids = next((each for each in found if len(each) == 1), found[0])
            if self._unknown is not None and self._unknown.id in ids:
                raise InvalidValue(f"{word!r} has no token in the model's vocabulary; leave it out")
            if not ids:
                raise EmptyInput(f"{word!r} has no token; leave it out")
        except CallerError as error:
            raise error.at(field, place) from None
        return list(ids)

    def _add(self, table: _Table, asked: Sequence[tuple[int, str, list[int]]]) -> Floats:
        """The sum of the words, of length 1."""
        total = np.zeros(table.rows.shape[1], np.float64)
        for sign, word, ids in asked:
            vector = table.take(ids).mean(axis=0, dtype=np.float64)
            length = np.linalg.norm(vector)
            if not length:
                raise InvalidValue(f"the vector of {word!r} is zero; leave it out")
            total += sign * vector / length
        length = np.linalg.norm(total)
        if length < 1e-6:
            raise InvalidValue("the words cancel each other out; send others", param="negative")
        return (total / length).astype(np.float32)

    def _choose(
        self, scores: Floats, top_k: int, asked: Sequence[tuple[int, str, list[int]]]
    ) -> list[Neighbour]:
        """The best of those that are told of."""
        added = self._tokenizer.get_added_tokens_decoder()
        left_out = {id_ for id_, token in added.items() if token.special}
        left_out |= {token.id for token in self._manifest.special_tokens.values()}
        left_out |= {piece for _, _, ids in asked for piece in ids}
        seen = {"", *(word.strip() for _, word, _ in asked)}
        seen |= {self._show(ids[0]) for _, _, ids in asked if len(ids) == 1}
        nearest: list[Neighbour] = []
        for id_ in _rank(scores, top_k + len(left_out)):
            if len(nearest) == top_k or scores[id_] == -np.inf:
                break
            token = "" if id_ in left_out else self._show(id_)
            if token not in seen:
                seen.add(token)
                nearest.append(Neighbour(token, float(np.clip(scores[id_], -1.0, 1.0))))
        return nearest

    def _show(self, id_: int) -> str:
        """A token without its space or marker, as fill-mask shows it; empty for what is none."""
        token: str | None = self._tokenizer.id_to_token(id_)
        if token is None or _UNUSED.fullmatch(token):
            return ""
        if self._marker:
            return token.removeprefix(self._marker)
        shown: str = self._tokenizer.decode([id_], skip_special_tokens=False)
        return "" if _BROKEN in shown else shown.strip()

    def _open(self, check: Callable[[], None]) -> _Table:
        with self._opening:
            if self._table is None or self._file.changed:
                self._table = None
                rows = self._map()
                lengths = np.empty(len(rows), np.float32)
                for start, stop in _divide(len(rows)):
                    check()
                    part = _widen(rows[start:stop])
                    lengths[start:stop] = np.sqrt(np.einsum("ij,ij->i", part, part))
                self._table = _Table(rows, lengths)
            return self._table

    def _map(self) -> NDArray[Any]:
        """The table, mapped from its file."""
        name = self._manifest.name
        with self._file.open() as graph:
            found = find_words(graph, self._manifest.vocabulary_size)
            if found is None or not _is_whole(found):
                raise TaskUnsupported(
                    f"the graph of model {name!r} has no table of words; ask another one",
                    param="model",
                )
            file = self._file.bundle.file(found.file or self._file.name)
            return np.memmap(file, _TYPES[found.type], "r", offset=found.start, shape=found.shape)


def _is_whole(table: Tensor) -> bool:
    """Whether its numbers are there, and of a kind that can be read."""
    kind = _TYPES.get(table.type)
    return kind is not None and table.length == np.prod(table.shape) * np.dtype(kind).itemsize


def _widen(rows: NDArray[Any]) -> Floats:
    """A copy of the rows in fp32. The upper half of an fp32 is a bf16."""
    if rows.dtype == np.uint16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return np.array(rows, np.float32)


def _divide(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, _ROWS):
        yield start, min(start + _ROWS, count)


def _rank(scores: Floats, first: int) -> Iterator[int]:
    """The places by score, best first, equal ones in order; as many as `first` for little."""
    told: set[int] = set()
    for count in (min(first, len(scores)), len(scores)):
        best = np.argpartition(-scores, count - 1)[:count]
        best = best[np.lexsort((best, -scores[best]))]
        yield from (place for place in best.tolist() if place not in told)
        told.update(best.tolist())
