"""Cuts a corpus into the texts of one epoch: single texts, and pairs that do or do not follow.

After Devlin et al. 2018, section 3.1: a pair is two spans of one document, or in half of the
cases a span and one from another document. A second span of as many sentences as the one it
replaces keeps lengths from giving the answer away. A part of the pairs is two single sentences,
as next-sentence prediction is asked in use, and a part of the texts is single, as embeddings and
classification see them.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.text.store import TokenStore

SINGLE_SHARE = 0.2  # of the texts
SENTENCE_PAIR_SHARE = 0.35  # of the texts; the rest are pairs of longer spans
NO_PAIR, FOLLOWS, FOREIGN = -1, 0, 1  # labels as in transformers: 0 is "follows"
_TRIES = 8


@dataclass(frozen=True)
class Texts:
    """Texts as offsets into a store's tokens.

    spans [N,4] int64: begin and end of the first segment and of the second, which is empty in a
    single text. label [N] int8: NO_PAIR, FOLLOWS or FOREIGN. length [N]: with special tokens.
    """

    spans: npt.NDArray[np.int64]
    label: npt.NDArray[np.int8]

    @property
    def length(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, [CLS] and [SEP]s included."""
        inner: npt.NDArray[np.int64] = np.diff(self.spans)[:, [0, 2]].sum(axis=1)
        lengths: npt.NDArray[np.int64] = inner + 2 + (self.label != NO_PAIR)
        return lengths


def cut_texts(store: TokenStore, max_tokens: int, seed: tuple[int, ...]) -> Texts:
    """The texts of one epoch in the order of the corpus, none longer than max_tokens.

    The same seed gives the same texts.
    """
    return _Cutter(store, max_tokens, np.random.default_rng(seed)).cut()


class _Cutter:
    def __init__(self, store: TokenStore, max_tokens: int, rng: np.random.Generator) -> None:
        self.offsets = store.sentences
        self.at: list[int] = store.sentences.tolist()  # lists: scalars of arrays are slow
        self.documents: list[int] = store.documents.tolist()
        self.document_of = np.repeat(
            np.arange(len(self.documents) - 1), np.diff(store.documents)
        ).tolist()
        self.room = max_tokens - 3
        self.rng = rng
        self.spans: list[tuple[int, int, int, int]] = []
        self.label: list[int] = []

    def cut(self) -> Texts:
        for first, end in zip(self.documents, self.documents[1:], strict=False):
            sentence = first
            draws = iter(self.rng.random((end - first, 4)).tolist())
            while sentence < end:
                sentence = self._take(sentence, end, next(draws))
        spans = np.array(self.spans, np.int64).reshape(-1, 4)
        return Texts(spans, np.array(self.label, np.int8))

    def _take(self, start: int, end: int, draw: list[float]) -> int:
        """Adds one text that begins with this sentence; the first sentence it leaves."""
        kind, length, where, answer = draw
        if SINGLE_SHARE <= kind < SINGLE_SHARE + SENTENCE_PAIR_SHARE:
            stop = min(start + 2, end)
            if self.at[stop] - self.at[start] > self.room:
                stop = start + 1
        else:
            # Of all lengths, as texts in use are; it also lets rows be packed full.
            wanted = int(self.room * (0.2 + 0.8 * length))
            stop = start + 1
            while stop < end and self.at[stop + 1] - self.at[start] <= wanted:
                stop += 1
        if kind < SINGLE_SHARE or stop - start == 1:
            self._add_single(start, stop)
            return stop
        middle = start + 1 + int(where * (stop - start - 1))
        if answer < 0.5 or not self._add_foreign(start, middle, stop):
            self._add(start, middle, middle, stop, FOLLOWS)
        return stop

    def _add_single(self, start: int, stop: int) -> None:
        begin = self.at[start]
        self.spans.append((begin, min(self.at[stop], begin + self.room), 0, 0))
        self.label.append(NO_PAIR)

    def _add_foreign(self, start: int, middle: int, stop: int) -> bool:
        """Adds the first span with one of another document; False where none was found."""
        used = self.at[middle] - self.at[start]
        for other in self.rng.integers(len(self.at) - 1, size=_TRIES).tolist():
            document = self.document_of[other]
            if document == self.document_of[start]:
                continue
            last = min(other + stop - middle, self.documents[document + 1])
            while last > other + 1 and self.at[last] - self.at[other] + used > self.room:
                last -= 1
            if self.at[last] - self.at[other] + used <= self.room:
                self._add(start, middle, other, last, FOREIGN)
                return True
        return False

    def _add(self, first: int, first_end: int, second: int, second_end: int, label: int) -> None:
        begin, end = self.at[first], self.at[first_end]
        other, other_end = self.at[second], self.at[second_end]
        self.spans.append((begin, end, other, other_end))
        self.label.append(label)
