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
    InvalidValue,
)
from models.text.boundaries import Boundaries
from models.text.encoded import Encoded
from models.text.reading import Reading, trace, trace_texts
from models.text.runs import Runs, Shortened
from models.text.token_ids import Frame, encode_ids
from models.text.truncation import (
    Overflow,
    Side,
    cut_longest_first,
    cut_question,
    is_settled,
    place_windows,
    refuse_length,
)

# These are tokenised within three milliseconds.
_SHORT_CHARACTERS = 4_000
# So many are read at first for each token that may stay; a word of English has five.
_CHARACTERS_A_TOKEN = 8
# Tokens that are refused are counted in so many characters, in more only where these fit.
_COUNTED_CHARACTERS = 100_000
# Of these a normalizer may leave nothing; none is a part of what stands behind it (UAX 29).
_CONTROLS = frozenset(
    map(chr, (*range(0x09), *range(0x0E, 0x20), *range(0x7F, 0xA0), 0xAD, 0xFEFF))
)
# By how much more is read where that was not enough.
_GROWTH = 4


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
        long = len(text) + (0 if pair is None else len(pair)) > _SHORT_CHARACTERS
        if long:
            read = self._read(self._as_parts(text, pair), side or self.truncation_side, overflow)
        elif text[:1] in _CONTROLS or (pair or "")[:1] in _CONTROLS:
            read = self._read_whole(self._as_parts(text, pair))
        found = self.tokenize(text, pair, special=True) if read is None else read.encoding
        special = self._special_in_text if pair is None else self._special_in_pair
        empty = pair is not None and not {0, 1} <= set(found.sequence_ids)
        if len(found) <= special or empty:
            texts = (part.text for part in read.parts) if read and long else (text, pair)
            self._check_not_empty(*texts)
        if len(found) <= self.max_tokens:
            encoded = self._finish(found)
            if not origins:
                return encoded
            return replace(encoded, origins=trace(found) if read is None else read.trace())
        read = read or Reading.whole_of(found, self._as_parts(text, pair))
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
    def _boundaries(self) -> Boundaries | None:
        return Boundaries.of(self.tokenizer)

    @cached_property
    def _frame(self) -> Frame:
        return Frame.of(self.tokenizer)

    @cached_property
    def _runs(self) -> Runs | None:
        return Runs.of(self.tokenizer)

    def _read(self, parts: tuple[Shortened, ...], side: Side, overflow: Overflow) -> Reading:
        """The tokens of a long text or pair, or enough of them to say what stays and what does not.

        Each part is read from that side, to where a word ends whatever follows: there are such
        boundaries in almost every text. One without is read whole, but for the middle of long runs.
        """
        size = max(_CHARACTERS_A_TOKEN * self.max_tokens, _SHORT_CHARACTERS // 2)
        if overflow == "error":
            size = max(size, _COUNTED_CHARACTERS)
        shortened = False
        while self._boundaries is not None and size < max(len(part.text) for part in parts):
            spans = [self._boundaries.cut(part.text, size, side) for part in parts]
            known = tuple(span for span in spans if span is not None)
            if len(known) == len(parts):
                read = Reading(self._tokenize_spans(parts, known), parts, known)
                if self._is_enough(read, overflow):
                    return read
            if not shortened and self._runs is not None:
                runs, shortened = self._runs, True
                parts = tuple(runs.shorten(part.text, part.removed[0]) for part in parts)
                continue
            # Of a pair it is then open which text is the longer one: the other is read whole.
            shorter = min(len(part.text) for part in parts) if len(parts) == 2 else 0
            size = max(size * _GROWTH, shorter)
        return self._read_whole(parts)

    def _read_whole(self, parts: tuple[Shortened, ...]) -> Reading:
        texts = (part.text for part in parts)
        return Reading.whole_of(self.tokenize(*texts, special=True), parts)

    def _as_parts(self, *texts: str | None) -> tuple[Shortened, ...]:
        """The texts as they were sent, without the characters ahead that would shift all others."""
        return tuple(self._leave_out_ahead(text) for text in texts if text is not None)

    def _leave_out_ahead(self, text: str) -> Shortened:
        body = text
        if text[:1] in _CONTROLS:
            body = text.lstrip(self._shifting) if self._shifting else text
        return Shortened(body, len(text), removed=(len(text) - len(body),))

    @cached_property
    def _shifting(self) -> str:
        """The characters that, ahead of a text, are dropped, and still told as those of its tokens.

        By normalizers of sentencepiece's map, whose words the tokenizers library (0.23) then counts
        from 0.
        """
        probe = "{0}{0}a a"
        return "".join(
            each
            for each in sorted(_CONTROLS)
            if (found := self.tokenizer.encode(probe.format(each), add_special_tokens=False))
            and found.offsets
            and found.offsets[-1][1] < len(probe.format(each))
        )

    def _tokenize_spans(
        self, parts: tuple[Shortened, ...], spans: tuple[tuple[int, int], ...]
    ) -> Encoding:
        for part in parts:
            _check_unicode(part.text)
        cut = (part.text[start:end] for part, (start, end) in zip(parts, spans, strict=True))
        return self.tokenize(*cut, special=True)

    def _is_enough(self, read: Reading, overflow: Overflow) -> bool:
        """Whether what has not been read cannot change what stays."""
        if len(read.encoding) <= self.max_tokens:
            return False
        if overflow == "error" or len(read.parts) == 1:
            return True
        texts = read.encoding.sequence_ids
        room = max(self.max_tokens - self._special_in_pair, 0)
        first, second = read.whole
        return is_settled((texts.count(0), texts.count(1)), (first, second), room)

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
        read = self._read_whole(self._as_parts(first, second))
        encoding, origins = read.encoding, read.trace()
        ahead, body = origins.places(0), origins.places(1)
        if not len(ahead) or not len(body):
            self._check_not_empty(first, second)
        space = window_tokens - self._special_in_pair
        count = cut_question(len(ahead), space, overflow)
        side = side or self.truncation_side
        kept = ahead[:count] if side == "right" else ahead[len(ahead) - count :]
        room = space - count
        starts, _ = place_windows(
            len(body),
            room,
            window_tokens=window_tokens,
            overlap_tokens=overlap_tokens,
            overflow=overflow,
        )
        at = (
            read.find_end(0, ahead, kept, side),
            read.find_end(1, body, body[: starts[-1] + room], "right"),
        )
        whole = replace(self._finish(encoding), truncated_at=None if at == (None, None) else at)
        return [whole.select(origins, kept, body[start : start + room]) for start in starts]

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
        read = self._read_whole(self._as_parts(prompt + text))
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
            pair=False,
        )
        last = body[: starts[-1] + room][-1]
        at = int(origins.offsets[last, 1]) if left_out else None
        whole = replace(self._finish(encoding), truncated_at=at)
        return [whole.select(origins, body[start : start + room], body[:0]) for start in starts]

    def tokenize(self, text: str, pair: str | None = None, *, special: bool = False) -> Encoding:
        """All the tokens of a text or a pair. Raises InvalidValue for half a surrogate pair.

        Other threads go on meanwhile, unless it is a short text.
        """
        try:
            if len(text) + len(pair or "") <= _SHORT_CHARACTERS:
                return self.tokenizer.encode(text, pair, add_special_tokens=special)
            # `encode` keeps the interpreter to itself, seconds for a text of megabytes.
            whole = text if pair is None else (text, pair)
            return self.tokenizer.encode_batch([whole], add_special_tokens=special)[0]
        except TypeError:
            raise _refuse_surrogate() from None
        except BaseException as error:
            # Rust's own end of a thread comes as no Exception, which nobody would take for one.
            if type(error).__module__ != "pyo3_runtime":
                raise
            raise RuntimeError(f"the tokenizer broke down: {error}") from None

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


def _check_unicode(text: str) -> None:
    """Raise InvalidValue for half a surrogate pair, also where nobody would read it."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _refuse_surrogate() from None


def _refuse_surrogate() -> InvalidValue:
    return InvalidValue("the text is not valid Unicode; it has one half of a surrogate pair")
