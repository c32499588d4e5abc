"""Text to token ids, with the tokenizer of the checkpoint: texts, pairs, windows of a pair.

Owns the tokenizer, and what cannot be encoded. The truncation and padding stored in tokenizer.json
are switched off once and never set again, since they are shared between threads: what does not
fit is cut by hand, the way transformers cuts it, by the arithmetic of truncation.py. Of a long text
no more is read than what stays of it, and what tells that more is there.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Encoding, Tokenizer

from models.errors import (
    BundleDamaged,
    EmptyInput,
    InputTooLong,
)
from models.text.encoded import Encoded
from models.text.reader import CONTROLS, Reader, is_long
from models.text.reading import Reading, trace, trace_texts
from models.text.token_ids import Frame, encode_ids
from models.text.truncation import (
    MAX_WINDOWS,
    Overflow,
    Side,
    cut_longest_first,
    cut_question,
    place_windows,
    refuse_length,
)


class Encoder:
    """Turns text into ids. Safe to use from several threads at once."""

    def __init__(
        self,
        tokenizer_file: Path,
        *,
        max_tokens: int,
        vocabulary_size: int,
        segments: bool,
        truncation_side: Side = "right",
    ) -> None:
        try:
            self.tokenizer: Tokenizer = Tokenizer.from_file(str(tokenizer_file))
        except Exception as error:
            raise BundleDamaged(
                f"{tokenizer_file} cannot be loaded by tokenizers {tokenizers.__version__}: {error}"
            ) from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.max_tokens = max_tokens
        self.vocabulary_size = vocabulary_size
        self.truncation_side = truncation_side
        self._segments = segments
        self._special_in_text = self.tokenizer.num_special_tokens_to_add(is_pair=False)
        self._special_in_pair = self.tokenizer.num_special_tokens_to_add(is_pair=True)

    def limit(self, max_tokens: int | None) -> "Encoder":
        """One with the same tokenizer for texts of so many tokens, where that is less."""
        if max_tokens is None or max_tokens >= self.max_tokens:
            return self
        limited = copy(self)
        limited.max_tokens = max_tokens
        return limited

    @property
    def room(self) -> int:
        """How many tokens of one text fit, besides the special ones."""
        return max(self.max_tokens - self._special_in_text, 0)

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        overflow: Overflow,
        side: Side | None = None,
        origins: bool = False,
    ) -> Encoded:
        """The ids of a text or a pair, special tokens included, at most `max_tokens` of them.

        With overflow `truncate` what does not fit is cut at the end, or at the beginning where
        `side` or else the checkpoint says `left`; of a pair from the longer text first. Raises
        EmptyInput, InvalidValue, or InputTooLong with overflow `error`.
        """
        read = None
        special = self._special_in_text if pair is None else self._special_in_pair
        long = is_long(text, pair)
        if long:
            read = self._reader.read_enough(
                self._reader.as_parts(text, pair),
                side or self.truncation_side,
                overflow,
                max_tokens=self.max_tokens,
                special=special,
            )
        elif text[:1] in CONTROLS or (pair or "")[:1] in CONTROLS:
            read = self._reader.read_whole(self._reader.as_parts(text, pair))
        found = self.tokenize(text, pair, special=True) if read is None else read.encoding
        empty = pair is not None and not {0, 1} <= set(found.sequence_ids)
        if len(found) <= special or empty:
            texts = (part.text for part in read.parts) if read and long else (text, pair)
            self._check_not_empty(*texts)
        if len(found) <= self.max_tokens:
            encoded = self._finish(found)
            if not origins:
                return encoded
            return replace(encoded, origins=trace(found) if read is None else read.trace())
        read = read or Reading.whole_of(found, self._reader.as_parts(text, pair))
        if overflow == "error":
            tokens = f"{'' if all(read.whole) else 'more than '}{len(found)}"
            # A traceback would keep it: a gigabyte for a text of a few million tokens.
            del found, read
            raise refuse_length("text", tokens, self.max_tokens)
        return self._truncate(read, side or self.truncation_side, special, origins=origins)

    def _truncate(self, read: Reading, side: Side, special: int, *, origins: bool) -> Encoded:
        """What stays of a text or a pair that has more tokens than the model takes."""
        found = read.trace() if origins else trace_texts(read.encoding)
        texts = found.places(0), found.places(1)
        room = max(self.max_tokens - special, 0)
        counts = cut_longest_first(len(texts[0]), len(texts[1]), room)
        first, second = (
            places[:count] if side == "right" else places[len(places) - count :]
            for places, count in zip(texts, counts, strict=True)
        )
        at = read.find_cut(texts, (first, second), side)
        encoded = replace(self._finish(read.encoding), truncated_at=at)
        cut = encoded.select(found, first, second)
        return cut if origins else replace(cut, origins=None)

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.tokenizer)

    @cached_property
    def _frame(self) -> Frame:
        return Frame.of(self.tokenizer)

    def encode_windows(
        self,
        first: str,
        second: str,
        *,
        window_tokens: int,
        overlap_tokens: int | None = None,
        overflow: Overflow,
        side: Side | None = None,
    ) -> list[Encoded]:
        """A pair as sequences of at most `window_tokens`, each with its origins.

        Each has the whole first text and a window of the second; a window begins `overlap_tokens`
        before the last one ended, by the rule of the tokenizers library's stride. Left out, it is
        the least of 128, half of `window_tokens`, and, where the first text leaves no more room
        than that, half of the room.

        Raises EmptyInput; InvalidValue for an overlap as long as a window; InputTooLong where the
        first text leaves no room, or there were more than `MAX_WINDOWS`. With overflow `truncate`
        the first text is cut instead, and what lies after the last of so many windows is left out.
        """
        side = side or self.truncation_side
        space = window_tokens - self._special_in_pair
        read = self._read_pair(first, second, window_tokens, side, overflow)
        encoding, origins = read.encoding, read.trace()
        ahead, body = origins.places(0), origins.places(1)
        if not len(ahead) or not len(body):
            self._check_not_empty(first, second)
        count = cut_question(len(ahead), space, overflow, window_tokens)
        kept = ahead[:count] if side == "right" else ahead[len(ahead) - count :]
        room = space - count
        starts, _ = place_windows(
            len(body),
            room,
            window_tokens=window_tokens,
            overlap_tokens=overlap_tokens,
            overflow=overflow,
            more=not read.whole[1],
        )
        at = (
            read.find_end(0, ahead, kept, side),
            read.find_end(1, body, body[: starts[-1] + room], "right"),
        )
        whole = replace(self._finish(encoding), truncated_at=None if at == (None, None) else at)
        return [whole.select(origins, kept, body[start : start + room]) for start in starts]

    def _read_pair(
        self, first: str, second: str, window_tokens: int, side: Side, overflow: Overflow
    ) -> Reading:
        """A pair as far as there are windows for it. Raises InputTooLong for a long first text."""
        space = window_tokens - self._special_in_pair
        parts = self._reader.as_parts(first, second)
        ahead = (0, len(parts[0].text))
        if is_long(first):
            read = self._reader.read_enough(
                parts[:1],
                side,
                overflow,
                max_tokens=space + self._special_in_text,
                special=self._special_in_text,
            )
            tokens = len(read.encoding) - self._special_in_text
            cut_question(tokens, space, overflow, window_tokens, more=not read.whole[0])
            parts, ahead = (read.parts[0], parts[1]), read.spans[0]
        most = (MAX_WINDOWS + 1) * space + ahead[1] - ahead[0]
        return self._reader.read_at_most(parts, most, ahead=(ahead,))

    def read(self, text: str, *, most: int | None = None, special: bool = False) -> Reading:
        """All the tokens of a text, or more than `most`. Raises InvalidValue as `tokenize`."""
        parts = self._reader.as_parts(text)
        most = len(text) if most is None else most
        return self._reader.read_at_most(parts, most, special=special)

    def split(
        self, text: str, *, overlap_tokens: int, overflow: Overflow, prompt: str = ""
    ) -> list[Encoded]:
        """A text as sequences of at most `max_tokens`, each with its origins.

        A window begins `overlap_tokens` before the last one ended, as the tokenizers library's
        stride has it; the prompt stands before each, and its tokens are none of any text's.

        Raises EmptyInput; InvalidValue for an overlap as long as a window, or a prompt that leaves
        no room; InputTooLong for more than `MAX_WINDOWS`, after which with overflow `truncate` the
        rest is left out.
        """
        most = (MAX_WINDOWS + 1) * self.max_tokens
        read = self._reader.read_at_most(self._reader.as_parts(prompt + text), most)
        encoding, origins = read.encoding, read.trace()
        if prompt:
            origins.offsets[origins.texts == 0] -= len(prompt)
            origins.texts[origins.offsets[:, 1] <= 0] = -1
            np.maximum(origins.offsets, 0, out=origins.offsets)
        body = origins.places(0)
        if not len(body):
            self._check_not_empty(text)
        ahead = len(encoding) - len(body) - self._special_in_text
        room = self.room - ahead
        if room < 1:
            raise InputTooLong(
                f"the prompt has {ahead} tokens and fills all of the {self.max_tokens} that "
                "the model takes; ask for another one"
            )
        starts, left_out = place_windows(
            len(body),
            room,
            window_tokens=self.max_tokens,
            overlap_tokens=overlap_tokens,
            overflow=overflow,
            more=not read.whole[0],
            pair=False,
        )
        last = body[: starts[-1] + room][-1]
        at = int(origins.offsets[last, 1]) if left_out else None
        whole = replace(self._finish(encoding), truncated_at=at)
        return [whole.select(origins, body[start : start + room], body[:0]) for start in starts]

    def tokenize(self, text: str, pair: str | None = None, *, special: bool = False) -> Encoding:
        """All the tokens of a text or a pair. Raises InvalidValue for half a surrogate pair."""
        return self._reader.tokenize(text, pair, special=special)

    def encode_ids(
        self,
        ids: Sequence[int],
        *,
        overflow: Overflow,
        side: Side | None = None,
        special: bool | None = None,
    ) -> Encoded:
        """Token ids exactly as given, nothing added; with `special` see token_ids.encode_ids."""
        return encode_ids(
            ids,
            Frame() if special is None else self._frame,
            special=special,
            vocabulary_size=self.vocabulary_size,
            max_tokens=self.max_tokens,
            side=None if overflow == "error" else side or self.truncation_side,
        )

    def _finish(self, encoding: Encoding) -> Encoded:
        ids = np.array(encoding.ids, dtype=np.int64)
        type_ids = (
            np.array(encoding.type_ids, dtype=np.int64) if self._segments else np.zeros_like(ids)
        )
        return Encoded(ids=ids, type_ids=type_ids)

    def _check_not_empty(self, text: str, pair: str | None = None) -> None:
        for place, part in enumerate((text, pair)):
            if part is not None and not len(self.tokenize(part)):
                which = "text" if pair is None else f"{('first', 'second')[place]} text of the pair"
                raise EmptyInput(
                    f"the {which} is empty; leave it out, or send at least one word"
                    if not part.strip()
                    else f"the {which} has no tokens the model knows of; send at least one word"
                )
