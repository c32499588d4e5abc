"""Text to token ids, with the tokenizer of the checkpoint: texts, pairs, windows of a pair.

Owns the tokenizer, and what cannot be encoded. The truncation and padding stored in tokenizer.json
are switched off once and never set again, since they are shared between threads: what does not
fit is cut by hand, the way transformers cuts it, by the arithmetic of truncation.py.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Encoding, Tokenizer

from models.errors import (
    BundleDamaged,
    EmptyInput,
    InputTooLong,
    InvalidToken,
    InvalidValue,
)
from models.text.encoded import Encoded, Indices, Origins
from models.text.truncation import Overflow, cut_longest_first, cut_question, place_windows

# These are tokenised within three milliseconds.
_SHORT_CHARACTERS = 4_000


class Encoder:
    """Turns text into ids. Safe to use from several threads at once."""

    def __init__(
        self, tokenizer_file: Path, *, max_tokens: int, vocabulary_size: int, segments: bool
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
        self._segments = segments
        self._special_in_text = self.tokenizer.num_special_tokens_to_add(is_pair=False)
        self._special_in_pair = self.tokenizer.num_special_tokens_to_add(is_pair=True)

    def encode(
        self, text: str, pair: str | None = None, *, overflow: Overflow, origins: bool = False
    ) -> Encoded:
        """The ids of a text or a pair, special tokens included, at most `max_tokens` of them.

        With overflow `truncate` what does not fit is cut at the end, of a pair from the longer
        text first. Raises EmptyInput, InvalidValue, or InputTooLong with overflow `error`.
        """
        whole = self.tokenize(text, pair, special=True)
        special = self._special_in_text if pair is None else self._special_in_pair
        if len(whole) <= special or (pair is not None and len(set(whole.sequence_ids)) < 3):
            self._check_not_empty(text, pair)
        if len(whole) <= self.max_tokens:
            encoded = self._finish(whole)
            return replace(encoded, origins=_trace(whole)) if origins else encoded
        if overflow == "error":
            tokens = len(whole)
            # A traceback would keep it: a gigabyte for a text of a few million tokens.
            del whole
            raise InputTooLong(
                f"the text has {tokens} tokens, the model takes {self.max_tokens}; "
                'shorten it, or send "overflow": "truncate"'
            )
        found = _trace(whole) if origins else _trace_texts(whole)
        first, second = found.places(0), found.places(1)
        room = max(self.max_tokens - special, 0)
        keep_first, keep_second = cut_longest_first(len(first), len(second), room)
        encoded = replace(self._finish(whole), truncated=True)
        cut = encoded.select(found, first[:keep_first], second[:keep_second])
        return cut if origins else replace(cut, origins=None)

    def encode_windows(
        self,
        first: str,
        second: str,
        *,
        window_tokens: int,
        overlap_tokens: int | None = None,
        overflow: Overflow,
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
        encoding = self.tokenize(first, second, special=True)
        origins = _trace(encoding)
        ahead, body = origins.places(0), origins.places(1)
        if not len(ahead) or not len(body):
            self._check_not_empty(first, second)
        space = window_tokens - self._special_in_pair
        kept = ahead[: cut_question(len(ahead), space, overflow)]
        room = space - len(kept)
        starts, left_out = place_windows(
            len(body),
            room,
            window_tokens=window_tokens,
            overlap_tokens=overlap_tokens,
            overflow=overflow,
        )
        truncated = len(kept) < len(ahead) or left_out
        whole = replace(self._finish(encoding), truncated=truncated)
        return [whole.select(origins, kept, body[start : start + room]) for start in starts]

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
            raise InvalidValue(
                "the text is not valid Unicode; it has one half of a surrogate pair"
            ) from None

    def encode_ids(self, ids: Sequence[int], *, overflow: Overflow) -> Encoded:
        """Token ids exactly as given, nothing added. Raises InvalidToken for unknown ones."""
        if not ids:
            raise EmptyInput("the list of token ids is empty; send at least one")
        for place, token in enumerate(ids):
            if not 0 <= token < self.vocabulary_size:
                raise InvalidToken(
                    f"token id {token} at place {place} is outside the model's vocabulary of "
                    f"{self.vocabulary_size}; send text, or ids from this model's own tokenizer"
                )
        truncated = len(ids) > self.max_tokens
        if truncated and overflow == "error":
            raise InputTooLong(
                f"the input has {len(ids)} tokens, the model takes {self.max_tokens}; "
                'shorten it, or send "overflow": "truncate"'
            )
        kept = np.array(ids[: self.max_tokens], dtype=np.int64)
        return Encoded(ids=kept, type_ids=np.zeros_like(kept), truncated=truncated)

    def _finish(self, encoding: Encoding) -> Encoded:
        ids = np.array(encoding.ids, dtype=np.int64)
        type_ids = (
            np.array(encoding.type_ids, dtype=np.int64) if self._segments else np.zeros_like(ids)
        )
        return Encoded(ids=ids, type_ids=type_ids)

    def _check_not_empty(self, text: str, pair: str | None) -> None:
        for part in (text, pair):
            if part is not None and not len(self.tokenize(part)):
                raise EmptyInput(
                    "the text is empty; leave it out, or send at least one word"
                    if not part.strip()
                    else "the text has no tokens the model knows of; send at least one word"
                )


def _trace(encoding: Encoding) -> Origins:
    return Origins(
        texts=_number(encoding.sequence_ids),
        offsets=np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2),
        words=_number(encoding.word_ids),
    )


def _trace_texts(encoding: Encoding) -> Origins:
    """Without offsets and words, which take 100 bytes a token on their way from the tokenizer."""
    tokens = len(encoding)
    return Origins(
        texts=_number(encoding.sequence_ids),
        offsets=np.zeros((tokens, 2), dtype=np.int64),
        words=np.zeros(tokens, dtype=np.int64),
    )


def _number(found: Sequence[int | None]) -> Indices:
    return np.array([-1 if number is None else number for number in found], dtype=np.int64)
