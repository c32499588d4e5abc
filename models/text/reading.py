"""What was read of a text or a pair: its tokens, and of which of its characters they are.

Owns where they come from, in characters of the text as it was given. Decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from tokenizers import Encoding

from models.text.encoded import Cut, Indices, Origins
from models.text.runs import Shortened
from models.text.truncation import Side


@dataclass(frozen=True, slots=True)
class Reading:
    """The tokens of one or two texts, of each of them those between two of its characters."""

    encoding: Encoding
    parts: tuple[Shortened, ...]
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def whole_of(cls, encoding: Encoding, parts: tuple[Shortened, ...]) -> Self:
        """All of the texts."""
        return cls(encoding, parts, tuple((0, len(part.text)) for part in parts))

    @property
    def whole(self) -> tuple[bool, ...]:
        """Which of the texts were read whole."""
        return tuple(
            span == (0, len(part.text)) for span, part in zip(self.spans, self.parts, strict=True)
        )

    def trace(self) -> Origins:
        """Where each token comes from."""
        origins = trace(self.encoding, [start for start, _ in self.spans])
        for text, part in enumerate(self.parts):
            if part.seams or part.removed[0]:
                own = origins.texts == text
                origins.offsets[own] = part.locate(origins.offsets[own])
        return origins

    def find_cut(
        self, texts: tuple[Indices, Indices], kept: tuple[Indices, Indices], side: Side
    ) -> Cut | None:
        """Where the texts are cut of whose tokens, at these places, only the kept ones stay."""
        first = self.find_end(0, texts[0], kept[0], side)
        if len(self.parts) == 1:
            return first
        second = self.find_end(1, texts[1], kept[1], side)
        return None if first is None and second is None else (first, second)

    def find_end(self, text: int, tokens: Indices, kept: Indices, side: Side) -> int | None:
        """The same of one text; None where nothing of it is cut."""
        if len(kept) == len(tokens) and self.whole[text]:
            return None
        if not len(kept):
            return 0 if side == "right" else self.parts[text].length
        # One by one: all the offsets take 100 bytes a token on their way from the tokenizer.
        token = int(kept[-1] if side == "right" else kept[0])
        found = self.encoding.token_to_chars(token)
        assert found is not None  # it is no special token
        place = found[1] if side == "right" else found[0]
        return int(self.parts[text].locate(np.array(place + self.spans[text][0], np.int64)))


def trace(encoding: Encoding, starts: Sequence[int] = (0,)) -> Origins:
    """Where each token comes from, if reading began at these characters of the texts."""
    texts = _number(encoding.sequence_ids)
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    for text, start in enumerate(starts):
        if start:
            offsets[texts == text] += start
    return Origins(texts=texts, offsets=offsets, words=_number(encoding.word_ids))


def trace_texts(encoding: Encoding) -> Origins:
    """The same without offsets and words, for long texts of which neither is asked."""
    tokens = len(encoding)
    return Origins(
        texts=_number(encoding.sequence_ids),
        offsets=np.zeros((tokens, 2), dtype=np.int64),
        words=np.zeros(tokens, dtype=np.int64),
    )


def _number(found: Sequence[int | None]) -> Indices:
    return np.array([-1 if number is None else number for number in found], dtype=np.int64)
