"""Token ids that a caller sends: whether the model's own tokenizer could have made them.

Owns the special tokens with which a tokenizer begins and ends each text, and cuts between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from models.errors import EmptyInput, ForeignTokens, InvalidToken
from models.text.encoded import Encoded
from models.text.truncation import Side, refuse_length

# One of these has a token, whatever a normalizer takes away.
_SAMPLES = ("a", "1", ".", "あ")


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens that stand before and after every text; of some tokenizers none."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    named: str = ""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Frame":
        """Those of a tokenizer, as it puts them around a text."""
        for sample in _SAMPLES:
            found = tokenizer.encode(sample)
            inside = [place for place, text in enumerate(found.sequence_ids) if text is not None]
            if inside:
                first, last = inside[0], inside[-1] + 1
                before, after = tuple(found.ids[:first]), tuple(found.ids[last:])
                begin, end = (
                    " ".join(f"{token} ({number})" for token, number in zip(*part, strict=True))
                    for part in ((found.tokens[:first], before), (found.tokens[last:], after))
                )
                ways = ((f"begins with {begin}", before), (f"ends with {end}", after))
                return cls(before, after, " and ".join(way for way, part in ways if part))
        return cls()

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether ids begin and end as a text does."""
        first, last = len(self.before), len(self.after)
        return (
            len(ids) >= first + last
            and tuple(ids[:first]) == self.before
            and tuple(ids[len(ids) - last :]) == self.after
        )


def encode_ids(
    ids: Sequence[int],
    frame: Frame,
    *,
    special: bool | None,
    vocabulary_size: int,
    max_tokens: int,
    side: Side | None,
) -> Encoded:
    """Ids as the trunk takes them, at most `max_tokens` of them.

    With `special` they have to be framed, and are taken as given; without it they are put between
    the special tokens; with None they are taken as given, whatever they are. What does not fit is
    cut at their end, or at their beginning with side `left`, and never of the frame; without a side
    that raises InputTooLong. Raises EmptyInput; ForeignTokens; InvalidToken for unknown ids.
    """
    if not ids:
        raise EmptyInput("the list of token ids is empty; send at least one")
    if special and not frame.holds(ids):
        raise _refuse_foreign(frame)
    for place, token in enumerate(ids):
        if not 0 <= token < vocabulary_size:
            raise InvalidToken(
                f"token id {token} at place {place} is outside the model's vocabulary of "
                f"{vocabulary_size}; send text, or ids from this model's own tokenizer"
            )
    if special is False and frame.named and frame.holds(ids):
        raise ForeignTokens(
            f"it {frame.named} already, and special_tokens false puts these around it; leave "
            "that out, or send the ids of the text alone"
        )
    if special is None:
        frame = Frame()
    ahead = len(frame.before) if special else 0
    inside = ids[ahead : len(ids) - len(frame.after)] if special else ids
    at, kept = None, np.array(inside, dtype=np.int64)
    framed = len(frame.before) + len(frame.after)
    room = max(max_tokens - framed, 0)
    if len(kept) > room:
        if side is None:
            raise refuse_length("input", len(kept) + framed, max_tokens)
        at = len(kept) - room if side == "left" else room
        kept = kept[at:] if side == "left" else kept[:at]
        at += ahead
    if framed:
        kept = np.concatenate([np.array(frame.before, np.int64), kept, frame.after]).astype(
            np.int64
        )
    return Encoded(ids=kept, type_ids=np.zeros_like(kept), truncated_at=at)


def _refuse_foreign(frame: Frame) -> ForeignTokens:
    return ForeignTokens(
        "these token ids are not as this model's tokenizer gives them, which "
        f"{frame.named}: another model's tokenizer may have made them. Send the text itself (with "
        "LangChain's OpenAIEmbeddings: check_embedding_ctx_length=False), or this model's own ids "
        'with their special tokens; "special_tokens": false says that they are its own without '
        "these, and adds them"
    )
