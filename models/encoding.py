"""Text to token ids, with the tokenizer of the checkpoint: pairs, lengths, truncation, offsets.

Owns the tokenizer and what is too long. The truncation and padding stored in tokenizer.json are
switched off once and never set again, since they are shared between threads: what does not fit is
cut by hand, the way transformers cuts it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from models.errors import BundleDamaged, EmptyInput, InputTooLong, InvalidToken, InvalidValue

Overflow = Literal["error", "truncate"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text (or pair) as the trunk takes it: ids and segment ids [tokens], both int64."""

    ids: NDArray[np.int64]
    type_ids: NDArray[np.int64]
    truncated: bool = False


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

    def encode(self, text: str, pair: str | None = None, *, overflow: Overflow) -> Encoded:
        """The ids of a text or a pair, special tokens included, at most `max_tokens` of them.

        With overflow `truncate` what does not fit is cut at the end, of a pair from the longer
        text first. Raises EmptyInput, InvalidValue, or InputTooLong with overflow `error`.
        """
        whole = self.tokenize(text, pair, special=True)
        special = self._special_in_text if pair is None else self._special_in_pair
        if len(whole) <= special or (pair is not None and len(set(whole.sequence_ids)) < 3):
            self._check_not_empty(text, pair)
        if len(whole) <= self.max_tokens:
            return self._finish(whole, truncated=False)
        if overflow == "error":
            raise InputTooLong(
                f"the text has {len(whole)} tokens, the model takes {self.max_tokens}; "
                'shorten it, or send "overflow": "truncate"'
            )
        return self._finish(self._truncate(text, pair, self.max_tokens - special), truncated=True)

    def tokenize(self, text: str, pair: str | None = None, *, special: bool = False) -> Encoding:
        """All the tokens of a text or a pair. Raises InvalidValue for half a surrogate pair."""
        try:
            return self.tokenizer.encode(text, pair, add_special_tokens=special)
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

    def _finish(self, encoding: Encoding, *, truncated: bool) -> Encoded:
        ids = np.array(encoding.ids, dtype=np.int64)
        type_ids = (
            np.array(encoding.type_ids, dtype=np.int64) if self._segments else np.zeros_like(ids)
        )
        return Encoded(ids=ids, type_ids=type_ids, truncated=truncated)

    def _truncate(self, text: str, pair: str | None, room: int) -> Encoding:
        first = self.tokenize(text)
        if pair is None:
            first.truncate(max(room, 0))
            return self.tokenizer.post_process(first)
        second = self.tokenize(pair)
        keep_first, keep_second = cut_longest_first(len(first), len(second), max(room, 0))
        first.truncate(keep_first)
        second.truncate(keep_second)
        return self.tokenizer.post_process(first, second)

    def _check_not_empty(self, text: str, pair: str | None) -> None:
        for part in (text, pair):
            if part is not None and not len(self.tokenize(part)):
                raise EmptyInput(
                    "the text is empty; leave it out, or send at least one word"
                    if not part.strip()
                    else "the text has no tokens the model knows of; send at least one word"
                )


def cut_longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text of a pair stay, so that together they fill the room.

    The rule of the tokenizers library's `longest_first`: only the longer text is cut while it
    stays the longer one, else both share the room, the longer text taking an odd token.
    """
    if first + second <= room:
        return first, second
    shorter, longer = min(first, second), max(first, second)
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter = room // 2
        longer = room - shorter
    return (longer, shorter) if first > second else (shorter, longer)
