"""What of a text that is too long stays: the arithmetic of cutting and of windows.

Owns how many tokens and which windows. Knows no tokenizer, and counts special tokens nowhere.
"""

from typing import Literal

from models.errors import InputTooLong, InvalidValue

# What is done with more tokens than the model takes.
Overflow = Literal["error", "truncate"]
# Where a text loses the tokens that do not fit: at its end, or at its beginning.
Side = Literal["right", "left"]
# The remedy for a text that is too long, in words for a request and for who asks from Python.
CUT_IT = 'have it cut: overflow "truncate"'
# Of one pair: a long question leaves small windows, and these add up.
MAX_WINDOWS = 1024
# What transformers 4 takes for question answering: windows overlap by so many tokens.
_OVERLAP_TOKENS = 128
# A question that has to be cut keeps so many tokens where the window has room for them.
_QUESTION_TOKENS = 64


def refuse_length(what: str, tokens: int | str, max_tokens: int) -> InputTooLong:
    """The error of a text with more tokens than fit, in the words by which gateways know it."""
    return InputTooLong(
        f"the {what} has {tokens} tokens, and this model's maximum context length is {max_tokens} "
        f"tokens; shorten it, or {CUT_IT}"
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


def is_settled(read: tuple[int, int], whole: tuple[bool, bool], room: int) -> bool:
    """Whether so many tokens of both texts of a pair are enough to know how it is cut.

    Of a text that has not been read whole there may be any number more.
    """
    endless = sum(read) + room + 1
    firsts, seconds = (
        (count,) if known else (count, endless + place)
        for place, (count, known) in enumerate(zip(read, whole, strict=True))
    )
    # More or fewer tokens change what stays only by which text is the longer one.
    found = {cut_longest_first(first, second, room) for first in firsts for second in seconds}
    first, second = found.pop()
    return not found and first <= read[0] and second <= read[1] and sum(read) > room


def cut_question(
    tokens: int, space: int, overflow: Overflow, window_tokens: int, *, more: bool = False
) -> int:
    """How many tokens of a question stay, so that a window has room for one of its context.

    `space` is for both, of the `window_tokens` that a window has with its special ones; there may
    be `more` tokens. Raises InputTooLong where it would have to be cut with overflow `error`, or
    cannot be.
    """
    if tokens < space:
        return tokens
    if overflow == "error" or space < 2:
        raise InputTooLong(
            f"the question has {'more than ' * more}{tokens} tokens, and this model's maximum "
            f"context length is {window_tokens} tokens, of which a question and its context have "
            f"{space}; shorten it, or {CUT_IT}"
        )
    return min(_QUESTION_TOKENS, space // 2)


def place_windows(
    tokens: int,
    room: int,
    *,
    window_tokens: int,
    overlap_tokens: int | None,
    overflow: Overflow,
    more: bool = False,
    pair: bool = True,
) -> tuple[range, bool]:
    """Where the windows of a context begin, `room` tokens each, and whether some are left out.

    A window of `window_tokens` holds more than its room: special tokens, and of a pair the
    question. There may be `more` tokens than were counted, as many windows as these take. Raises
    InvalidValue for an overlap as long as the room; with overflow `error` InputTooLong where there
    were more than `MAX_WINDOWS`, which else are those that are left out.
    """
    starts = range(1)
    if tokens > room:
        step = room - _choose_overlap(window_tokens, room, overlap_tokens, pair=pair)
        starts = range(0, tokens - room + step, step)
    if len(starts) > MAX_WINDOWS and overflow == "error":
        raise InputTooLong(
            f"the {'context' if pair else 'text'} has {'more than ' * more}{tokens} tokens and "
            f"takes {'more than ' * more}{len(starts)} windows of {room}, at most {MAX_WINDOWS} "
            "are read; shorten it"
            f"{' or the question' if pair else ', let its windows overlap less'}, or {CUT_IT}"
        )
    return starts[:MAX_WINDOWS], len(starts) > MAX_WINDOWS


def _choose_overlap(window_tokens: int, room: int, wanted: int | None, *, pair: bool) -> int:
    if wanted is None:
        usual = min(_OVERLAP_TOKENS, window_tokens // 2)
        return usual if usual < room else room // 2
    if wanted >= room:
        raise InvalidValue(
            f"an overlap of {wanted} tokens is not less than the {room} that "
            + (
                "the question leaves a window of its context; ask for less, or shorten the question"
                if pair
                else "a window has for the text; ask for less"
            )
        )
    return wanted
