"""What stays fills the room, by the rules of the tokenizers library."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.errors import InputTooLong, InvalidValue
from models.text.truncation import MAX_WINDOWS, cut_longest_first, cut_question, place_windows
from tests.helpers.checkpoints import make_tokenizer


@given(st.integers(0, 80), st.integers(0, 80), st.integers(0, 100))
def test_cut_fills_the_room(first: int, second: int, room: int) -> None:
    kept = cut_longest_first(first, second, room)
    assert 0 <= kept[0] <= first
    assert 0 <= kept[1] <= second
    assert sum(kept) == min(first + second, room)
    # Only the longer one is cut while it is the longer one.
    if kept != (first, second):
        shorter = 0 if first <= second else 1
        assert kept[shorter] == (first, second)[shorter] or abs(kept[0] - kept[1]) <= 1


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_cut_is_the_library_s_own(tmp_path: Path, family: str) -> None:
    tokenizer: Tokenizer = make_tokenizer(family).backend_tokenizer
    special = tokenizer.num_special_tokens_to_add(is_pair=True)
    for room in range(1, 14):
        tokenizer.enable_truncation(room + special, strategy="longest_first")
        for first in range(1, 16):
            for second in range(1, 16):
                encoded = tokenizer.encode(" the" * first, " the" * second)
                sides = encoded.sequence_ids
                wanted = (sides.count(0), sides.count(1))
                assert cut_longest_first(first, second, room) == wanted, (first, second, room)


def test_a_question_stays_whole_while_its_context_has_room() -> None:
    assert cut_question(9, 10, "error", 13) == 9
    for overflow in ("error", "truncate"):
        with pytest.raises(InputTooLong, match="of which a question and its context have 1"):
            cut_question(1, 1, overflow, 4)  # type: ignore[arg-type]
    with pytest.raises(
        InputTooLong,
        match="10 tokens, and this model's maximum context length is 13",
    ):
        cut_question(10, 10, "error", 13)
    assert cut_question(10, 10, "truncate", 13) == 5
    assert cut_question(500, 381, "truncate", 384) == 64


@given(st.integers(0, 3000), st.integers(1, 300), st.one_of(st.none(), st.integers(0, 299)))
def test_windows_leave_no_token_out(tokens: int, room: int, overlap: int | None) -> None:
    if overlap is not None and overlap >= room:
        overlap = room - 1
    starts, left_out = place_windows(
        tokens, room, window_tokens=room + 10, overlap_tokens=overlap, overflow="truncate"
    )
    assert len(starts) <= MAX_WINDOWS
    assert starts[0] == 0
    assert all(after <= start + room for start, after in itertools.pairwise(starts))
    if overlap is not None:
        assert all(after == start + room - overlap for start, after in itertools.pairwise(starts))
    if left_out:
        assert len(starts) == MAX_WINDOWS
    else:
        assert starts[-1] + room >= tokens
        # The last window is needed, too.
        assert len(starts) == 1 or starts[-2] + room < tokens


def test_more_windows_than_are_read() -> None:
    asked = {"window_tokens": 12, "overlap_tokens": 0}
    starts, left_out = place_windows(MAX_WINDOWS * 9, 9, overflow="error", **asked)  # type: ignore[arg-type]
    assert (len(starts), left_out) == (MAX_WINDOWS, False)
    with pytest.raises(InputTooLong, match=f"takes {MAX_WINDOWS + 1} windows of 9"):
        place_windows(MAX_WINDOWS * 9 + 1, 9, overflow="error", **asked)  # type: ignore[arg-type]
    starts, left_out = place_windows(MAX_WINDOWS * 9 + 1, 9, overflow="truncate", **asked)  # type: ignore[arg-type]
    assert (len(starts), left_out) == (MAX_WINDOWS, True)


def test_an_overlap_as_long_as_the_room_is_refused_where_there_are_windows() -> None:
    with pytest.raises(InvalidValue, match="an overlap of 9 tokens is not less than the 9"):
        place_windows(10, 9, window_tokens=12, overlap_tokens=9, overflow="truncate")
    starts, _ = place_windows(9, 9, window_tokens=12, overlap_tokens=9, overflow="error")
    assert list(starts) == [0]
