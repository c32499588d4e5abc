"""Token ids, lengths and truncation are transformers' own, for texts and pairs of any length."""

import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import EmptyInput, InputTooLong, InvalidToken, InvalidValue
from models.text.encoder import Encoder
from tests.helpers.checkpoints import FAMILIES, WORDS, make_tokenizer
from tests.helpers.oracle import write_contexts, write_pairs, write_text, write_texts

MAX_TOKENS = 24


class Both:
    """Our encoder and the tokenizer in transformers that it is read from."""

    def __init__(self, family: str, folder: Path, max_tokens: int = MAX_TOKENS) -> None:
        self.theirs: Any = make_tokenizer(family)
        # A checkpoint's file often truncates and pads; neither may reach the texts.
        backend = self.theirs.backend_tokenizer
        backend.enable_truncation(5)
        backend.enable_padding(length=40)
        file = folder / "tokenizer.json"
        backend.save(str(file))
        self.theirs = make_tokenizer(family)
        segments = "token_type_ids" in self.theirs.model_input_names
        self.ours = Encoder(
            file,
            max_tokens=max_tokens,
            vocabulary_size=len(self.theirs),
            segments=segments,
        )

    def check(self, first: str, second: str | None = None) -> None:
        for side in ("left", "right"):
            self.check_side(side, first, second)

    def check_side(self, side: Any, first: str, second: str | None) -> None:
        self.theirs.truncation_side = side
        wanted = self.theirs(
            first, second, truncation="longest_first", max_length=self.ours.max_tokens
        )
        whole = self.theirs(first, second)
        found = self.ours.encode(first, second, overflow="truncate", side=side)
        assert found.ids.tolist() == wanted["input_ids"], (first, second)
        types = wanted.get("token_type_ids", [0] * len(found.ids))
        assert found.type_ids.tolist() == types
        assert found.truncated == (len(whole["input_ids"]) > self.ours.max_tokens)
        assert found.ids.dtype == found.type_ids.dtype == np.int64


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(request.param, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Both("bert", tmp_path_factory.mktemp("tokenizer")).ours


def test_texts_equal_transformers(both: Both) -> None:
    for text in write_texts(60, longest=40):
        both.check(text)


def test_pairs_equal_transformers(both: Both) -> None:
    for first, second in write_pairs(150, longest=30):
        both.check(first, second)


def test_pairs_of_every_length_equal_transformers(both: Both) -> None:
    source = random.Random(2)
    words = [word for word in WORDS if both.theirs.tokenize(f"a {word}")[-1].endswith(word)]
    for first in range(1, 30, 3):
        for second in range(1, 30):
            texts = [" ".join(source.choices(words, k=length)) for length in (first, second)]
            both.check(texts[0], texts[1])


def test_too_long_is_an_error_unless_asked_otherwise(bert: Encoder) -> None:
    fits = " ".join(["king"] * (MAX_TOKENS - 2))
    assert len(bert.encode(fits, overflow="error").ids) == MAX_TOKENS
    assert not bert.encode(fits, overflow="truncate").truncated
    with pytest.raises(
        InputTooLong, match="25 tokens, and this model's maximum context length is 24 tokens;"
    ):
        bert.encode(fits + " king", overflow="error")
    with pytest.raises(InputTooLong, match="26 tokens"):
        bert.encode(fits, "king", overflow="error")
    cut = bert.encode(fits + " king queen", overflow="truncate")
    assert cut.truncated
    assert len(cut.ids) == MAX_TOKENS


def test_token_ids_are_taken_as_given(bert: Encoder) -> None:
    encoded = bert.encode_ids([7, 7, 0, 335], overflow="error")
    assert encoded.ids.tolist() == [7, 7, 0, 335]
    assert encoded.type_ids.tolist() == [0, 0, 0, 0]
    assert not encoded.truncated
    assert len(bert.encode_ids([9] * MAX_TOKENS, overflow="error").ids) == MAX_TOKENS
    with pytest.raises(InputTooLong, match="25 tokens"):
        bert.encode_ids([9] * (MAX_TOKENS + 1), overflow="error")
    cut = bert.encode_ids(range(5, 40), overflow="truncate")
    assert cut.truncated
    assert cut.ids.tolist() == list(range(5, 5 + MAX_TOKENS))


@pytest.mark.parametrize("wrong", [-1, 400, 2**63, 10**30])
def test_unknown_token_ids_are_refused(bert: Encoder, wrong: int) -> None:
    for overflow in ("error", "truncate"):
        with pytest.raises(InvalidToken, match=f"token id {wrong} at place 1 "):
            bert.encode_ids([5, wrong], overflow=overflow)


def test_the_last_token_of_the_vocabulary_is_known(bert: Encoder) -> None:
    size = bert.vocabulary_size
    assert bert.encode_ids([size - 1], overflow="error").ids.tolist() == [size - 1]
    with pytest.raises(InvalidToken):
        bert.encode_ids([size], overflow="error")


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\x00", "\u200b"])
def test_texts_without_tokens_are_refused(bert: Encoder, text: str) -> None:
    for overflow in ("error", "truncate"):
        with pytest.raises(EmptyInput):
            bert.encode(text, overflow=overflow)
        with pytest.raises(EmptyInput):
            bert.encode("a", text, overflow=overflow)
        with pytest.raises(EmptyInput):
            bert.encode(text, "a", overflow=overflow)
        with pytest.raises(EmptyInput):
            bert.encode(text, "king " * 50, overflow="truncate")
    with pytest.raises(EmptyInput):
        bert.encode_ids([], overflow="error")


def test_empty_text_is_refused_by_every_family(both: Both) -> None:
    with pytest.raises(EmptyInput):
        both.ours.encode("", overflow="error")
    with pytest.raises(EmptyInput):
        both.ours.encode("a", "", overflow="error")


def test_half_a_surrogate_pair_is_the_callers_error(bert: Encoder) -> None:
    for first, second in (("\ud800", None), ("a", "b\udfff"), ("\ud83d x", "b")):
        with pytest.raises(InvalidValue, match="not valid Unicode"):
            bert.encode(first, second, overflow="truncate")
    assert len(bert.encode("\U0001f600", overflow="error").ids) == 3


def test_threads_do_not_disturb_each_other(both: Both) -> None:
    texts = write_texts(40, longest=40, seed=3)
    wanted = [both.ours.encode(text, overflow="truncate").ids.tolist() for text in texts]
    found: dict[int, list[list[int]]] = {}

    def encode(number: int) -> None:
        found[number] = [both.ours.encode(text, overflow="truncate").ids.tolist() for text in texts]

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [wanted] * 4


def test_large_texts_are_encoded_like_small_ones(both: Both) -> None:
    large = write_text(random.Random(5), 1_700)
    assert len(large) > 8_000
    both.check(large)
    both.check("the", large)
    both.check(large, large)
    half = f"{large}\ud800"
    for pair in ((half, None), ("the", half), (half, "the")):
        with pytest.raises(InvalidValue, match="surrogate"):
            both.ours.encode(*pair, overflow="truncate")


def test_others_go_on_while_a_large_text_is_tokenized(bert: Encoder) -> None:
    begun = threading.Event()

    def tokenize() -> None:
        begun.set()
        bert.tokenize("the fox " * 200_000)

    thread = threading.Thread(target=tokenize)
    first = last = time.perf_counter()
    thread.start()
    begun.wait()
    longest = 0.0
    while thread.is_alive():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    # However long it takes: while the interpreter is held, that is almost one wait.
    assert longest < (last - first) / 2


def test_a_room_too_small_for_any_text_keeps_the_special_tokens(tmp_path: Path) -> None:
    both = Both("bert", tmp_path, max_tokens=2)
    found = both.ours.encode(write_text(random.Random(0), 5), overflow="truncate")
    assert found.ids.tolist() == [2, 3]


def test_origins_are_those_of_the_tokenizer(both: Both) -> None:
    """Also of what is left of a text or a pair that was cut."""
    items = [(text, None) for text in write_contexts(12, longest=12, seed=71)]
    items += [(first, second) for first, second in write_pairs(12, longest=20, seed=72)]
    for first, second in items:
        wanted = both.theirs(
            first,
            second,
            truncation="longest_first",
            max_length=both.ours.max_tokens,
            return_offsets_mapping=True,
        )
        found = both.ours.encode(first, second, overflow="truncate", origins=True)
        assert found.origins is not None
        assert found.ids.tolist() == wanted["input_ids"]
        assert [tuple(pair) for pair in found.origins.offsets.tolist()] == wanted["offset_mapping"]
        for mine, theirs in (
            (found.origins.texts, wanted.sequence_ids()),
            (found.origins.words, wanted.word_ids()),
        ):
            assert mine.tolist() == [-1 if one is None else one for one in theirs]
        assert both.ours.encode(first, second, overflow="truncate").origins is None


@pytest.mark.parametrize("side", ["right", "left"])
def test_where_texts_were_cut(both: Both, side: Any) -> None:
    """What stays ends, or begins, at the characters that are told, and nothing else is told."""
    items: list[tuple[str, str | None]] = [
        (text, None) for text in write_contexts(20, longest=40, seed=73)
    ]
    items += write_pairs(40, longest=25, seed=74)
    items += [(write_text(random.Random(6), 4_000), write_text(random.Random(7), 5))]
    for item in items:
        found = both.ours.encode(*item, overflow="truncate", side=side, origins=True)
        whole = both.ours.tokenize(*item, special=True).sequence_ids
        assert found.origins is not None
        told = found.truncated_at
        for text, at in enumerate(told if isinstance(told, tuple) else (told,)):
            places = found.origins.places(text)
            assert (at is not None) == (len(places) < whole.count(text))
            if at is not None:
                offsets = found.origins.offsets[places]
                assert at == (offsets[-1, 1] if side == "right" else offsets[0, 0])


def test_where_a_text_of_which_nothing_stays_was_cut(tmp_path: Path) -> None:
    encoder = Both("bert", tmp_path, max_tokens=2).ours
    for side, end in (("right", 0), ("left", 10)):
        found = encoder.encode("king queen", overflow="truncate", side=side)  # type: ignore[arg-type]
        assert found.truncated_at == end
    encoder.max_tokens = 4
    found = encoder.encode("king queen", "the", overflow="truncate")
    assert found.truncated_at == (4, 0)


def test_the_side_that_a_checkpoint_asks_for(tmp_path: Path) -> None:
    both = Both("bert", tmp_path)
    left = Encoder(
        tmp_path / "tokenizer.json",
        max_tokens=MAX_TOKENS,
        vocabulary_size=len(both.theirs),
        segments=True,
        truncation_side="left",
    )
    text = write_text(random.Random(0), 60)
    for side, wanted in ((None, "left"), ("left", "left"), ("right", "right")):
        found = left.encode(text, overflow="truncate", side=side)  # type: ignore[arg-type]
        same = both.ours.encode(text, overflow="truncate", side=wanted)  # type: ignore[arg-type]
        assert found.ids.tolist() == same.ids.tolist()
    assert left.encode_ids(range(30), overflow="truncate").ids.tolist() == list(range(6, 30))
    windows = left.encode_windows(text, "the king", window_tokens=10, overflow="truncate")
    kept = windows[0].origins
    assert kept is not None
    assert windows[0].truncated_at == (int(kept.offsets[kept.places(0)[0], 0]), None)
    assert text[windows[0].truncated_at[0] :].count(" ") == 2


def test_windows_cover_the_second_text(both: Both) -> None:
    first, second = write_text(random.Random(3), 1), write_text(random.Random(4), 60)
    for window_tokens in (20, both.ours.max_tokens):
        for overlap in (None, 0, 2):
            windows = both.ours.encode_windows(
                first,
                second,
                window_tokens=window_tokens,
                overlap_tokens=overlap,
                overflow="error",
            )
            assert all(len(window.ids) <= window_tokens for window in windows)
            assert all(len(window.ids) == window_tokens for window in windows[:-1])
            seen = 0
            for window in windows:
                assert window.origins is not None
                asked = window.origins.places(0)
                assert [tuple(pair) for pair in window.origins.offsets[asked].tolist()][-1][
                    1
                ] == len(first)
                part = window.origins.offsets[window.origins.places(1)]
                assert part[0, 0] <= seen + 1
                assert part[-1, 1] > seen
                seen = int(part[-1, 1])
            assert seen == len(second)


def test_windows_too_small_for_anything(both: Both) -> None:
    special = both.theirs.num_special_tokens_to_add(pair=True)
    for overflow in ("error", "truncate"):
        with pytest.raises(InputTooLong):
            both.ours.encode_windows(
                "king",
                "queen",
                window_tokens=special + 1,
                overflow=overflow,  # type: ignore[arg-type]
            )
    windows = both.ours.encode_windows(
        "king queen", "queen", window_tokens=special + 2, overflow="truncate"
    )
    assert [len(window.ids) for window in windows] == [special + 2] * len(windows)
    assert all(window.truncated for window in windows)
